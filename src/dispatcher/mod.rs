//! Dispatcher sets: which destination takes a request.
//!
//! A choice depends on the key, the configuration and the selection key, and
//! on nothing else, so that every worker, every instance with the same secret
//! and every process after a restart chooses alike. The one exception says so:
//! [`Turns`], the memory of the round-robin policy.

mod kamailio;
mod slots;
mod turns;

use std::net::SocketAddr;

use siphasher::sip::SipHasher13;

use crate::config;
use crate::config::{Destination, Policy, State};

pub use kamailio::hash as kamailio_hash;
pub use slots::{Ranked, SLOTS, slot_of};
pub use turns::Turns;

/// All sets, ready for look-ups.
pub struct Dispatcher {
    sets: Vec<Set>,
    members: Members,
    selection_key: [u8; 16],
}

/// One set and its look-up table.
pub struct Set {
    definition: config::Set,
    table: Table,
}

enum Table {
    /// Destination by slot; `None` where no destination can take new work.
    Slots(Option<Box<[u16]>>),
    /// Destinations in Kamailio's order.
    Kamailio(Vec<u16>),
    /// In turn; [`Turns`] knows whose it is.
    Turns,
}

impl Dispatcher {
    /// Fills the tables. Takes about 30 ns for each destination and slot.
    #[must_use]
    pub fn new(sets: &[config::Set], selection_key: [u8; 16]) -> Self {
        let members = Members::new(sets);
        let sets = sets
            .iter()
            .map(|set| Set {
                definition: set.clone(),
                table: Table::new(set),
            })
            .collect();
        Self {
            sets,
            members,
            selection_key,
        }
    }

    /// The sets in the order of the configuration.
    #[must_use]
    pub fn sets(&self) -> &[Set] {
        &self.sets
    }

    /// The member that has `address`, as set and destination.
    #[inline]
    #[must_use]
    pub fn member(&self, address: SocketAddr) -> Option<(usize, usize)> {
        self.members.find(address)
    }

    /// The hash of a key: SipHash, keyed, so that nobody outside can choose
    /// Call-IDs that all meet one destination.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> u64 {
        SipHasher13::new_with_key(&self.selection_key).hash(key)
    }
}

impl Set {
    /// What the configuration says of it.
    #[must_use]
    pub fn definition(&self) -> &config::Set {
        &self.definition
    }

    /// The destination that takes a request, as an index; `None` where none
    /// can take any. `hash` is the key's; `call_id` is read by
    /// [`Policy::Kamailio`] alone.
    #[inline]
    pub fn choose(
        &self,
        set: usize,
        hash: u64,
        call_id: &[u8],
        turns: &mut Turns,
    ) -> Option<usize> {
        match &self.table {
            Table::Slots(slots) => slots
                .as_ref()
                .map(|slots| usize::from(slots[slot_of(hash)])),
            Table::Kamailio(order) => {
                kamailio::choose(order, &self.definition.destinations, call_id)
            }
            Table::Turns => turns.choose(set, &self.definition.destinations, hash),
        }
    }

    /// All destinations that can take new work in the order in which `slot` would
    /// fall to them, with what decided it.
    #[must_use]
    pub fn rank(&self, slot: usize) -> Vec<Ranked> {
        slots::rank(&self.definition.destinations, slot)
    }
}

impl Table {
    fn new(set: &config::Set) -> Self {
        match set.policy {
            Policy::Hash | Policy::Random => Self::Slots(slots::fill(&set.destinations)),
            Policy::Kamailio => Self::Kamailio(kamailio::order(&set.destinations)),
            Policy::RoundRobin => Self::Turns,
        }
    }
}

/// Finds a member by its address.
struct Members(Vec<(SocketAddr, u16, u16)>);

impl Members {
    fn new(sets: &[config::Set]) -> Self {
        let mut members: Vec<_> = sets
            .iter()
            .enumerate()
            .flat_map(|(s, set)| {
                let destinations = set.destinations.iter().enumerate();
                destinations.map(move |(d, dest)| (dest.address, s as u16, d as u16))
            })
            .collect();
        members.sort_unstable();
        members.dedup_by_key(|(address, ..)| *address);
        Self(members)
    }

    #[inline]
    fn find(&self, address: SocketAddr) -> Option<(usize, usize)> {
        let at = self
            .0
            .binary_search_by(|(member, ..)| member.cmp(&address))
            .ok()?;
        let (_, set, destination) = self.0[at];
        Some((set.into(), destination.into()))
    }
}

/// The highest priority that has a destination able to take new work.
fn top_priority(destinations: &[Destination]) -> Option<i32> {
    let able = destinations.iter().filter(|d| d.state == State::Active);
    able.map(|d| d.priority).max()
}
