//! A timer wheel: each transaction is in it once, with the earliest of its
//! times.

use super::slab::{NONE, Slab};
use super::table::Record;

/// Milliseconds from one slot to the next: how late a timer may fire.
const TICK: u64 = 8;
/// Slots; a time farther away than one turn of 32 seconds is met on the way.
const SLOTS: usize = 4096;

/// The slots, as lists through the records.
pub(super) struct Wheel {
    heads: Box<[u32; SLOTS]>,
    /// The last tick that was seen to.
    seen: u64,
    /// Nothing is due before this tick.
    free_until: u64,
}

/// Where a record is in the wheel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timer {
    before: u32,
    behind: u32,
    /// The tick that it is due at; 0: it is in no list.
    tick: u32,
}

impl Timer {
    pub(super) const NOWHERE: Self = Self {
        before: NONE,
        behind: NONE,
        tick: 0,
    };
}

impl Wheel {
    pub(super) fn new() -> Self {
        Self {
            heads: Box::new([NONE; SLOTS]),
            seen: 0,
            free_until: 0,
        }
    }

    /// Has record `at` come up at `due` or, where it is to come up before that
    /// already, leaves it there.
    pub(super) fn schedule(&mut self, records: &mut Slab<Record>, at: u32, due: u64) {
        let tick = due.div_ceil(TICK).max(self.seen + 1);
        self.free_until = self.free_until.min(tick);
        let tick = short(tick);
        let known = records[at].timer.tick;
        if known != 0 && is_by(known, tick) {
            return;
        }
        self.remove(records, at);
        let head = &mut self.heads[tick as usize % SLOTS];
        records[at].timer = Timer {
            before: NONE,
            behind: *head,
            tick,
        };
        if *head != NONE {
            records[*head].timer.before = at;
        }
        *head = at;
    }

    /// Takes record `at` out, where it is in.
    pub(super) fn remove(&mut self, records: &mut Slab<Record>, at: u32) {
        let Timer {
            before,
            behind,
            tick,
        } = std::mem::replace(&mut records[at].timer, Timer::NOWHERE);
        if tick == 0 {
            return;
        }
        match before {
            NONE => self.heads[tick as usize % SLOTS] = behind,
            before => records[before].timer.behind = behind,
        }
        if behind != NONE {
            records[behind].timer.before = before;
        }
    }

    /// Takes out all that are due at `now`, into `due`.
    pub(super) fn take(&mut self, records: &mut Slab<Record>, now: u64, due: &mut Vec<u32>) {
        let last = now / TICK;
        let ticks = last.saturating_sub(self.seen).min(SLOTS as u64);
        for tick in last - ticks + 1..=last {
            let mut at = self.heads[tick as usize % SLOTS];
            while at != NONE {
                let timer = records[at].timer;
                if is_by(timer.tick, short(last)) {
                    self.remove(records, at);
                    due.push(at);
                }
                at = timer.behind;
            }
        }
        self.seen = self.seen.max(last);
    }

    /// When something may be due next; at most one turn from now.
    pub(super) fn next(&mut self) -> u64 {
        let turn = self.seen + SLOTS as u64;
        let mut ticks = self.free_until.max(self.seen + 1)..turn;
        let next = ticks.find(|tick| self.heads[*tick as usize % SLOTS] != NONE);
        self.free_until = next.unwrap_or(turn);
        self.free_until * TICK
    }
}

/// A tick as it is kept with a record: it goes round after 397 days. 0 is left
/// out, for it stands for no list.
fn short(tick: u64) -> u32 {
    (tick as u32).max(1)
}

/// Whether `tick` is no later than `other`, less than half a round away.
fn is_by(tick: u32, other: u32) -> bool {
    other.wrapping_sub(tick) < 1 << 31
}
