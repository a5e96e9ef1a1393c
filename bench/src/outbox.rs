//! Messages that wait to leave, and how they are grouped into segmented sends.

use std::io;
use std::net::UdpSocket;
use std::ops::Range;

use crate::sys::{Route, Run, Sender};

/// Octets that one segmented send may carry, below the limit of UDP.
const RUN_OCTETS: usize = 60_000;

/// Written messages in the order in which they shall leave.
#[derive(Default)]
pub(crate) struct Outbox {
    octets: Vec<u8>,
    entries: Vec<Entry>,
    arena: Vec<u8>,
}

struct Entry {
    rank: u64,
    octets: Range<usize>,
    route: Route,
}

impl Outbox {
    /// Appends the one message that `write` appends to the octets it is given.
    /// Lower ranks leave first; within a rank shorter ones, then as they came.
    pub(crate) fn push(&mut self, rank: u32, route: Route, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.octets.len();
        write(&mut self.octets);
        let octets = start..self.octets.len();
        self.entries.push(Entry {
            rank: u64::from(rank) << 32 | octets.len() as u64,
            octets,
            route,
        });
    }

    /// Sends everything as runs of at most `longest` messages. Returns how
    /// many messages left.
    ///
    /// # Errors
    /// What `sendmmsg` reports; a kernel without UDP segmentation fails here
    /// with `EINVAL` or `EIO`.
    pub(crate) fn flush(
        &mut self,
        socket: &UdpSocket,
        sender: &mut Sender,
        longest: usize,
    ) -> io::Result<usize> {
        let count = self.entries.len();
        if count > 0 {
            sender.send_all(socket, &self.runs(longest))?;
            self.clear();
        }
        Ok(count)
    }

    /// Everything in the order in which it leaves.
    pub(crate) fn runs(&mut self, longest: usize) -> Vec<Run<'_>> {
        self.entries.sort_by_key(|entry| entry.rank);
        let octets = &self.octets;
        let messages = self.entries.iter();
        let messages = messages.map(|entry| (entry.route, &octets[entry.octets.clone()]));
        runs(messages, longest, &mut self.arena)
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.octets.clear();
        self.entries.clear();
    }
}

/// Puts `messages` one behind the other into `arena` and groups neighbours
/// that go the same way and are of equal length, at most `longest` of them;
/// the last of a run may be shorter.
pub(crate) fn runs<'a, 'm>(
    messages: impl Iterator<Item = (Route, &'m [u8])>,
    longest: usize,
    arena: &'a mut Vec<u8>,
) -> Vec<Run<'a>> {
    arena.clear();
    let mut groups: Vec<(Range<usize>, usize, Route)> = Vec::new();
    for (route, message) in messages {
        let start = arena.len();
        arena.extend_from_slice(message);
        match groups.last_mut() {
            Some((octets, segment, way))
                if *way == route
                    && message.len() <= *segment
                    && octets.len() % *segment == 0
                    && octets.len() < longest * *segment
                    && octets.len() + message.len() <= RUN_OCTETS =>
            {
                octets.end = arena.len();
            }
            _ => groups.push((start..arena.len(), message.len(), route)),
        }
    }
    let arena = &*arena;
    groups
        .into_iter()
        .map(|(octets, segment, route)| Run {
            octets: &arena[octets],
            segment,
            route,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddrV4};

    fn route(port: u16) -> Route {
        Route {
            to: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
            from: None,
        }
    }

    fn lengths(messages: &[(u16, usize)], longest: usize) -> Vec<(usize, usize)> {
        let octets = vec![b'x'; 65_536];
        let messages = messages
            .iter()
            .map(|&(port, length)| (route(port), &octets[..length]));
        runs(messages, longest, &mut Vec::new())
            .iter()
            .map(|run| (run.segment, run.octets.len()))
            .collect()
    }

    #[test]
    fn neighbours_of_equal_length_make_a_run_that_a_shorter_one_closes() {
        let messages = [(1, 5), (1, 5), (1, 3), (1, 5), (1, 7), (1, 7)];
        assert_eq!(lengths(&messages, 8), [(5, 13), (5, 5), (7, 14)]);
    }

    #[test]
    fn a_run_goes_one_way() {
        assert_eq!(lengths(&[(1, 5), (2, 5), (2, 5)], 8), [(5, 5), (5, 10)]);
    }

    #[test]
    fn a_run_is_bounded_in_messages_and_octets() {
        assert_eq!(lengths(&[(1, 5); 5], 2), [(5, 10), (5, 10), (5, 5)]);
        assert_eq!(lengths(&[(1, 5); 2], 1), [(5, 5), (5, 5)]);
        let long = [(1, 30_000); 3];
        assert_eq!(lengths(&long, 8), [(30_000, 60_000), (30_000, 30_000)]);
    }

    #[test]
    fn ranks_leave_in_order_and_equal_lengths_together() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let port = receiver.local_addr().expect("an address").port();
        let mut outbox = Outbox::default();
        for (rank, text) in [(1, "cc"), (0, "bbb"), (0, "a"), (1, "dd"), (0, "eee")] {
            outbox.push(rank, route(port), |out| {
                out.extend_from_slice(text.as_bytes())
            });
        }
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let left = outbox
            .flush(&sender, &mut Sender::new(), 8)
            .expect("a send");
        assert_eq!(left, 5);
        let mut buffer = [0; 16];
        let came: Vec<String> = (0..5)
            .map(|_| {
                let length = receiver.recv(&mut buffer).expect("a datagram");
                String::from_utf8_lossy(&buffer[..length]).into_owned()
            })
            .collect();
        assert_eq!(came, ["a", "bbb", "eee", "cc", "dd"]);
    }
}
