//! Sending a batch of datagrams by one `sendmmsg` for each socket, those for
//! one destination as runs.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use super::Socket;
use super::outgoing::{Outgoing, Piece, Turn, send_one};
use super::refusals::Refusals;
use super::runs::{Leaving, Limits, Runs, write_padded};
use crate::transaction::InRun;

/// The longest datagram that is ever sent.
const LONGEST: usize = crate::sip::MAX_DATAGRAM;

/// Octets for the datagrams of a batch, one behind the other.
const ARENA: usize = 1 << 20;

/// Datagrams to send, each from one of several sockets, and each with a tag or
/// none, by which the caller knows it again where it fails.
pub struct SendBatch<Tag> {
    arena: Vec<u8>,
    used: usize,
    queued: Vec<Queued<Tag>>,
    runs: Runs,
    /// The runs of more than one datagram, each in one piece. To have the
    /// kernel gather them from the arena by an iovec each took 8 % more time.
    packed: Vec<u8>,
    /// Where each run is: in `packed`, or in `arena` where it is one datagram.
    places: Vec<Range<usize>>,
    refusals: Refusals,
    outgoing: Outgoing,
    turn: Turn,
}

struct Queued<Tag> {
    octets: Range<usize>,
    padding_at: usize,
    tag: Option<Tag>,
}

/// What became of a send.
#[derive(Debug)]
pub enum Sent<Tag> {
    /// A run of so many datagrams left.
    Run(usize),
    /// A run was refused as such; its datagrams went one by one.
    Refusal,
    /// The kernel did not take a datagram, with this tag.
    Failure(io::Error, Option<Tag>),
    /// An ICMP error may wait at a socket ([`Socket::hear_errors`]).
    Disturbed,
}

impl<Tag: Copy> SendBatch<Tag> {
    /// Room for `size` datagrams, which leave in runs within `limits`.
    #[must_use]
    pub fn new(size: usize, limits: Limits) -> Self {
        Self {
            arena: vec![0; ARENA],
            used: 0,
            queued: Vec::with_capacity(size),
            runs: Runs::new(size, limits),
            packed: vec![0; ARENA + size * limits.lengths],
            places: Vec::with_capacity(size),
            refusals: Refusals::new(),
            outgoing: Outgoing::new(size),
            turn: Turn::new(),
        }
    }

    /// Begins a turn, in which a full send buffer is waited for once, however
    /// often it is flushed.
    pub fn begin_turn(&mut self) {
        self.turn.begin();
    }

    /// Whether there is room for so many more datagrams, of which one may have
    /// any length and the others repeat it.
    #[inline]
    #[must_use]
    pub fn has_room(&self, datagrams: usize) -> bool {
        self.queued.capacity() - self.queued.len() >= datagrams && ARENA - self.used >= LONGEST
    }

    /// Where to write the next datagram. Call only while there is room.
    #[inline]
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.arena[self.used..self.used + LONGEST]
    }

    /// Queues the first `length` octets of the space.
    #[inline]
    pub fn push(
        &mut self,
        length: usize,
        to: SocketAddr,
        socket: usize,
        run: Option<InRun>,
        tag: Option<Tag>,
    ) {
        self.runs.push(&Leaving {
            to,
            socket,
            length,
            bound: run.map_or(0, |_| self.refusals.longest_segment(to)),
            call: run.map_or(0, |run| run.call),
        });
        self.queued.push(Queued {
            octets: self.used..self.used + length,
            padding_at: run.map_or(0, |run| run.padding_at),
            tag,
        });
        self.used += length;
    }

    /// Queues the last datagram once more, for another address. It leaves
    /// alone, for the runs have room for each octet once, and without a tag.
    #[cold]
    pub fn repeat(&mut self, to: SocketAddr, socket: usize, call: u64) {
        let Some(last) = self.queued.last() else {
            return;
        };
        let octets = last.octets.clone();
        self.runs.push(&Leaving {
            to,
            socket,
            length: octets.len(),
            bound: 0,
            call,
        });
        self.queued.push(Queued {
            octets,
            padding_at: 0,
            tag: None,
        });
    }

    /// Sends all that is queued, in order for each call, and forgets
    /// it. What the kernel refuses is told and skipped; the others go out.
    pub fn flush(&mut self, sockets: &[Socket], mut tell: impl FnMut(Sent<Tag>)) {
        self.pack();
        for (index, socket) in sockets.iter().enumerate() {
            self.send(index, socket, &mut tell);
        }
        self.queued.clear();
        self.runs.clear();
        self.used = 0;
    }

    /// Puts the datagrams of each run behind one another, all as long as the
    /// longest but the last.
    fn pack(&mut self) {
        self.places.clear();
        let mut end = 0;
        for run in self.runs.all() {
            if run.count == 1 {
                let octets = &self.queued[run.first()].octets;
                self.places.push(octets.clone());
                continue;
            }
            let start = end;
            for (nth, member) in self.runs.members(run).enumerate() {
                let queued = &self.queued[member];
                let message = &self.arena[queued.octets.clone()];
                let is_last = nth + 1 == run.count;
                let length = if is_last { message.len() } else { run.segment };
                let out = &mut self.packed[end..end + length];
                write_padded(message, queued.padding_at, out);
                end += length;
            }
            self.places.push(start..end);
        }
    }

    /// Sends what leaves by one socket.
    fn send(&mut self, index: usize, socket: &Socket, tell: &mut impl FnMut(Sent<Tag>)) {
        let (arena, packed, queued) = (&self.arena, &self.packed, &self.queued);
        let runs = &self.runs;
        let refusals = &mut self.refusals;
        let turn = &self.turn;
        let leaving = || {
            let all = runs.all().iter().zip(&self.places);
            all.filter(|(run, _)| run.socket == index)
        };
        let pieces = leaving().map(|(run, place)| Piece {
            to: run.to,
            octets: &(if run.count == 1 { arena } else { packed })[place.clone()],
            segment: run.segment,
        });
        let mut told = leaving();
        self.outgoing.send(socket, pieces, turn, |result| {
            let Some((run, _)) = told.next() else { return };
            match result {
                Ok(()) if run.count == 1 => {}
                Ok(()) => tell(Sent::Run(run.count)),
                Err(error) if run.count == 1 => {
                    tell(Sent::Failure(error, queued[run.first()].tag));
                }
                Err(error) => {
                    // Whatever it was, it must not cost all of them; what is
                    // behind them for this destination has not left yet.
                    let mut left = false;
                    for member in runs.members(run) {
                        let queued = &queued[member];
                        let octets = &arena[queued.octets.clone()];
                        match send_one(socket, run.to, octets, turn) {
                            Ok(()) => left = true,
                            Err(error) => tell(Sent::Failure(error, queued.tag)),
                        }
                    }
                    // Where none leaves singly either, it was not the run.
                    if left && refusals.note(run, &error) {
                        tell(Sent::Refusal);
                    }
                }
            }
        });
        if turn.take_disturbed() {
            tell(Sent::Disturbed);
        }
    }
}
