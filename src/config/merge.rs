//! Flags, environment and file become one [`Config`].
//!
//! A flag goes before the environment (which the command line has merged
//! into the flags already), the environment before the file, the file before
//! the default: the flags make a draft, the file is read into what that leaves
//! open, and the rest gets its default here. What values say of each other is
//! checked in `validate`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ipnet::IpNet;

use super::diagnostic::{Fault, Origin, Report, Source};
use super::dispatcher_list::List;
use super::file::{Draft, ListenerDraft, Members, SetDraft};
use super::member::Member;
use super::operation::OperationDraft;
use super::stateful::StatefulDraft;
use super::table::Placed;
use super::text::first_few;
use super::validate;
use super::{Config, Gso, HashKey, HostPort, Listener, Policy, Set, Steer};

/// What to take where neither flag nor file says otherwise.
const DEFAULT_BATCH: usize = 256;
/// With 50,000 messages a second it takes a quarter off the time for each, and
/// the p99 of a passage stays at 0.76 ms; 800 gains nothing more.
const DEFAULT_COALESCE: Duration = Duration::from_micros(600);
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
    pub secret_file: Option<Placed<PathBuf>>,
    /// See [`Config::reply_rate`]; the default is 100.
    pub reply_rate: Option<u32>,
    /// See [`Config::resolve`]; the default is false.
    pub resolve: Option<bool>,
    /// See [`Config::resolvers`]; the default is none.
    pub resolvers: Option<Vec<SocketAddr>>,
    /// See [`Config::second_chance`]; the default is 180 seconds.
    pub second_chance: Option<Duration>,
    /// See [`Config::allowed_next_hops`]; the default is none.
    pub allow_next_hop: Option<Vec<Placed<IpNet>>>,
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
    /// The flag that names the file; `--config` where none is given.
    pub file_flag: Option<&'static str>,
    /// Listeners instead of those of the file.
    pub listen: Vec<SocketAddr>,
    /// What the one listener advertises.
    pub advertise: Option<HostPort>,
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
    pub stateful: StatefulDraft,
    /// Probes, the admin API, the mirror, logs.
    pub operation: OperationDraft,
    /// The rest.
    pub settings: Settings,
}

/// Reads a file whole. Nothing else here asks the system for anything, but for
/// the working folder, from which the path of a socket is measured.
pub(super) type Reader<'r> = &'r dyn Fn(&Path) -> io::Result<Vec<u8>>;

impl Overrides {
    /// The same in the form of a file that says no more.
    pub(super) fn draft(&self, report: &mut Report) -> Draft {
        let listeners = self.listen.iter().copied();
        let listeners = listeners.map(Placed::by_flag("--listen"));
        let listeners: Vec<_> = listeners.map(ListenerDraft::at).collect();
        Draft {
            listeners: Some(listeners).filter(|listeners| !listeners.is_empty()),
            advertise: self.advertise.clone().map(Placed::by_flag("--advertise")),
            policy: self.policy.map(Placed::by_flag("--policy")),
            hash_key: self.hash_key.clone().map(Placed::by_flag("--hash-key")),
            settings: self.settings.clone(),
            stateful: self.stateful.clone(),
            on_failure: Vec::new(),
            operation: self.operation.clone(),
            sets: self.set_draft(report).map(|set| vec![set]),
            routes: Vec::new(),
        }
    }

    fn set_draft(&self, report: &mut Report) -> Option<SetDraft> {
        if self.set.is_some() && self.dispatcher_list.is_none() {
            let fault = Fault::new("there is no dispatcher.list to take the set from");
            let help = "give --dispatcher-list FILE too, or leave out --set and VIADUCT_SET";
            report.error(&Origin::Flag("--set"), fault.help(help));
        }
        let (flag, members) = if let Some(path) = self.dispatcher_list.clone() {
            let flag = "--dispatcher-list";
            (flag, Members::List(Placed::by_flag(flag)(path), self.set))
        } else if !self.to.is_empty() {
            let members = self.to.iter().cloned().map(Placed::by_flag("--to"));
            ("--to", Members::Here(members.collect()))
        } else {
            return None;
        };
        let name = Placed::by_flag(flag)(FLAG_SET.to_owned());
        Some(SetDraft::of(name, members))
    }
}

/// Takes the defaults for what a draft leaves open, and checks; without errors
/// in the report there is a `Config`.
pub(super) fn finish(
    mut draft: Draft,
    base: &Path,
    cores: usize,
    reader: Reader<'_>,
    report: &mut Report,
) -> Option<Config> {
    let settings = std::mem::take(&mut draft.settings);
    let listeners = draft.listeners.take().ok_or_else(|| {
        let help =
            "add `listen = [\"192.0.2.10:5060\"]` to the file, or give --listen 192.0.2.10:5060";
        Fault::new("there is no listener").help(help)
    });
    let listeners = report.check(&Origin::Nowhere, listeners);
    let listeners = listeners.unwrap_or_default();
    let listened = listeners.first().map(|first| first.address.origin.clone());
    let listeners = validate::listeners(listeners, draft.advertise.take(), &settings, report);

    draft.operation.check_health(report);
    let drafts = draft.sets.take().ok_or_else(|| {
        let help = "add a [[set]] to the file, or give --to 10.0.0.11:5060";
        Fault::new("there is no destination").help(help)
    });
    let drafts = report.check(&Origin::Nowhere, drafts);
    let drafts = drafts.unwrap_or_default().into_iter();
    let mut lists = Lists::new(reader);
    let sets = drafts.map(|each| set(each, &draft, &listeners, base, &mut lists, report));
    let sets: Vec<_> = sets.collect();
    let operation = draft.operation;
    let routes = validate::routes(draft.routes, &sets, &listeners, listened.as_ref(), report);
    let stateful = draft.stateful.finish(draft.on_failure, base, &sets, report);
    validate::sets(&sets, &routes, &stateful.on_failure, report);
    let admin = operation.admin(base, report);
    let mirror = operation.mirror(&listeners, report);

    let config = Config {
        listeners,
        sets: sets.into_iter().map(|set| set.value).collect(),
        routes,
        allowed_next_hops: validate::relayed(
            settings.allow_next_hop.unwrap_or_default(),
            "allows every next hop",
            report,
        ),
        workers: settings.workers.unwrap_or(cores),
        steer: settings.steer.unwrap_or(Steer::CallId),
        pin: settings.pin.unwrap_or(true),
        batch: settings.batch.unwrap_or(DEFAULT_BATCH),
        gso: settings.gso.unwrap_or(Gso::Pad),
        coalesce: settings.coalesce.unwrap_or(DEFAULT_COALESCE),
        spin: settings.spin.unwrap_or_default(),
        receive_buffer: settings.receive_buffer.unwrap_or(DEFAULT_BUFFER),
        send_buffer: settings.send_buffer.unwrap_or(DEFAULT_BUFFER),
        secret_file: settings.secret_file.map(|path| path.within(base)),
        reply_rate: settings.reply_rate.unwrap_or(DEFAULT_REPLY_RATE),
        resolve: settings.resolve.unwrap_or(false),
        resolvers: settings.resolvers.unwrap_or_default(),
        second_chance: settings.second_chance.unwrap_or(DEFAULT_SECOND_CHANCE),
        stateful,
        admin,
        mirror,
        log: operation.log(),
        stop_timeout: operation.stop_timeout(),
    };
    (report.errors() == 0).then_some(config)
}

/// A set, which goes by what `general` says for all where it does not say.
pub(super) fn set(
    draft: SetDraft,
    general: &Draft,
    listeners: &[Listener],
    base: &Path,
    lists: &mut Lists<'_>,
    report: &mut Report,
) -> Placed<Set> {
    let members = match draft.members {
        Members::Here(members) => members,
        Members::List(path, id) => lists.members(&path.within(base), &path.origin, id, report),
    };
    let policy = draft.policy.or_else(|| general.policy.clone());
    let policy = policy.unwrap_or_else(|| Placed::new(Policy::Hash, Origin::Nowhere));
    let own_key = draft.hash_key.is_some();
    let default = || Placed::new(HashKey::CallId, Origin::Nowhere);
    let hash_key = draft.hash_key.or_else(|| general.hash_key.clone());
    let hash_key = hash_key.unwrap_or_else(default);
    validate::choice(&draft.name.value, &policy, &hash_key, own_key, report);
    let hash_key = match policy.value {
        Policy::Hash | Policy::Kamailio => hash_key.value,
        // What is remembered of a call, or drawn for it, goes by its Call-ID.
        Policy::RoundRobin | Policy::Random => HashKey::CallId,
    };
    validate::members(&draft.name, &policy, &members, listeners, report);
    let networks = draft.member_sources;
    let mut set = Set {
        name: draft.name.value,
        policy: policy.value,
        hash_key,
        destinations: Vec::new(),
        named: Vec::new(),
        member_sources: validate::relayed(networks, "takes everybody for a member", report),
        when_all_down: general.operation.when_all_down(draft.when_all_down),
    };
    let probes = general.operation.probes(draft.health, report);
    for member in members {
        let probe = probes.of(&member, report);
        member.value.join(&mut set, probe);
    }
    Placed::new(set, draft.name.origin)
}

/// The `dispatcher.list`s of a configuration. Each is read once: sets that share
/// it are to see it in one state, and there may be hundreds.
pub(super) struct Lists<'r> {
    reader: Reader<'r>,
    known: BTreeMap<PathBuf, List>,
}

impl<'r> Lists<'r> {
    pub(super) fn new(reader: Reader<'r>) -> Self {
        let known = BTreeMap::new();
        Self { reader, known }
    }

    /// The ids of its sets; that there is none is an error.
    pub(super) fn ids(&mut self, file: &Path, origin: &Origin, report: &mut Report) -> Vec<u32> {
        let list = self.list(file, origin, report);
        list.into_iter().flat_map(List::ids).collect()
    }

    /// The members of the set `id`, or of that with the lowest; that there is no
    /// such set is an error.
    pub(super) fn members(
        &mut self,
        file: &Path,
        origin: &Origin,
        id: Option<u32>,
        report: &mut Report,
    ) -> Vec<Placed<Member>> {
        let Some(list) = self.list(file, origin, report) else {
            return Vec::new();
        };
        let Some(lowest) = list.ids().next() else {
            return Vec::new();
        };
        let wanted = id.unwrap_or(lowest);
        let members = list.members(wanted, report);
        if members.is_none() && list.is_whole {
            let fault = Fault::new(format!("`{}` has no set {wanted}", file.display()));
            let help = format!("it has {}", first_few(list.ids()));
            report.error(origin, fault.help(help));
        }
        members.unwrap_or_default()
    }

    fn list(&mut self, file: &Path, origin: &Origin, report: &mut Report) -> Option<&List> {
        Some(match self.known.entry(file.to_owned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let octets = (self.reader)(file).map_err(|error| unreadable(file, &error));
                let octets = report.check(origin, octets)?;
                // Comments may be in any encoding; what is read must be ASCII anyway.
                let text = String::from_utf8_lossy(&octets).into_owned();
                let list = List::new(Source::new(file, text), report);
                if list.ids().next().is_none() && list.is_whole {
                    let fault = Fault::new(format!("`{}` has no destinations", file.display()));
                    report.error(
                        origin,
                        fault.help("add a line such as `1 sip:10.0.0.11:5060`"),
                    );
                }
                place.insert(list)
            }
        })
    }
}

/// The text of a TOML file, which `origin` names.
pub(super) fn text(
    file: &Path,
    origin: &Origin,
    reader: Reader<'_>,
    report: &mut Report,
) -> Option<Rc<Source>> {
    let octets = report.check(
        origin,
        reader(file).map_err(|error| unreadable(file, &error)),
    )?;
    match String::from_utf8(octets) {
        Ok(text) => Some(Source::new(file, text)),
        Err(error) => {
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let length = text.len();
            let source = Source::new(file, text);
            // The source has no mark before it.
            let at = error.utf8_error().valid_up_to() - (length - source.text().len());
            let fault = Fault::new("the file is not UTF-8").why("TOML is");
            report.error(
                &Origin::File(source, at..at),
                fault.help("save it as UTF-8"),
            );
            None
        }
    }
}

fn unreadable(file: &Path, error: &io::Error) -> Fault {
    Fault::new(format!("cannot read `{}`", file.display()))
        .why(error.to_string())
        .help("name a file that is there, and that the user of this process may read")
}
