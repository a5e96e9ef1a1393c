//! Flags, environment and file become one [`Config`].
//!
//! A flag goes before the environment (which the command line has merged
//! into the flags already), the environment before the file, the file before
//! the default. What values say of each other is checked in `validate`.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ipnet::IpNet;

use super::diagnostic::{Fault, Origin, Report, Source};
use super::dispatcher_list::{self, Entry};
use super::file::{Draft, ListenerDraft, Members, SetDraft};
use super::member::Member;
use super::operation::{OperationDraft, OperationSettings};
use super::stateful::StatefulDraft;
use super::table::Placed;
use super::validate;
use super::{Advertise, Config, Gso, HashKey, Policy, Set, StatefulSettings, Steer};

/// What to take where neither flag nor file says otherwise.
const DEFAULT_BATCH: usize = 256;
/// Also what `auto` stands for. With 50,000 messages a second it takes a
/// quarter off the time for each, and the p99 of a passage stays at 0.76 ms;
/// 800 gains nothing more.
pub(super) const DEFAULT_COALESCE: Duration = Duration::from_micros(600);
const DEFAULT_BUFFER: usize = 4 << 20;
const DEFAULT_REPLY_RATE: u32 = 100;
/// As long as a call may ring: Timer C (RFC 3261 §16.6 item 11).
const DEFAULT_SECOND_CHANCE: Duration = Duration::from_secs(180);
/// The name of the set that flags make.
const FLAG_SET: &str = "default";

/// Settings that a flag and a key of the file have in common.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// See [`Config::workers`]; the default is one for each usable core.
    pub workers: Option<usize>,
    /// See [`Config::steer`]; the default is [`Steer::CallId`].
    pub steer: Option<Steer>,
    /// See [`Config::pin`]; the default is true.
    pub pin: Option<bool>,
    /// See [`Config::batch`]; the default is 256.
    pub batch: Option<usize>,
    /// See [`Config::gso`]; the default is [`Gso::Pad`].
    pub gso: Option<Gso>,
    /// See [`Config::coalesce`]; the default is 600 microseconds.
    pub coalesce: Option<Duration>,
    /// See [`Config::spin`]; the default is 0.
    pub spin: Option<Duration>,
    /// See [`Config::receive_buffer`]; the default is 4 MiB.
    pub receive_buffer: Option<usize>,
    /// See [`Config::send_buffer`]; the default is 4 MiB.
    pub send_buffer: Option<usize>,
    /// See [`Config::secret_file`].
    pub secret_file: Option<PathBuf>,
    /// See [`Config::reply_rate`]; the default is 100.
    pub reply_rate: Option<u32>,
    /// See [`Config::resolve`]; the default is false.
    pub resolve: Option<bool>,
    /// See [`Config::resolvers`]; the default is none.
    pub resolvers: Option<Vec<SocketAddr>>,
    /// See [`Config::second_chance`]; the default is 180 seconds.
    pub second_chance: Option<Duration>,
    /// See [`Config::allowed_next_hops`]; the default is none.
    pub allow_next_hop: Option<Vec<IpNet>>,
    /// [`Listener::record_route`](super::Listener::record_route) of listeners
    /// that do not say; the default is false.
    pub record_route: Option<bool>,
    /// [`Listener::path`](super::Listener::path) of listeners that do not say;
    /// the default is false.
    pub path: Option<bool>,
}

/// What flags and environment say; it goes before the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Listeners instead of those of the file.
    pub listen: Vec<SocketAddr>,
    /// What the one listener advertises.
    pub advertise: Option<Advertise>,
    /// Members of one set instead of the sets of the file.
    pub to: Vec<Member>,
    /// A `dispatcher.list` with the destinations of that set.
    pub dispatcher_list: Option<PathBuf>,
    /// The set id to take from it; the lowest where none is given.
    pub set: Option<u32>,
    /// For sets that name no policy; the default is [`Policy::Hash`].
    pub policy: Option<Policy>,
    /// For sets that name no hash key; the default is [`HashKey::CallId`].
    pub hash_key: Option<HashKey>,
    /// What is relayed with a transaction, and how.
    pub stateful: StatefulSettings,
    /// Probes, the admin API, the mirror, logs.
    pub operation: OperationSettings,
    /// The rest.
    pub settings: Settings,
}

/// Reads a file whole; the one thing here that may touch the file system.
pub(super) type Reader<'r> = &'r dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// Merges and checks; without errors in the report there is a `Config`.
pub(super) fn merge(
    draft: Draft,
    base: &Path,
    overrides: &Overrides,
    cores: usize,
    reader: Reader<'_>,
    report: &mut Report,
) -> Option<Config> {
    let flags = &overrides.settings;
    let file = draft.settings;
    let advertise = from_flag("--advertise", overrides.advertise.clone()).or(draft.advertise);
    let listeners = listeners(overrides, draft.listeners, report);
    let on_path = validate::OnPath {
        record_route: flags.record_route.or(file.record_route).unwrap_or(false),
        path: flags.path.or(file.path).unwrap_or(false),
    };
    let listeners = validate::listeners(listeners, advertise, on_path, report);

    let policy = from_flag("--policy", overrides.policy).or(draft.policy);
    let hash_key = from_flag("--hash-key", overrides.hash_key.clone()).or(draft.hash_key);
    let operation = OperationDraft::of_flags(&overrides.operation).over(draft.operation);
    operation.check_health(report);
    let mut sets = Vec::new();
    for set in set_drafts(overrides, draft.sets, report) {
        let members = members(set.members, base, reader, report);
        let default = || Placed::new(Policy::Hash, Origin::Nowhere);
        let policy = set
            .policy
            .or_else(|| policy.clone())
            .unwrap_or_else(default);
        let own_key = set.hash_key.is_some();
        let default = || Placed::new(HashKey::CallId, Origin::Nowhere);
        let hash_key = set
            .hash_key
            .or_else(|| hash_key.clone())
            .unwrap_or_else(default);
        validate::choice(&set.name.value, policy.value, &hash_key, own_key, report);
        validate::members(&set.name, policy.value, &members, &listeners, report);
        let mut made = Set {
            name: set.name.value,
            policy: policy.value,
            hash_key: hash_key.value,
            destinations: Vec::new(),
            named: Vec::new(),
            member_sources: set.member_sources,
            when_all_down: operation.when_all_down(set.when_all_down),
        };
        let probes = operation.probes(set.health, report);
        for member in members {
            let probe = probes.of(&member, report);
            member.value.join(&mut made, probe);
        }
        sets.push(Placed::new(made, set.name.origin));
    }
    let routes = validate::routes(draft.routes, &sets, &listeners, report);
    let stateful = StatefulDraft::of_flags(&overrides.stateful).over(draft.stateful);
    let stateful = stateful.finish(base, &sets, report);
    validate::sets(&sets, &routes, &stateful.on_failure, report);
    let admin = operation.admin(base, report);
    let mirror = operation.mirror(&listeners, report);

    let config = Config {
        listeners,
        sets: sets.into_iter().map(|set| set.value).collect(),
        routes,
        allowed_next_hops: flags
            .allow_next_hop
            .clone()
            .or(file.allow_next_hop)
            .unwrap_or_default(),
        workers: flags.workers.or(file.workers).unwrap_or(cores),
        steer: flags.steer.or(file.steer).unwrap_or(Steer::CallId),
        pin: flags.pin.or(file.pin).unwrap_or(true),
        batch: flags.batch.or(file.batch).unwrap_or(DEFAULT_BATCH),
        gso: flags.gso.or(file.gso).unwrap_or(Gso::Pad),
        coalesce: flags.coalesce.or(file.coalesce).unwrap_or(DEFAULT_COALESCE),
        spin: flags.spin.or(file.spin).unwrap_or_default(),
        receive_buffer: flags
            .receive_buffer
            .or(file.receive_buffer)
            .unwrap_or(DEFAULT_BUFFER),
        send_buffer: flags
            .send_buffer
            .or(file.send_buffer)
            .unwrap_or(DEFAULT_BUFFER),
        secret_file: flags
            .secret_file
            .clone()
            .or_else(|| file.secret_file.map(|path| base.join(path))),
        reply_rate: flags
            .reply_rate
            .or(file.reply_rate)
            .unwrap_or(DEFAULT_REPLY_RATE),
        resolve: flags.resolve.or(file.resolve).unwrap_or(false),
        resolvers: flags
            .resolvers
            .clone()
            .or(file.resolvers)
            .unwrap_or_default(),
        second_chance: flags
            .second_chance
            .or(file.second_chance)
            .unwrap_or(DEFAULT_SECOND_CHANCE),
        stateful,
        admin,
        mirror,
        log: operation.log(),
        stop_timeout: operation.stop_timeout(),
    };
    (report.errors() == 0).then_some(config)
}

fn from_flag<T>(flag: &'static str, value: Option<T>) -> Option<Placed<T>> {
    value.map(|value| Placed::new(value, Origin::Flag(flag)))
}

fn listeners(
    overrides: &Overrides,
    file: Option<Vec<ListenerDraft>>,
    report: &mut Report,
) -> Vec<ListenerDraft> {
    if overrides.listen.is_empty() {
        if file.is_none() {
            let help = "add `listen = [\"192.0.2.10:5060\"]` to the file, or give --listen 192.0.2.10:5060";
            report.error(
                &Origin::Nowhere,
                Fault::new("there is no listener").help(help),
            );
        }
        return file.unwrap_or_default();
    }
    let listener =
        |address: &SocketAddr| ListenerDraft::at(Placed::new(*address, Origin::Flag("--listen")));
    overrides.listen.iter().map(listener).collect()
}

fn set_drafts(
    overrides: &Overrides,
    file: Option<Vec<SetDraft>>,
    report: &mut Report,
) -> Vec<SetDraft> {
    let (origin, members) = if let Some(path) = &overrides.dispatcher_list {
        let origin = Origin::Flag("--dispatcher-list");
        let path = Placed::new(path.clone(), origin.clone());
        (origin, Members::List(path, overrides.set))
    } else if !overrides.to.is_empty() {
        let origin = Origin::Flag("--to");
        let place = |to: &Member| Placed::new(to.clone(), origin.clone());
        (
            origin.clone(),
            Members::Here(overrides.to.iter().map(place).collect()),
        )
    } else {
        if file.is_none() {
            let help = "add a [[set]] to the file, or give --to 10.0.0.11:5060";
            report.error(
                &Origin::Nowhere,
                Fault::new("there is no destination").help(help),
            );
        }
        return file.unwrap_or_default();
    };
    let name = Placed::new(FLAG_SET.to_owned(), origin);
    vec![SetDraft {
        name,
        policy: None,
        hash_key: None,
        members,
        member_sources: Vec::new(),
        health: None,
        when_all_down: None,
    }]
}

/// The members of a set, from where they are written. A path in the file is
/// relative to the file.
fn members(
    members: Members,
    base: &Path,
    reader: Reader<'_>,
    report: &mut Report,
) -> Vec<Placed<Member>> {
    let (path, id) = match members {
        Members::Here(members) => return members,
        Members::List(path, id) => (path, id),
    };
    let file = match path.origin {
        Origin::File(..) => base.join(&path.value),
        Origin::Flag(_) | Origin::Nowhere => path.value,
    };
    let wanted = |ids: &BTreeSet<u32>| id.or_else(|| ids.first().copied());
    let entries = list_entries(&file, &path.origin, reader, wanted, report);
    entries.into_iter().map(|entry| entry.member).collect()
}

/// The entries of a `dispatcher.list`, of the set that `wanted` chooses from
/// its ids, or all; that there is none of them is an error.
pub(super) fn list_entries(
    file: &Path,
    origin: &Origin,
    reader: Reader<'_>,
    wanted: impl FnOnce(&BTreeSet<u32>) -> Option<u32>,
    report: &mut Report,
) -> Vec<Entry> {
    let octets = reader(file).map_err(|error| unreadable(file, &error));
    let Some(octets) = report.check(origin, octets) else {
        return Vec::new();
    };
    // Comments may be in any encoding; what is read must be ASCII anyway.
    let source = Source::new(file, String::from_utf8_lossy(&octets).into_owned());
    let ids = dispatcher_list::set_ids(source.text());
    let wanted = wanted(&ids);
    let faults = report.errors();
    let entries = dispatcher_list::read(&source, wanted, report);
    if report.errors() > faults {
        return entries;
    }
    if ids.is_empty() {
        let fault = Fault::new(format!("`{}` has no destinations", file.display()));
        report.error(
            origin,
            fault.help("add a line such as `1 sip:10.0.0.11:5060`"),
        );
    } else if let Some(wanted) = wanted.filter(|wanted| !ids.contains(wanted)) {
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        let fault = Fault::new(format!("`{}` has no set {wanted}", file.display()));
        report.error(origin, fault.help(format!("it has {}", ids.join(", "))));
    }
    entries
}

/// The text of a TOML file.
pub(super) fn text(file: &Path, reader: Reader<'_>, report: &mut Report) -> Option<Rc<Source>> {
    let origin = Origin::Flag("--config");
    let octets = report.check(
        &origin,
        reader(file).map_err(|error| unreadable(file, &error)),
    )?;
    match String::from_utf8(octets) {
        Ok(text) => Some(Source::new(file, text)),
        Err(error) => {
            let place = error.utf8_error().valid_up_to()..error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let origin = Origin::File(Source::new(file, text), place);
            report.error(&origin, Fault::new("the file is not UTF-8").why("TOML is"));
            None
        }
    }
}

fn unreadable(file: &Path, error: &io::Error) -> Fault {
    Fault::new(format!("cannot read `{}`", file.display())).why(error.to_string())
}
