//! The signals that an operator sends.

use std::io;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::{Handle, Signals};

use crate::control::Order;
use crate::net::{block_signals, unblock_signals};

/// All that are heard.
const HEARD: [i32; 5] = [SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2];

/// Keeps signals from this thread and all that it starts, so that they wait
/// in the kernel until they are heard: no default action ends the
/// process before there is one, or between two programs. To be called before
/// any other thread is started.
///
/// SIGXFSZ is never heard: what a file has no room for by its limit
/// (RLIMIT_FSIZE) is then a write that fails, as on a full disk.
///
/// # Errors
/// As of [`block_signals`].
pub fn hold_signals() -> io::Result<()> {
    block_signals(&HEARD)?;
    block_signals(&[SIGXFSZ])
}

/// A thread that waits for signals, for only a channel can be waited for in
/// time.
pub(super) struct Ear {
    handle: Handle,
    thread: JoinHandle<()>,
}

impl Ear {
    /// Sends each signal as an order from now on.
    ///
    /// # Errors
    /// As of `sigaction` and starting a thread.
    pub(super) fn start(orders: Sender<Order>) -> io::Result<Self> {
        let mut signals = Signals::new(HEARD)?;
        let handle = signals.handle();
        let thread = std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                // They are signals, as the handlers have shown.
                let _ = unblock_signals(&HEARD);
                for signal in signals.forever() {
                    // Nobody works through them any more at the end.
                    let _ = orders.send(Order::Signal(signal));
                }
                let _ = block_signals(&HEARD);
                for signal in signals.pending() {
                    let _ = orders.send(Order::Signal(signal));
                }
            })?;
        Ok(Self { handle, thread })
    }

    /// Hears no more: what has been heard is on the channel, what comes waits
    /// in the kernel.
    pub(super) fn close(self) {
        self.handle.close();
        // A panic has been told.
        let _ = self.thread.join();
    }
}
