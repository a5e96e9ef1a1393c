//! Lines of the log on their way to whoever reads it: nothing else waits for
//! that, be it a terminal that stands still or a pipe that nobody empties.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Octets that may wait: more than the counters of thousands of destinations.
const MOST: usize = 4 << 20;

/// Octets for which a reader that can take any has room (`PIPE_BUF`).
const AT_ONCE: usize = 4096;

/// Writes lines to stderr at once where that is sure not to wait, so that they
/// are there whatever comes; else they wait for a thread of its own. Own code,
/// for `tracing-appender` cannot be flushed but by ending it, and a process that
/// executes another program may have to go on.
pub(super) struct Backlog {
    entries: Sender<Entry>,
    count: Arc<Count>,
}

enum Entry {
    Text(Vec<u8>),
    /// To be dropped, once all before it has been written.
    Flush(SyncSender<()>),
}

#[derive(Default)]
struct Count {
    /// Octets that wait.
    waiting: AtomicUsize,
    /// Lines that found no room, and that has not been said yet.
    dropped: AtomicUsize,
}

impl Backlog {
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start() -> io::Result<Arc<Self>> {
        let (entries, taken) = mpsc::channel();
        let count = Arc::new(Count::default());
        let written = Arc::clone(&count);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write(&taken, &written))?;
        Ok(Arc::new(Self { entries, count }))
    }

    /// Waits until all that is there has been written, but no longer than
    /// `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let (flushed, waiting) = mpsc::sync_channel(0);
        // The thread ends with the process alone.
        let _ = self.entries.send(Entry::Flush(flushed));
        let _ = waiting.recv_timeout(limit);
    }
}

/// Whether whoever reads stderr can take something now.
fn is_ready() -> bool {
    let stderr = io::stderr();
    let mut ready = [PollFd::new(&stderr, PollFlags::OUT)];
    poll(&mut ready, Some(&Timespec::default())) == Ok(1)
}

fn write(taken: &Receiver<Entry>, count: &Count) {
    for entry in taken {
        let text = match entry {
            Entry::Text(text) => text,
            Entry::Flush(flushed) => {
                drop(flushed);
                continue;
            }
        };
        // There is nobody who could be told.
        let _ = io::stderr().write_all(&text);
        count.waiting.fetch_sub(text.len(), Ordering::Relaxed);
        let dropped = count.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!("{dropped} lines of the log are lost: nobody read it for too long");
        }
    }
}

impl Write for &Backlog {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let before = self.count.waiting.fetch_add(text.len(), Ordering::Relaxed);
        if before == 0 && text.len() <= AT_ONCE && is_ready() {
            // There is nobody who could be told.
            let _ = io::stderr().write_all(text);
            self.count.waiting.fetch_sub(text.len(), Ordering::Relaxed);
        } else if before + text.len() <= MOST {
            let _ = self.entries.send(Entry::Text(text.to_vec()));
        } else {
            self.count.waiting.fetch_sub(text.len(), Ordering::Relaxed);
            self.count.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
