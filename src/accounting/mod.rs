//! One line of JSON for each finished transaction.
//!
//! A worker copies what a line is made of into a bounded queue and goes on; a
//! thread of its own makes the lines and writes them. While nothing takes
//! them they wait in the queue, and what finds that full is dropped and
//! counted. docs/accounting.md describes the lines.

mod line;
mod record;
mod target;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config::Accounting;
use crate::queue::{self, Queue};
use crate::transaction::Finished;

use record::Record;
use target::Target;

/// How often the thread looks for records. To wake it would cost a worker a
/// system call for each.
const LOOK: Duration = Duration::from_millis(50);
/// How soon a target that failed is tried again, and how soon at the end.
const RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_millis(100);
/// Octets of lines that are made at once, but for the last line.
const CHUNK: usize = 64 << 10;
/// How long the end waits for the last lines to be taken.
const FAREWELL: Duration = Duration::from_secs(3);

/// The writer of the lines. Dropped, it writes what waits, and ends; what cannot
/// be within three seconds is lost.
pub struct Ledger {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// A worker's way to the writer.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

/// What has become of records so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = AccountingCounts)]
pub struct Counts {
    /// Lines that the target has taken.
    pub written: u64,
    /// Records that are lost: the queue was full, or the end came first.
    pub dropped: u64,
}

struct Shared {
    methods: Vec<String>,
    queue: Queue<Record>,
    /// Lines that are made of records and not taken yet.
    lines: AtomicUsize,
    written: AtomicU64,
    dropped: AtomicU64,
    /// Whether somebody waits for all to be written.
    flush: AtomicBool,
    stop: AtomicBool,
}

impl Ledger {
    /// Starts the writer. `now` is the clock of [`Finished`].
    ///
    /// # Errors
    /// The file cannot be opened, or no thread started. A socket that nobody
    /// listens on yet is none.
    pub fn start(
        accounting: &Accounting,
        now: impl Fn() -> u64 + Send + 'static,
    ) -> io::Result<Self> {
        let target = Target::open(accounting.target.clone())?;
        let shared = Arc::new(Shared {
            methods: accounting.methods.clone(),
            queue: Queue::default(),
            lines: AtomicUsize::new(0),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            flush: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            target,
            now,
            lines: Vec::new(),
            failing: false,
        };
        let thread = std::thread::Builder::new()
            .name("accounting".to_owned())
            .spawn(move || writer.run())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The way to the writer, for a worker.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Has what waits written, unless the target takes nothing; waits no longer
    /// than `limit` for it.
    pub fn flush(&self, limit: Duration) {
        let Some(thread) = &self.thread else {
            return;
        };
        self.shared.flush.store(true, Ordering::Release);
        thread.thread().unpark();
        let end = Instant::now() + limit;
        while self.shared.flush.load(Ordering::Acquire) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.shared.stop.store(true, Ordering::Release);
        // One that hangs ends with the process.
        let _ = queue::end(thread, FAREWELL);
        self.shared.lose(self.shared.waiting());
    }
}

impl Handle {
    /// What has become of records so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            written: self.0.written.load(Ordering::Relaxed),
            dropped: self.0.dropped.load(Ordering::Relaxed),
        }
    }

    /// Records that wait to be written.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.0.waiting() as u64
    }

    /// Has a line written of what finished, where it is of a method that is
    /// accounted. Never waits; false where the line is lost, which is counted.
    pub fn record(&self, finished: &Finished<'_>) -> bool {
        let shared = &*self.0;
        if !shared.is_accounted(finished.method) {
            return true;
        }
        let head = record::head(finished.response);
        let parts = [finished.request_uri, finished.from, finished.to, head];
        let octets = parts.map(<[u8]>::len).iter().sum();
        let is_in = shared.queue.push(octets, || Record::new(finished, head));
        if !is_in {
            shared.lose(1);
        }
        is_in
    }
}

impl Shared {
    fn is_accounted(&self, method: &[u8]) -> bool {
        let mut methods = self.methods.iter();
        self.methods.is_empty() || methods.any(|accounted| accounted.as_bytes() == method)
    }

    fn waiting(&self) -> usize {
        self.queue.waiting() + self.lines.load(Ordering::Relaxed)
    }

    fn lose(&self, records: usize) {
        self.dropped.fetch_add(records as u64, Ordering::Relaxed);
    }
}

/// What the thread works with.
struct Writer<Now> {
    shared: Arc<Shared>,
    target: Target,
    now: Now,
    /// Lines that the target has not taken yet.
    lines: Vec<u8>,
    /// Whether the operator knows that the target takes none.
    failing: bool,
}

impl<Now: Fn() -> u64> Writer<Now> {
    fn run(mut self) {
        let mut stopped = None;
        loop {
            // Read first, for what was recorded before a stop is written.
            let is_last = self.shared.stop.load(Ordering::Acquire);
            let is_flushed = self.shared.flush.load(Ordering::Acquire);
            let result = self.write();
            self.tell(result.err());
            if is_flushed {
                self.shared.flush.store(false, Ordering::Release);
            }
            if is_last {
                let stopped = stopped.get_or_insert_with(Instant::now);
                // It ends before its end is waited for no longer.
                if !self.failing || stopped.elapsed() + 3 * LAST_RETRY > FAREWELL {
                    return;
                }
            }
            std::thread::park_timeout(match self.failing {
                true if is_last => LAST_RETRY,
                true => RETRY,
                false => LOOK,
            });
        }
    }

    /// Writes all that waits.
    fn write(&mut self) -> io::Result<()> {
        loop {
            if self.lines.is_empty() {
                self.fill();
            }
            if self.lines.is_empty() {
                return Ok(());
            }
            let taken = self.target.write(&mut self.lines)?;
            let written = &self.shared.written;
            written.fetch_add(taken.written as u64, Ordering::Relaxed);
            self.shared.lose(taken.refused);
            let lines = &self.shared.lines;
            lines.fetch_sub(taken.written + taken.refused, Ordering::Relaxed);
        }
    }

    /// Makes lines of some records.
    fn fill(&mut self) {
        let (utc, now) = (SystemTime::now(), (self.now)());
        while self.lines.len() < CHUNK
            && let Some(record) = self.shared.queue.pop()
        {
            let age = Duration::from_millis(now.saturating_sub(record.received));
            if line::write(&record, (utc - age).max(UNIX_EPOCH), &mut self.lines) {
                self.shared.lines.fetch_add(1, Ordering::Relaxed);
            } else {
                self.shared.lose(1);
            }
        }
    }

    /// Tells the operator when an outage begins and when it ends.
    fn tell(&mut self, error: Option<io::Error>) {
        let is_news = self.failing != error.is_some();
        self.failing = error.is_some();
        if !is_news {
            return;
        }
        let target = &self.target.target;
        let lost = self.shared.dropped.load(Ordering::Relaxed);
        match error {
            Some(error) => tracing::error!(
                "accounting: {target} takes no lines: {error}\n  help: {}; up to {} lines wait, more are lost and counted",
                self.target.help(),
                queue::MOST
            ),
            None => {
                tracing::warn!("accounting: {target} takes lines again, {lost} were lost so far")
            }
        }
    }
}
