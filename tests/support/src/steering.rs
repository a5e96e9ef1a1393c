//! The program that steers datagrams, run as the kernel would run it; and what
//! it is to do, read plainly.

use viaduct::net::steer::{BEHIND_BLOCK, BLOCK, Instruction, SEARCH_START};
use viaduct::transaction::owner::{FINISHER, HASHED, MULTIPLIER, SEED};

/// Runs classic BPF as Linux does: a load behind the end of `message` ends it
/// with 0. Panics at anything that Linux would not have taken.
pub fn run(program: &[Instruction], message: &[u8]) -> u32 {
    let (mut a, mut x, mut memory, mut at) = (0_u32, 0_u32, [None::<u32>; 16], 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let start = match code & 0xe0 {
            0x40 => x as usize + k as usize,
            _ => k as usize,
        };
        let octets = |length| message.get(start..start + length);
        let compare = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            // Loads: a word, half a word; the length; at once; from memory.
            0x20 | 0x40 => match octets(4) {
                Some(octets) => a = u32::from_be_bytes(octets.try_into().expect("four")),
                None => return 0,
            },
            0x48 => match octets(2) {
                Some(octets) => a = u16::from_be_bytes(octets.try_into().expect("two")).into(),
                None => return 0,
            },
            0x80 => a = message.len() as u32,
            0x00 => a = k,
            0x01 => x = k,
            0x60 => a = memory[k as usize].expect("stored before"),
            0x61 => x = memory[k as usize].expect("stored before"),
            0x02 => memory[k as usize] = Some(a),
            0x03 => memory[k as usize] = Some(x),
            0x07 => x = a,
            0x87 => a = x,
            // Arithmetic.
            0x04 => a = a.wrapping_add(k),
            0x1c => a = a.wrapping_sub(x),
            0x24 => a = a.wrapping_mul(k),
            0x44 => a |= k,
            0x54 => a &= k,
            0x74 => a >>= k,
            0x84 => a = a.wrapping_neg(),
            0xac => a ^= x,
            // Jumps.
            0x05 => at += k as usize,
            0x15 => at += compare(a == k),
            0x25 => at += compare(a > k),
            0x35 => at += compare(a >= k),
            0x45 => at += compare(a & k != 0),
            0x06 => return k,
            0x16 => return a,
            _ => panic!("instruction {code:#x}"),
        }
    }
}

/// The worker for a message, by a search in `blocks` blocks; `None`: the kernel
/// chooses by addresses and ports.
pub fn worker_for(message: &[u8], workers: usize, blocks: usize) -> Option<usize> {
    let line_feed = find(message, blocks)?;
    let row = &message[line_feed..];
    // One octet behind the colon at least: the two are looked at together.
    row.get(9)?;
    let value = row[8..].strip_prefix(b":")?;
    let hash = hash(value.strip_prefix(b" ").unwrap_or(value));
    if hash == SEED {
        return None;
    }
    let mixed = (hash ^ (hash >> 15)).wrapping_mul(FINISHER);
    Some(((mixed >> 16) as usize * workers) >> 16)
}

/// As the search sees octets: letters small, CR and LF as `-` and `*`.
fn small(octets: &[u8]) -> Vec<u8> {
    octets.iter().map(|octet| octet | 0x20).collect()
}

/// Where the line feed is in front of what looks like `call-id`.
fn find(message: &[u8], blocks: usize) -> Option<usize> {
    let name = b"-*call-id:";
    for block in 0..blocks {
        let start = SEARCH_START + block * BLOCK;
        if message.len() < start + BLOCK + BEHIND_BLOCK {
            return None;
        }
        let suspect = [start, start + 8].into_iter().find_map(|at| {
            let word = small(&message[at..at + 4]);
            let whole = (0..7).find(|place| word == name[*place..*place + 4]);
            let cut = (word[1..] == name[..3]).then_some(at + 2);
            whole.map(|place| at + 1 - place).or(cut)
        });
        if let Some(line_feed) = suspect
            && small(&message[line_feed..line_feed + 8]) == b"*call-id"
        {
            return Some(line_feed);
        }
    }
    None
}

/// The hash of a value at the beginning of `rest`: of no octet behind it.
fn hash(rest: &[u8]) -> u32 {
    let mut hash = SEED;
    let mut mix = |word: u32| hash = (hash ^ word).wrapping_mul(MULTIPLIER);
    for word in rest.chunks_exact(4).take(HASHED as usize / 4) {
        let word = u32::from_be_bytes(word.try_into().expect("four"));
        let word = 0xa0a0_a0a0_u32.wrapping_sub(word);
        let over = (word & 0x8080_8080).leading_zeros() / 8;
        match over {
            0 => return hash,
            1..4 => {
                mix(word & !(u32::MAX >> (8 * over)));
                return hash;
            }
            _ => mix(word),
        }
    }
    hash
}

/// A request with one Via and `row` in front of the Call-ID's `name`.
pub fn request(row: &str, name: &str, call_id: &str) -> Vec<u8> {
    format!(
        "INVITE sip:desk@farm.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
         Max-Forwards: 70\r\n{row}{name}{call_id}\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\n\
         CSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}
