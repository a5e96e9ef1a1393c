//! Lines of the log on their way to whoever reads it: nothing else waits for
//! that, be it a terminal that stands still or a pipe that nobody empties.

use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};

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
    out: Arc<Out>,
    /// Whether anything is written at once.
    at_once: bool,
}

enum Entry {
    /// A line, or none where one that has been begun is to be ended.
    Text(Vec<u8>),
    /// To be dropped, once all before it has been written.
    Flush(SyncSender<()>),
}

/// The way to stderr.
#[derive(Default)]
struct Out {
    /// Octets that wait.
    waiting: AtomicUsize,
    /// Lines that found no room or could not be written, and that has not been
    /// said yet.
    dropped: AtomicUsize,
    /// Held by whoever writes: what is left of a line that has been begun, and goes
    /// before all others.
    rest: Mutex<Vec<u8>>,
}

impl Backlog {
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start() -> io::Result<Arc<Self>> {
        let (entries, taken) = mpsc::channel();
        let out = Arc::new(Out::default());
        let own = Arc::clone(&out);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || own.write(&taken))?;
        Ok(Arc::new(Self {
            entries,
            out,
            at_once: tells_room(),
        }))
    }

    /// Waits until all that is there has been written, but no longer than
    /// `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let (flushed, waiting) = mpsc::sync_channel(0);
        // The thread ends with the process alone.
        let _ = self.entries.send(Entry::Flush(flushed));
        let _ = waiting.recv_timeout(limit);
    }

    /// Has the thread write it.
    fn hand_over(&self, text: &[u8]) {
        let before = self.out.waiting.fetch_add(text.len(), Ordering::Relaxed);
        if before + text.len() <= MOST {
            let _ = self.entries.send(Entry::Text(text.to_vec()));
        } else {
            self.out.waiting.fetch_sub(text.len(), Ordering::Relaxed);
            self.out.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether stderr is ready only where [`AT_ONCE`] find room. A terminal is with
/// 256 octets left.
fn tells_room() -> bool {
    fstat(io::stderr()).is_ok_and(|stat| {
        matches!(
            FileType::from_raw_mode(stat.st_mode),
            FileType::Fifo | FileType::RegularFile | FileType::Socket
        )
    })
}

/// Waits until stderr takes something, for no longer than `limit`. Returns
/// whether it does.
fn wait_until_ready(limit: Option<&Timespec>) -> bool {
    let stderr = io::stderr();
    poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], limit) == Ok(1)
}

impl Out {
    /// Writes all that is handed over.
    fn write(&self, taken: &Receiver<Entry>) {
        let mut is_torn = false;
        for entry in taken {
            let text = match entry {
                Entry::Text(text) => text,
                Entry::Flush(flushed) => {
                    drop(flushed);
                    continue;
                }
            };
            let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
            let lines = [(true, mem::take(&mut *rest)), (false, text)];
            let mut are_whole = true;
            for (is_begun, line) in lines.iter().filter(|(_, line)| !line.is_empty()) {
                if is_torn {
                    is_torn = write_one(b"\n") == 0;
                }
                let written = write_one(line);
                self.waiting.fetch_sub(line.len(), Ordering::Relaxed);
                if written < line.len() {
                    is_torn |= *is_begun || written > 0;
                    are_whole = false;
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            drop(rest);
            if !are_whole {
                continue;
            }
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                tracing::warn!(
                    "{dropped} lines of the log are lost: nobody read it for too long, or it \
                     could not be written"
                );
            }
        }
    }
}

/// Writes, and waits for room where there is none. Returns how many octets could
/// be written.
fn write_one(text: &[u8]) -> usize {
    let mut written = 0;
    while written < text.len() {
        match io::stderr().write(&text[written..]) {
            Ok(length @ 1..) => written += length,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Somebody who shares it has it not wait (O_NONBLOCK).
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait_until_ready(None);
            }
            _ => break,
        }
    }
    written
}

impl Write for &Backlog {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let out = &self.out;
        let mut rest = out.rest.try_lock();
        let waits = rest.is_err() || out.waiting.load(Ordering::Relaxed) > 0;
        // Where lines are lost, the thread is to tell that first.
        let is_next = !waits && out.dropped.load(Ordering::Relaxed) == 0;
        let is_sure = self.at_once && text.len() <= AT_ONCE;
        let written = match is_next && is_sure && wait_until_ready(Some(&Timespec::default())) {
            true => io::stderr().write(text).unwrap_or(0),
            false => 0,
        };
        match &mut rest {
            Ok(rest) if (1..text.len()).contains(&written) => {
                **rest = text[written..].to_vec();
                out.waiting.fetch_add(rest.len(), Ordering::Relaxed);
                let _ = self.entries.send(Entry::Text(Vec::new()));
            }
            _ if written == 0 => self.hand_over(text),
            _ => {}
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
