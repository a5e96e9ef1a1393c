//! Dispatcher sets: which destination takes a request.
//!
//! A choice depends on the key, the configuration and the selection key, and
//! on nothing else, so that every worker, every instance with the same secret
//! and every process after a restart chooses alike. The one exception says so:
//! [`Turns`], the memory of the round-robin policy.

mod kamailio;
mod shares;
mod slots;
mod turns;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use siphasher::sip::SipHasher13;

use crate::config;
use crate::config::{Destination, Health, Policy, State};

pub use kamailio::hash as kamailio_hash;
use shares::Shares;
use slots::Slots;
pub use slots::{Ranked, SLOTS, identity, slot_of};
pub use turns::Turns;

/// All sets, ready for look-ups.
pub struct Dispatcher {
    sets: Vec<Arc<Set>>,
    /// What the next new set is known by.
    next_number: u16,
    members: Members,
    selection_key: [u8; 16],
}

/// One set and its look-up table.
pub struct Set {
    number: u16,
    definition: config::Set,
    shares: Shares,
    /// The priority that takes new work.
    top_priority: Option<i32>,
    table: Table,
    /// Its slots when every destination was well, for they will be so again.
    well: Option<Slots>,
}

enum Table {
    /// Destination by slot; `None` where no destination can take new work.
    Slots(Option<Slots>),
    /// Destinations in Kamailio's order.
    Kamailio(Vec<u16>),
    /// In turn; [`Turns`] knows whose it is.
    Turns,
}

impl Dispatcher {
    /// Fills the tables. Takes about 30 ns for each slot and destination that has
    /// to share: two seconds for a thousand.
    #[must_use]
    pub fn new(sets: &[config::Set], selection_key: [u8; 16]) -> Self {
        let none = Self {
            sets: Vec::new(),
            next_number: 0,
            members: Members::new(&[]),
            selection_key,
        };
        none.successor(sets)
    }

    /// The same for other sets. Those whose destinations take what they took share
    /// their tables; a destination that has changed costs a hundredth of a second.
    #[must_use]
    pub fn successor(&self, sets: &[config::Set]) -> Self {
        let mut next_number = self.next_number;
        let mut one = |set: &config::Set| {
            let mut known = self.sets.iter();
            match known.find(|known| known.definition.name == set.name) {
                Some(known) if known.definition == *set => Arc::clone(known),
                Some(known) => Arc::new(Set::new(known.number, set, Some(known))),
                None => {
                    let number = next_number;
                    next_number = number.wrapping_add(1);
                    Arc::new(Set::new(number, set, None))
                }
            }
        };
        Self {
            sets: sets.iter().map(&mut one).collect(),
            next_number,
            members: Members::new(sets),
            selection_key: self.selection_key,
        }
    }

    /// The place of the set that is known by `number`; `None`: it has gone.
    #[must_use]
    pub fn place_of(&self, number: u16) -> Option<usize> {
        self.sets.iter().position(|set| set.number == number)
    }

    /// The sets in the order of the configuration.
    #[must_use]
    pub fn sets(&self) -> &[Arc<Set>] {
        &self.sets
    }

    /// The member that has `address`, as set and destination.
    #[inline]
    #[must_use]
    pub fn member(&self, address: SocketAddr) -> Option<(usize, usize)> {
        self.members.find(address)
    }

    /// The same, in `set` where that has it.
    #[must_use]
    pub fn member_of(&self, set: usize, address: SocketAddr) -> Option<(usize, usize)> {
        let destinations = &self.sets.get(set)?.definition.destinations;
        let here = destinations.iter().position(|each| each.address == address);
        here.map(|at| (set, at)).or_else(|| self.member(address))
    }

    /// Who sends from `source`, where it is a member: a destination's address,
    /// or one of a set's member sources.
    #[inline]
    #[must_use]
    pub fn sender(&self, source: SocketAddr) -> Option<Sender> {
        let exact = self.members.find(source).is_some();
        if exact {
            return Some(Sender {
                id: identity(source),
            });
        }
        self.is_member_source(source.ip()).then(|| Sender {
            id: self.members.id_at(source.ip()),
        })
    }

    /// Whether a set's member sources hold `ip`.
    #[inline]
    #[must_use]
    pub fn is_member_source(&self, ip: IpAddr) -> bool {
        let mut sources = self.members.sources.iter();
        sources.any(|network| network.contains(&ip))
    }

    /// Whether the member source at `ip` is the [`Sender`] with this id.
    #[must_use]
    pub fn is_source(&self, ip: IpAddr, id: u64) -> bool {
        id == host_identity(ip) && self.is_member_source(ip)
    }

    /// The destination with this [`identity`], as set and index, where it is
    /// not disabled.
    #[inline]
    #[must_use]
    pub fn with_id(&self, id: u64) -> Option<(usize, usize)> {
        let by_id = &self.members.by_id;
        let at = by_id.binary_search_by_key(&id, |(id, ..)| *id).ok()?;
        let (_, set, destination) = by_id[at];
        let (set, destination) = (usize::from(set), usize::from(destination));
        let state = self.sets[set].definition.destinations[destination].state;
        (state != State::Disabled).then_some((set, destination))
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
    fn new(number: u16, definition: &config::Set, former: Option<&Self>) -> Self {
        let shares = Shares::new(definition);
        let table = Table::new(definition, &shares, former);
        let mut destinations = definition.destinations.iter();
        let well = match destinations.all(|each| each.health == Health::Up) {
            true => table.slots().cloned(),
            false => former.and_then(|former| former.well.clone()),
        };
        Self {
            number,
            table,
            well,
            top_priority: shares.top_priority(&definition.destinations),
            shares,
            definition: definition.clone(),
        }
    }

    /// What it is known by in all generations that have a set of its name,
    /// wherever that stands.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// What a destination counts for in new work: its weight, less while it
    /// comes back, 0 where it takes none; 1 where weights have no effect.
    #[must_use]
    pub fn share(&self, destination: usize) -> f64 {
        let priority = self.definition.destinations[destination].priority;
        // For Kamailio's algorithm priorities are an order alone.
        let takes =
            self.definition.policy == Policy::Kamailio || self.top_priority == Some(priority);
        if takes {
            self.shares.of(destination)
        } else {
            0.0
        }
    }

    /// Whether all its active destinations are down, and new work goes to
    /// them all the same.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.shares.open
    }

    /// What the configuration says of it.
    #[must_use]
    pub fn definition(&self) -> &config::Set {
        &self.definition
    }

    /// The destination that takes a request, as an index; `None` where none
    /// can take any. `at` is the index of the set itself, `hash` the key's;
    /// `call_id` is read by [`Policy::Kamailio`] alone, and by
    /// [`Policy::RoundRobin`] whether work `begins` with it, or it belongs to a
    /// request before it.
    #[inline]
    pub fn choose(
        &self,
        at: usize,
        hash: u64,
        call_id: &[u8],
        turns: &mut Turns,
        begins: impl FnOnce() -> bool,
    ) -> Option<usize> {
        match &self.table {
            Table::Turns => turns.choose(at, self, hash, begins),
            Table::Slots(_) | Table::Kamailio(_) => self.owner(hash, call_id),
        }
    }

    /// The same by the table alone: `None` for [`Policy::RoundRobin`].
    #[inline]
    #[must_use]
    pub fn owner(&self, hash: u64, call_id: &[u8]) -> Option<usize> {
        match &self.table {
            Table::Slots(slots) => slots.as_ref().map(|slots| slots.owner(slot_of(hash))),
            Table::Kamailio(order) => kamailio::choose(order, call_id, |i| self.shares.of(i) > 0.0),
            Table::Turns => None,
        }
    }

    /// The destination that [`Policy::Kamailio`] begins at, whether that takes new
    /// work or not; `None` for the others.
    #[must_use]
    pub fn first(&self, call_id: &[u8]) -> Option<usize> {
        match &self.table {
            Table::Kamailio(order) => kamailio::choose(order, call_id, |_| true),
            Table::Slots(_) | Table::Turns => None,
        }
    }

    /// The destination that takes a request where others are `passed` over:
    /// the first that is not, in the order in which it would fall to them.
    #[must_use]
    pub fn next(
        &self,
        hash: u64,
        call_id: &[u8],
        passed: impl Fn(&Destination) -> bool,
    ) -> Option<usize> {
        let destinations = &self.definition.destinations;
        match &self.table {
            Table::Kamailio(order) => {
                let able = |i: usize| self.shares.of(i) > 0.0 && !passed(&destinations[i]);
                kamailio::choose(order, call_id, able)
            }
            Table::Slots(_) | Table::Turns => {
                slots::first(destinations, &self.shares, slot_of(hash), passed)
            }
        }
    }

    /// Everything that its choices depend on, as text. The order of the file
    /// is left out where it does not matter.
    #[must_use]
    pub fn outline(&self) -> String {
        let config::Set {
            name,
            policy,
            hash_key,
            destinations,
            member_sources,
            named: _,
            when_all_down,
        } = &self.definition;
        let each = |(i, each): (usize, &Destination)| {
            let (address, priority, state) = (each.address, each.priority, each.state);
            format!("{address} {priority} {state:?} {}", self.shares.of(i))
        };
        let mut members: Vec<_> = destinations.iter().enumerate().map(each).collect();
        if matches!(policy, Policy::Hash | Policy::Random) {
            members.sort_unstable();
        }
        format!("{name:?} {policy:?} {hash_key:?} {members:?} {member_sources:?} {when_all_down:?}")
    }

    /// Whether it has a destination at `address`.
    #[must_use]
    pub fn has(&self, address: SocketAddr) -> bool {
        let mut destinations = self.definition.destinations.iter();
        destinations.any(|each| each.address == address)
    }

    /// All destinations that can take new work in the order in which `slot` would
    /// fall to them, with what decided it.
    #[must_use]
    pub fn rank(&self, slot: usize) -> Vec<Ranked> {
        slots::rank(&self.definition.destinations, &self.shares, slot)
    }
}

impl Table {
    fn new(set: &config::Set, shares: &Shares, former: Option<&Set>) -> Self {
        match set.policy {
            Policy::Hash | Policy::Random => {
                let formers = former.map(|former| [former.table.slots(), former.well.as_ref()]);
                let formers: Vec<_> = formers.into_iter().flatten().flatten().collect();
                Self::Slots(Slots::fill(&set.destinations, shares, &formers))
            }
            Policy::Kamailio => Self::Kamailio(kamailio::order(&set.destinations)),
            Policy::RoundRobin => Self::Turns,
        }
    }

    fn slots(&self) -> Option<&Slots> {
        match self {
            Self::Slots(slots) => slots.as_ref(),
            Self::Kamailio(_) | Self::Turns => None,
        }
    }
}

/// Who sends a request from within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The [`identity`] of the destination that it is; where it sends from
    /// another port, of the only one at its host; else one of the host alone.
    pub id: u64,
}

/// What a host is known by that is no one destination: none has port 0.
fn host_identity(ip: IpAddr) -> u64 {
    identity(SocketAddr::new(ip, 0))
}

/// Finds a member by its address, or by its [`identity`].
struct Members {
    by_address: Vec<(AddressKey, u16, u16)>,
    by_id: Vec<(u64, u16, u16)>,
    sources: Vec<IpNet>,
}

/// An address as two numbers, which are compared in half the time.
type AddressKey = (u128, u16);

#[inline]
fn address_key(address: SocketAddr) -> AddressKey {
    (ip_number(address.ip()), address.port())
}

/// An IP address as one number: IPv4 as IPv6 writes it.
#[inline]
#[must_use]
pub fn ip_number(ip: IpAddr) -> u128 {
    let ip = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    ip.to_bits()
}

impl Members {
    fn new(sets: &[config::Set]) -> Self {
        let members = sets.iter().enumerate().flat_map(|(s, set)| {
            let destinations = set.destinations.iter().enumerate();
            destinations.map(move |(d, destination)| (destination, s as u16, d as u16))
        });
        let mut members: Vec<_> = members.collect();
        // Of one that is in several sets, the place where it takes work.
        members
            .sort_by_key(|(each, ..)| (address_key(each.address), each.state == State::Disabled));
        members.dedup_by_key(|(each, ..)| address_key(each.address));
        let with_id = |&(each, s, d): &(&Destination, u16, u16)| (identity(each.address), s, d);
        let mut by_id: Vec<_> = members.iter().map(with_id).collect();
        by_id.sort_unstable();
        let with_address =
            |(each, s, d): (&Destination, u16, u16)| (address_key(each.address), s, d);
        let sources = sets.iter().flat_map(|set| &set.member_sources);
        Self {
            by_address: members.into_iter().map(with_address).collect(),
            by_id,
            sources: sources.copied().collect(),
        }
    }

    /// The identity of the only member at `ip`; that of the host where there is
    /// none, or more than one, of which nobody can tell which it is.
    fn id_at(&self, ip: IpAddr) -> u64 {
        let from = address_key(SocketAddr::new(ip, 0));
        let at = self.by_address.partition_point(|(key, ..)| *key < from);
        let mut found = self.by_address[at..].iter();
        let mut next = || found.next().filter(|((ip, _), ..)| *ip == from.0);
        match (next(), next()) {
            (Some(((_, port), ..)), None) => identity(SocketAddr::new(ip, *port)),
            _ => host_identity(ip),
        }
    }

    #[inline]
    fn find(&self, address: SocketAddr) -> Option<(usize, usize)> {
        let (key, members) = (address_key(address), &self.by_address);
        let at = members.binary_search_by_key(&key, |(key, ..)| *key).ok()?;
        let (_, set, destination) = members[at];
        Some((set.into(), destination.into()))
    }
}
