//! Messages that wait to leave by one socket: written one behind the other,
//! sent as runs of equal length (UDP segmentation), many runs a system call.

use std::io;
use std::net::UdpSocket;

use crate::sys::{Run, Sender};

/// Octets that one segmented send may carry, below the limit of UDP.
const RUN_OCTETS: usize = 60_000;

/// Written messages and where each ends.
#[derive(Default)]
pub(crate) struct Outbox {
    octets: Vec<u8>,
    ends: Vec<usize>,
}

impl Outbox {
    /// Appends the one message that `write` appends to the octets it is given.
    pub(crate) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.octets);
        self.ends.push(self.octets.len());
    }

    /// Sends everything by the connected `socket`, in order, as runs of at
    /// most `longest` messages. Returns how often the other side refused
    /// (ICMP port unreachable); what was refused is sent again once.
    ///
    /// # Errors
    /// Whatever else `sendmmsg` reports; a kernel without UDP segmentation
    /// fails here with `EINVAL` or `EIO`.
    pub(crate) fn flush(
        &mut self,
        socket: &UdpSocket,
        sender: &mut Sender,
        longest: usize,
    ) -> io::Result<u64> {
        let mut refused = 0;
        if !self.ends.is_empty() {
            let runs = runs(&self.octets, &self.ends, longest);
            let mut rest = &runs[..];
            while !rest.is_empty() {
                match sender.send(socket, rest) {
                    Ok(sent) => rest = &rest[sent..],
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => refused += 1,
                    Err(error) => return Err(error),
                }
            }
        }
        self.octets.clear();
        self.ends.clear();
        Ok(refused)
    }
}

/// Groups neighbours of equal length.
fn runs<'a>(octets: &'a [u8], ends: &[usize], longest: usize) -> Vec<Run<'a>> {
    let mut runs: Vec<Run<'a>> = Vec::new();
    let mut start = 0;
    let mut run_start = 0;
    for &end in ends {
        let length = end - start;
        let fits = |run: &Run<'_>| {
            run.segment == length
                && run.octets.len() < longest * length
                && run.octets.len() + length <= RUN_OCTETS
        };
        match runs.last_mut() {
            Some(run) if fits(run) => run.octets = &octets[run_start..end],
            _ => {
                run_start = start;
                runs.push(Run {
                    octets: &octets[start..end],
                    segment: length,
                    to: None,
                });
            }
        }
        start = end;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(messages: &[usize], longest: usize) -> Vec<(usize, usize)> {
        let mut outbox = Outbox::default();
        for &length in messages {
            outbox.push(|octets| octets.resize(octets.len() + length, b'x'));
        }
        runs(&outbox.octets, &outbox.ends, longest)
            .iter()
            .map(|run| (run.segment, run.octets.len() / run.segment))
            .collect()
    }

    #[test]
    fn neighbours_of_equal_length_make_a_run() {
        assert_eq!(lengths(&[5, 5, 5, 7, 5], 8), [(5, 3), (7, 1), (5, 1)]);
    }

    #[test]
    fn a_run_is_bounded_in_messages_and_octets() {
        assert_eq!(lengths(&[5; 5], 2), [(5, 2), (5, 2), (5, 1)]);
        assert_eq!(lengths(&[5; 2], 1), [(5, 1), (5, 1)]);
        assert_eq!(lengths(&[30_000; 3], 8), [(30_000, 2), (30_000, 1)]);
    }
}
