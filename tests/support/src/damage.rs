//! What is done to a valid message to damage it.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// One thing done to a message.
#[derive(Clone, Debug)]
pub(super) enum Damage {
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Delete(Index, usize),
    Repeat(Index, usize),
    Truncate(Index),
    LineEnd(Index, &'static [u8]),
    AllLineEnds(&'static [u8]),
    RepeatRow(Index, Index),
    RemoveRow(Index),
}

/// Any of it.
pub(super) fn damage() -> impl Strategy<Value = Damage> {
    const ENDS: [&[u8]; 5] = [b"\n", b"\r", b"\n\r", b"\r\r\n", b""];
    const ODD: [&[u8]; 19] = [
        b"\0",
        b"\x0b",
        b"\x0c",
        b"\x01",
        b"\x7f",
        b"\t",
        b" ",
        b"\"",
        b"<",
        b">",
        b",",
        b";",
        b"=",
        b":",
        b"\\",
        b"@",
        b"\r\n ",
        b"\r\n\r\n",
        b"\xff",
    ];
    let index = any::<Index>;
    prop_oneof![
        4 => (index(), 1..=255_u8).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        4 => (index(), select(&ODD[..])).prop_map(|(at, odd)| Damage::Insert(at, odd.to_vec())),
        4 => (index(), vec(any::<u8>(), 1..4)).prop_map(|(at, octets)| Damage::Insert(at, octets)),
        4 => (index(), 1..9_usize).prop_map(|(at, count)| Damage::Delete(at, count)),
        4 => (index(), 1..40_usize).prop_map(|(at, count)| Damage::Repeat(at, count)),
        2 => index().prop_map(Damage::Truncate),
        2 => (index(), select(&ENDS[..])).prop_map(|(at, end)| Damage::LineEnd(at, end)),
        1 => select(&ENDS[..]).prop_map(Damage::AllLineEnds),
        4 => (index(), index()).prop_map(|(from, to)| Damage::RepeatRow(from, to)),
        2 => index().prop_map(Damage::RemoveRow),
    ]
}

impl Damage {
    pub(super) fn apply(self, mut octets: Vec<u8>) -> Vec<u8> {
        let size = octets.len();
        if size == 0 {
            return octets;
        }
        match self {
            Self::Flip(at, bits) => octets[at.index(size)] ^= bits,
            Self::Insert(at, odd) => {
                let at = at.index(size + 1);
                octets.splice(at..at, odd);
            }
            Self::Delete(at, count) => {
                let at = at.index(size);
                octets.drain(at..size.min(at + count));
            }
            Self::Repeat(at, count) => {
                let at = at.index(size);
                let again = octets[at..size.min(at + count)].to_vec();
                octets.splice(at..at, again);
            }
            Self::Truncate(at) => octets.truncate(at.index(size)),
            Self::LineEnd(at, end) => {
                let mut rows = split_rows(&octets);
                let at = at.index(rows.len());
                if rows[at].ends_with(b"\r\n") {
                    let kept = rows[at].len() - 2;
                    rows[at].truncate(kept);
                    rows[at].extend_from_slice(end);
                }
                return rows.concat();
            }
            Self::AllLineEnds(end) => {
                let mut rows = split_rows(&octets);
                for row in rows.iter_mut().filter(|row| row.ends_with(b"\r\n")) {
                    row.truncate(row.len() - 2);
                    row.extend_from_slice(end);
                }
                return rows.concat();
            }
            Self::RepeatRow(from, to) => {
                let mut rows = split_rows(&octets);
                let row = rows[from.index(rows.len())].clone();
                rows.insert(to.index(rows.len() + 1), row);
                return rows.concat();
            }
            Self::RemoveRow(at) => {
                let mut rows = split_rows(&octets);
                rows.remove(at.index(rows.len()));
                return rows.concat();
            }
        }
        octets
    }
}

/// The pieces that end in CRLF; the last may not. At least one.
fn split_rows(octets: &[u8]) -> Vec<Vec<u8>> {
    octets
        .split_inclusive(|&octet| octet == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}
