//! Which worker's socket a datagram lands on: a classic BPF program that the
//! kernel runs for each datagram of a `SO_REUSEPORT` group.
//!
//! Left alone, the kernel hashes source and destination address and port, so
//! that one trunk, which has one of each, keeps one worker busy and the others
//! idle. The program hashes the Call-ID instead: any trunk is spread over all
//! workers, and the messages of one call meet the same worker and keep their
//! order. It sees the octets of one SIP message and returns the number of a
//! socket in the order of binding; for a number that is none, the kernel hashes
//! the addresses after all.
//!
//! Classic BPF, for it needs no privilege. It has no loops, hence the unrolled
//! search. It looks at every second aligned word: wherever the name of Call-ID
//! stands, one of them is one of eight (`SUSPECTS`). Two such words make a
//! block and share the exact look at what raised a suspicion; a word that was
//! suspected for nothing hides the other one, in the same 16 octets, from it.
//!
//! The kernel chooses by addresses for messages with the compact form `i:`, with
//! white space other than one SP around the colon, or with the Call-ID beyond
//! [`SEARCH_MAX`]. A call whose messages differ in that may meet two workers.
//!
//! It takes the kernel 0.23 us with the Call-ID at octet 50 and 0.36 us with it
//! at octet 400, of 2.5 us for a datagram over loopback. Half of the former are
//! the loads of the value, at places that are not known before.
//! `cargo run --release -p viaduct-bench --example steer` measures it.

use std::io;

use libc::{
    BPF_A, BPF_ABS, BPF_ADD, BPF_ALU, BPF_AND, BPF_H, BPF_IMM, BPF_IND, BPF_JA, BPF_JEQ, BPF_JGE,
    BPF_JGT, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX, BPF_LEN, BPF_MEM, BPF_MISC, BPF_MUL,
    BPF_NEG, BPF_OR, BPF_RET, BPF_RSH, BPF_ST, BPF_STX, BPF_SUB, BPF_TAX, BPF_TXA, BPF_W, BPF_X,
    BPF_XOR,
};

use super::Socket;
use crate::transaction::owner::{CEILING, FINISHER, HASHED, HIGH_BITS, MULTIPLIER, SEED};

/// An instruction of classic BPF, as the kernel takes it.
pub type Instruction = libc::sock_filter;

/// What the program returns where it finds no Call-ID: no number of a socket.
pub const NOBODY: u32 = u32::MAX;
/// Where the search begins: before it there is no room for a start line.
pub const SEARCH_START: usize = 16;
/// Octets from one word that is looked at to the next.
const STRIDE: usize = 8;
/// Octets in one block of the search.
pub const BLOCK: usize = 2 * STRIDE;
/// Octets that must follow a block, for the rest of a name that ends it.
pub const BEHIND_BLOCK: usize = 2;
/// As many blocks as 4,096 instructions have room for, the limit of the kernel.
pub const BLOCKS_MAX: usize = 61;
/// Octets that are searched then.
pub const SEARCH_MAX: usize = SEARCH_START + BLOCKS_MAX * BLOCK;
/// Fewer are not worth the trouble.
const BLOCKS_MIN: usize = 8;

/// Sets the bit that makes letters small. All other octets of the name have it
/// too, but CR and LF, which become `-` and `*`.
const SMALL: u32 = 0x2020_2020;
/// The places of the colon and of what follows it, behind the line feed.
const COLON: u32 = 8;
const VALUE: u32 = COLON + 1;
/// The words that give the name away, by their places from two octets before
/// the line feed to five behind it. The first octet of the first may be any.
const SUSPECTS: [u32; 8] = [
    small(*b"\0\r\nc") & LOW_OCTETS,
    small(*b"\r\nca"),
    small(*b"\ncal"),
    small(*b"call"),
    small(*b"all-"),
    small(*b"ll-i"),
    small(*b"l-id"),
    small(*b"-id:"),
];
const LOW_OCTETS: u32 = 0x00ff_ffff;
/// The place of the last one.
const FARTHEST: usize = 5;
/// No suspect times the one has any of the other's bits, but nine in ten words
/// of usual text have: so one test clears them. A search of 350 octets takes
/// 150 ns thanks to it, and 340 ns without.
const SIEVE: u32 = 0x0029_c089;
const SIEVE_BITS: u32 = 0x0023_1000;

/// Cells of the program's memory: X, from where the octets of the value are
/// told; octets from its beginning to the end of the datagram; the hash.
const START: u32 = 0;
const REST: u32 = 1;
const HASH: u32 = 2;

/// Steers the datagrams for all sockets that share the address of this one, of
/// which there are `workers`. Returns up to where the Call-ID is looked for, in
/// octets from the beginning of a message.
///
/// `net.core.optmem_max` bounds the length of a program (20,480 by default
/// before Linux 6.8); where that is too little the search becomes shorter.
///
/// # Errors
/// As of `setsockopt`, where the kernel takes no program at all.
pub fn by_call_id(socket: &Socket, workers: usize) -> io::Result<usize> {
    let mut blocks = BLOCKS_MAX;
    loop {
        match socket.steer(&program(workers, blocks)) {
            Ok(()) => return Ok(SEARCH_START + blocks * BLOCK),
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && blocks > BLOCKS_MIN => {
                blocks -= blocks.div_ceil(8);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Has the kernel choose by addresses and ports again among the sockets that
/// share the address of this one.
///
/// # Errors
/// As of `setsockopt`.
pub fn by_addresses(socket: &Socket) -> io::Result<()> {
    socket.steer(&constant(NOBODY))
}

/// Steers all datagrams to the first of the sockets that share the address of
/// this one.
///
/// # Errors
/// As of `setsockopt`.
pub fn to_first(socket: &Socket) -> io::Result<()> {
    socket.steer(&constant(0))
}

/// The program that returns one number.
fn constant(number: u32) -> Vec<Instruction> {
    let mut program = Program(Vec::new());
    program.op(BPF_RET | BPF_K, number);
    program.0
}

/// The program for `workers` sockets (1 to 65,535) that looks for the Call-ID
/// in `blocks` blocks from [`SEARCH_START`] on, at most [`BLOCKS_MAX`].
#[must_use]
pub fn program(workers: usize, blocks: usize) -> Vec<Instruction> {
    let mut program = Program(Vec::new());
    let found: Vec<Jump> = (0..blocks)
        .map(|block| program.search(SEARCH_START + block * BLOCK))
        .collect();
    program.give_up();
    program.land(found);
    program.hash();
    program.choose(workers);
    program.0
}

/// A program in the making.
struct Program(Vec<Instruction>);

/// A jump forward to a place that is not written yet.
enum Jump {
    /// Taken always.
    Always(usize),
    /// Taken where the comparison holds.
    Holds(usize),
    /// Taken where it fails.
    Fails(usize),
}

impl Program {
    /// Looks at the words from `start` on. The jump is taken with a name found,
    /// and the place of its line feed in X.
    fn search(&mut self, start: usize) -> Jump {
        // A load behind the datagram's end would end the program with 0, and
        // have the first worker take whatever is short.
        self.op(BPF_LD | BPF_W | BPF_LEN, 0);
        self.demand(BPF_JGE, (start + BLOCK + BEHIND_BLOCK) as u32);
        let mut suspicions: [Vec<Jump>; SUSPECTS.len()] = Default::default();
        let mut innocent = Vec::new();
        for at in (start..start + BLOCK).step_by(STRIDE) {
            self.op(BPF_LD | BPF_W | BPF_ABS, at as u32);
            self.op(BPF_ALU | BPF_OR, SMALL);
            self.op(BPF_MISC | BPF_TAX, 0);
            self.op(BPF_ALU | BPF_MUL, SIEVE);
            let cleared = self.jump(BPF_JSET, SIEVE_BITS, Jump::Holds);
            self.op(BPF_MISC | BPF_TXA, 0);
            self.op(BPF_LDX | BPF_IMM, (at - FARTHEST) as u32);
            for (word, jumps) in SUSPECTS.iter().zip(&mut suspicions).skip(1) {
                jumps.push(self.jump(BPF_JEQ, *word, Jump::Holds));
            }
            self.op(BPF_ALU | BPF_AND, LOW_OCTETS);
            suspicions[0].push(self.jump(BPF_JEQ, SUSPECTS[0], Jump::Holds));
            self.land([cleared]);
        }
        innocent.push(self.skip());
        // The nearer to the line feed the suspect stands, the more steps X
        // takes from where it would be for the farthest.
        for (place, jumps) in suspicions.into_iter().enumerate() {
            if place > 0 {
                self.step();
            }
            self.land(jumps);
        }
        for (letters, place) in [(*b"\ncal", 0), (*b"l-id", 4)] {
            self.op(BPF_LD | BPF_W | BPF_IND, place);
            self.op(BPF_ALU | BPF_OR, SMALL);
            innocent.push(self.jump(BPF_JEQ, small(letters), Jump::Fails));
        }
        let found = self.skip();
        self.land(innocent);
        found
    }

    /// Hashes the value behind the name whose line feed X tells.
    ///
    /// By words as long as all four octets are of the value, then by octets:
    /// what follows the value must have no part in it, for that differs
    /// between the messages of a call.
    fn hash(&mut self) {
        self.op(BPF_LD | BPF_W | BPF_LEN, 0);
        self.op(BPF_ALU | BPF_SUB | BPF_X, 0);
        self.demand(BPF_JGT, VALUE);
        self.op(BPF_LD | BPF_H | BPF_IND, COLON);
        let spaced = self.jump(BPF_JEQ, u32::from(u16::from_be_bytes(*b": ")), Jump::Holds);
        self.op(BPF_ALU | BPF_RSH, 8);
        self.demand(BPF_JEQ, u32::from(b':'));
        let unspaced = self.skip();
        self.land([spaced]);
        self.step();
        self.land([unspaced]);
        self.op(BPF_STX, START);
        self.op(BPF_LD | BPF_W | BPF_LEN, 0);
        self.op(BPF_ALU | BPF_SUB | BPF_X, 0);
        self.op(BPF_ST, REST);
        self.op(BPF_LD | BPF_IMM, SEED);
        self.op(BPF_ST, HASH);
        let mut ended = Vec::new();
        let mut hashed = Vec::new();
        for at in (VALUE..VALUE + HASHED).step_by(4) {
            self.op(BPF_LD | BPF_MEM, REST);
            hashed.push(self.jump(BPF_JGE, at + 4, Jump::Fails));
            self.op(BPF_LD | BPF_W | BPF_IND, at);
            self.op(BPF_ALU | BPF_NEG, 0);
            self.op(BPF_ALU | BPF_ADD, CEILING);
            ended.push(self.jump(BPF_JSET, HIGH_BITS, Jump::Holds));
            self.mix();
            self.op(BPF_LDX | BPF_MEM, START);
        }
        hashed.push(self.skip());
        // Of the last word, the octets in front of the first that is too low.
        self.land(ended);
        let mut cut = Vec::new();
        for kept in 0..3 {
            let later = self.jump(
                BPF_JSET,
                HIGH_BITS & (0xff00_0000 >> (8 * kept)),
                Jump::Fails,
            );
            self.op(BPF_ALU | BPF_AND, !(u32::MAX >> (8 * kept)));
            cut.push(self.skip());
            self.land([later]);
        }
        // A whole number of words leaves nothing over.
        hashed.push(cut.remove(0));
        self.op(BPF_ALU | BPF_AND, !0xff);
        self.land(cut);
        self.mix();
        self.land(hashed);
    }

    /// From the hash to a worker.
    fn choose(&mut self, workers: usize) {
        self.op(BPF_LD | BPF_MEM, HASH);
        let hashed = self.jump(BPF_JEQ, SEED, Jump::Fails);
        self.give_up();
        self.land([hashed]);
        self.op(BPF_MISC | BPF_TAX, 0);
        self.op(BPF_ALU | BPF_RSH, 15);
        self.op(BPF_ALU | BPF_XOR | BPF_X, 0);
        self.op(BPF_ALU | BPF_MUL, FINISHER);
        // The high half is the better one: products carry upwards.
        self.op(BPF_ALU | BPF_RSH, 16);
        self.op(BPF_ALU | BPF_MUL, workers as u32);
        self.op(BPF_ALU | BPF_RSH, 16);
        self.op(BPF_RET | BPF_A, 0);
    }

    /// Mixes A into the hash.
    fn mix(&mut self) {
        self.op(BPF_LDX | BPF_MEM, HASH);
        self.op(BPF_ALU | BPF_XOR | BPF_X, 0);
        self.op(BPF_ALU | BPF_MUL, MULTIPLIER);
        self.op(BPF_ST, HASH);
    }

    /// Adds one to X.
    fn step(&mut self) {
        self.op(BPF_MISC | BPF_TXA, 0);
        self.op(BPF_ALU | BPF_ADD, 1);
        self.op(BPF_MISC | BPF_TAX, 0);
    }

    /// Leaves the choice to the kernel unless the comparison holds.
    fn demand(&mut self, comparison: u32, k: u32) {
        let holds = self.jump(comparison, k, Jump::Holds);
        self.give_up();
        self.land([holds]);
    }

    fn give_up(&mut self) {
        self.op(BPF_RET | BPF_K, NOBODY);
    }

    /// A comparison of A with `k`; goes on where the jump is not taken.
    fn jump(&mut self, comparison: u32, k: u32, taken: fn(usize) -> Jump) -> Jump {
        self.op(BPF_JMP | comparison | BPF_K, k);
        taken(self.0.len() - 1)
    }

    fn skip(&mut self) -> Jump {
        self.op(BPF_JMP | BPF_JA, 0);
        Jump::Always(self.0.len() - 1)
    }

    /// Has `jumps` lead to the next instruction.
    fn land(&mut self, jumps: impl IntoIterator<Item = Jump>) {
        let here = self.0.len();
        let near = |at| u8::try_from(here - at - 1).expect("invariant: a comparison jumps near");
        for jump in jumps {
            match jump {
                Jump::Always(at) => self.0[at].k = (here - at - 1) as u32,
                Jump::Holds(at) => self.0[at].jt = near(at),
                Jump::Fails(at) => self.0[at].jf = near(at),
            }
        }
    }

    fn op(&mut self, code: u32, k: u32) {
        self.0.push(Instruction {
            code: code as u16,
            jt: 0,
            jf: 0,
            k,
        });
    }
}

/// A word as it is searched for.
const fn small(letters: [u8; 4]) -> u32 {
    u32::from_be_bytes(letters) | SMALL
}
