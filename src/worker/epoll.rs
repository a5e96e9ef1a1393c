//! What wakes a worker: epoll, which watches a socket while it has little to do.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::net::Socket;

/// The token of the waker; sockets have their listener's number.
const WAKER: Token = Token(usize::MAX);

/// How long what has come to a socket may wait that epoll does not watch.
const UNWATCHED: Duration = Duration::from_millis(1);

/// The sockets that a worker sleeps for, by listener.
pub(super) struct Epoll {
    poll: Poll,
    events: Events,
    /// Which of them it watches, and whether it has ever refused one.
    watched: Vec<bool>,
    is_refused: bool,
}

impl Epoll {
    /// For so many sockets, none of which is watched yet.
    pub(super) fn new(sockets: usize) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(sockets + 1),
            watched: vec![false; sockets],
            is_refused: false,
        })
    }

    /// What ends a wait from another thread. There is one.
    pub(super) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
    }

    /// Sleeps until a datagram comes, for `patience` at most, and notes where.
    /// Returns whether an error waits at a socket.
    pub(super) fn wait(
        &mut self,
        sockets: &[Socket],
        patience: Option<Duration>,
        ready: &mut [bool],
    ) -> io::Result<bool> {
        self.watch_all(sockets);
        let unwatched = self.watched.contains(&false).then_some(UNWATCHED);
        let patience = patience.into_iter().chain(unwatched).min();
        match self.poll.poll(&mut self.events, patience) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        // The wait was over, or a stop of the process: what has come meanwhile is
        // read before timers go off.
        if self.events.is_empty() {
            ready.fill(true);
        }
        for (ready, watched) in ready.iter_mut().zip(&self.watched) {
            *ready |= !watched;
        }
        let mut disturbed = false;
        for event in self.events.iter().filter(|event| event.token() != WAKER) {
            ready[event.token().0] = true;
            disturbed |= event.is_error();
        }
        Ok(disturbed)
    }

    /// Watches every socket; one that is not empty raises an event. What the
    /// kernel refuses, as where the user has no watch left
    /// (`fs.epoll.max_user_watches`), is asked for again the next time.
    fn watch_all(&mut self, sockets: &[Socket]) {
        let registry = self.poll.registry();
        for (listener, watched) in self.watched.iter_mut().enumerate() {
            if !*watched {
                let fd = sockets[listener].as_raw_fd();
                let watch =
                    registry.register(&mut SourceFd(&fd), Token(listener), Interest::READABLE);
                *watched = watch.is_ok();
                if let Err(error) = watch
                    && !std::mem::replace(&mut self.is_refused, true)
                {
                    tracing::warn!("epoll: {error}; mend: sysctl fs.epoll.max_user_watches");
                }
            }
        }
    }

    /// Watches a socket no more while it is busy.
    ///
    /// A watched socket has the kernel look for somebody to wake each time a
    /// datagram that it sent is freed: 0.11 us a message, where this and
    /// watching it again take 0.5 us in all.
    pub(super) fn unwatch(&mut self, listener: usize, socket: &Socket) -> io::Result<()> {
        if std::mem::take(&mut self.watched[listener]) {
            let fd = socket.as_raw_fd();
            self.poll.registry().deregister(&mut SourceFd(&fd))?;
        }
        Ok(())
    }
}
