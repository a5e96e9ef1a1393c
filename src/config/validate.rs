//! What values say of each other: names, addresses, policies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use ipnet::IpNet;

use super::diagnostic::{Fault, Origin, Report};
use super::file::{ListenerDraft, RouteDraft};
use super::member::{Host, Member};
use super::merge::Settings;
use super::table::Placed;
use super::text;
use super::{HashKey, HostPort, Listener, OnFailure, Policy, Route, SOCKET_PATH_MAX, Set, State};

/// The most destinations of a set: a slot table names one by 16 bits, and one
/// value is left over.
pub const MAX_DESTINATIONS: usize = 65_535;
/// A branch names a listener by 8 bits.
const MAX_LISTENERS: usize = 256;

/// Names the listeners, and gives them what they advertise and what
/// `settings` say of those that do not say.
pub(super) fn listeners(
    drafts: Vec<ListenerDraft>,
    advertise: Option<Placed<HostPort>>,
    settings: &Settings,
    report: &mut Report,
) -> Vec<Listener> {
    if let Some(excess) = drafts.get(MAX_LISTENERS) {
        let fault = Fault::new(format!("there are {} listeners", drafts.len()));
        report.error(
            &excess.address.origin,
            fault.why(format!("{MAX_LISTENERS} is the most")),
        );
    }
    let advertise = match (drafts.len(), advertise) {
        (2.., Some(advertise)) => {
            let fault = Fault::new("one advertised address for several listeners")
                .why("each needs its own, to which responses are sent")
                .help("give each [[listener]] of the file its `advertise`");
            report.error(&advertise.origin, fault);
            None
        }
        (_, advertise) => advertise,
    };
    let mut listeners: Vec<Listener> = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let listener = listener(&draft, advertise.as_ref(), settings, report);
        let name_origin = draft
            .name
            .as_ref()
            .map_or(&draft.address.origin, |name| &name.origin);
        egress(&draft, &listeners, report);
        for other in &listeners {
            if other.address == listener.address && listener.address.port() != 0 {
                let fault = Fault::new(format!("`{}` is listened on twice", listener.address));
                report.error(&draft.address.origin, fault.help("remove one"));
            } else if other.name == listener.name {
                let fault = Fault::new(format!("two listeners are named `{}`", listener.name));
                let help = match name_origin {
                    Origin::Flag(_) => {
                        "give each a port of its own, or a `name`, as a [[listener]] of the file"
                    }
                    _ => "give each [[listener]] a `name` of its own",
                };
                report.error(name_origin, fault.help(help));
            }
        }
        listeners.push(listener);
    }
    listeners
}

fn listener(
    draft: &ListenerDraft,
    advertise: Option<&Placed<HostPort>>,
    settings: &Settings,
    report: &mut Report,
) -> Listener {
    let address = draft.address.value;
    // A flag goes before the file; a listener's own key before the top level's.
    let general = advertise.map(|advertise| advertise.value.clone());
    let advertise = match advertise.map(|advertise| &advertise.origin) {
        Some(Origin::Flag(_)) => general,
        _ => draft.advertise.clone().or(general),
    };
    if address.ip().is_unspecified() && advertise.is_none() {
        let fault = Fault::new(format!(
            "`{address}` listens on every address and advertises none"
        ))
        .why("its Via must say one address that responses are sent to (RFC 3261 §18.1.1)")
        .help("add `advertise = \"host\"` (or --advertise), or listen on one address");
        report.error(&draft.address.origin, fault);
    }
    Listener {
        name: draft
            .name
            .as_ref()
            .map_or_else(|| address.to_string(), |name| name.value.clone()),
        address,
        advertise,
        also_known_as: draft.also_known_as.clone(),
        proxy_protocol: front_balancers(draft, report),
        record_route: draft
            .record_route
            .or(settings.record_route)
            .unwrap_or(false),
        path: draft.path.or(settings.path).unwrap_or(false),
        egress: draft.egress.iter().map(|network| network.value).collect(),
    }
}

/// Checks that a listener can send to the networks that leave by it, and that
/// no listener before it has them.
fn egress(draft: &ListenerDraft, before: &[Listener], report: &mut Report) {
    let bound = draft.address.value;
    for Placed {
        value: network,
        origin,
    } in &draft.egress
    {
        let mut before = before.iter();
        if network.addr().is_ipv4() != bound.is_ipv4() {
            let fault = Fault::new(format!("nothing leaves by `{bound}` to `{network}`"));
            report.warning(origin, fault.why("it is of the other address family"));
        } else if bound.ip().is_loopback() && !network.addr().is_loopback() {
            let fault = Fault::new(format!("nothing leaves by `{bound}` to `{network}`"));
            report.warning(
                origin,
                fault.why("from a loopback address this machine alone is reached"),
            );
        } else if let Some(other) = before.find(|other| other.egress.contains(network)) {
            let what = format!("`{network}` leaves by listener `{}` already", other.name);
            let fault = Fault::new(what).why("of the same network the first one counts");
            report.warning(origin, fault.help("remove one"));
        }
    }
}

/// Checks that front balancers can reach their listener and are not everybody.
fn front_balancers(draft: &ListenerDraft, report: &mut Report) -> Vec<IpNet> {
    let bound = draft.address.value;
    for Placed {
        value: network,
        origin,
    } in &draft.proxy_protocol
    {
        if network.addr().is_ipv4() != bound.is_ipv4() {
            let fault = Fault::new(format!("nothing comes from `{network}` to `{bound}`"));
            report.warning(origin, fault.why("it is of the other address family"));
        } else if network.prefix_len() == 0 {
            let fault = Fault::new(format!("`{network}` takes everybody for a front balancer"))
                .why("anybody could say that a datagram came from anywhere")
                .help("give the addresses of the front balancers");
            report.warning(origin, fault);
        }
    }
    let networks = draft.proxy_protocol.iter();
    networks.map(|network| network.value).collect()
}

/// Checks that `networks`, which `what` says the part of, are not everybody.
pub(super) fn relayed(networks: Vec<Placed<IpNet>>, what: &str, report: &mut Report) -> Vec<IpNet> {
    for everybody in networks.iter().filter(|net| net.value.prefix_len() == 0) {
        let fault = Fault::new(format!("`{}` {what}", everybody.value))
            .why("anybody could have requests sent to any host: an open relay")
            .help("give the networks that are meant");
        report.warning(&everybody.origin, fault);
    }
    networks.into_iter().map(|network| network.value).collect()
}

/// Checks that a Unix socket can have this path, which `run` makes absolute.
pub(super) fn socket_path(path: &Path, what: &str, origin: &Origin, report: &mut Report) {
    let absolute = std::path::absolute(path);
    let octets = absolute.as_deref().unwrap_or(path).as_os_str().len();
    if octets > SOCKET_PATH_MAX {
        let fault = Fault::new(format!("the path of {what} has {octets} octets"))
            .why(format!("a Unix socket's has {SOCKET_PATH_MAX} at most"))
            .help("give a shorter one");
        report.error(origin, fault);
    }
}

/// Checks that policy and hash key go together.
pub(super) fn choice(
    set: &str,
    policy: &Placed<Policy>,
    hash_key: &Placed<HashKey>,
    own_key: bool,
    report: &mut Report,
) {
    let name = text::name(&policy.value);
    match policy.value {
        Policy::Kamailio if hash_key.value != HashKey::CallId => {
            let key = text::hash_key_name(&hash_key.value);
            let fault = Fault::new(format!(
                "policy `kamailio` of set `{set}` cannot hash `{key}`"
            ))
            .why("it is Kamailio's algorithm 0, which hashes the Call-ID")
            .help(format!(
                "use {}, or {}",
                setting(&hash_key.origin, "hash-key", "call-id"),
                setting(&policy.origin, "policy", "hash")
            ));
            report.error(&hash_key.origin, fault);
        }
        Policy::RoundRobin | Policy::Random if own_key => {
            let fault = Fault::new(format!("the hash key has no effect with policy `{name}`"));
            report.warning(&hash_key.origin, fault.help("leave out `hash-key`"));
        }
        Policy::Hash | Policy::Kamailio | Policy::RoundRobin | Policy::Random => {}
    }
}

/// How a setting is written where another value of it stands at `origin`.
fn setting(origin: &Origin, key: &str, value: &str) -> String {
    match origin {
        Origin::Flag(_) => format!("`--{key} {value}`"),
        _ => format!("`{key} = \"{value}\"`"),
    }
}

/// Checks the members of a set against each other and the listeners.
pub(super) fn members(
    set: &Placed<String>,
    policy: &Placed<Policy>,
    members: &[Placed<Member>],
    listeners: &[Listener],
    report: &mut Report,
) {
    if let Some(excess) = members.get(MAX_DESTINATIONS) {
        let fault = Fault::new(format!(
            "set `{}` has {} destinations",
            set.value,
            members.len()
        ));
        report.error(
            &excess.origin,
            fault.why(format!("{MAX_DESTINATIONS} is the most")),
        );
    }
    let mut seen = BTreeMap::new();
    for placed in members {
        let Member { uri, host, .. } = &placed.value;
        if let Some(other) = seen.insert(host, uri) {
            let fault = Fault::new(format!("`{host}` is in set `{}` twice", set.value))
                .why(format!("`{other}` is the same"))
                .help(match policy.value {
                    Policy::Kamailio => "remove one; by policy `kamailio` all have the same share",
                    _ => "remove one; for a greater share give it a `weight`",
                });
            report.error(&placed.origin, fault);
        }
        if let Host::Address(address) = *host {
            reachable(address, &placed.origin, listeners, report);
            no_front_balancer(address, &placed.origin, listeners, report);
        }
    }
    not_from_loopback(members, listeners, report);
    let active = |placed: &Placed<Member>| {
        let state = placed.value.state;
        state.is_none_or(|state| state == State::Active)
    };
    if !members.is_empty() && !members.iter().any(active) {
        let fault = Fault::new(format!("no destination of set `{}` is active", set.value))
            .why("its new requests will be answered 503 unless a failure rule takes them");
        report.warning(&set.origin, fault);
    }
    let mend = format!("use {}", setting(&policy.origin, "policy", "hash"));
    let weighs = |placed: &&Placed<Member>| placed.value.weight.is_some_and(|weight| weight != 1);
    let weighted = members.iter().find(weighs);
    if let (Policy::Kamailio, Some(weighted)) = (policy.value, weighted) {
        let fault = Fault::new("the weight has no effect with policy `kamailio`")
            .why("Kamailio's algorithm 0 gives all destinations the same share");
        report.warning(&weighted.origin, fault.help(&*mend));
    }
    let priority = |placed: &Placed<Member>| placed.value.priority.unwrap_or(0);
    let differs = |placed: &&Placed<Member>| priority(placed) != priority(&members[0]);
    if let (Policy::Kamailio, Some(ranked)) = (policy.value, members.iter().find(differs)) {
        let fault = Fault::new("the priority gives no precedence with policy `kamailio`")
            .why("Kamailio's algorithm 0 only numbers destinations by it");
        report.warning(&ranked.origin, fault.help(mend));
    }
}

fn family(address: SocketAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn of_family(address: SocketAddr, listeners: &[Listener]) -> impl Iterator<Item = &Listener> {
    let is_same = move |own: &&Listener| own.address.is_ipv4() == address.is_ipv4();
    listeners.iter().filter(is_same)
}

/// Warns of the first destination that only loopback addresses could send to: it
/// is reached where it is another address of this machine.
fn not_from_loopback(members: &[Placed<Member>], listeners: &[Listener], report: &mut Report) {
    let elsewhere = |placed: &Placed<Member>| match placed.value.host {
        Host::Address(address) if !address.ip().is_loopback() => {
            let mut able = of_family(address, listeners).peekable();
            let is_cut_off =
                able.peek().is_some() && able.all(|own| own.address.ip().is_loopback());
            is_cut_off.then(|| (address, placed.origin.clone()))
        }
        _ => None,
    };
    if !report.lacks("listener")
        && let Some((address, origin)) = members.iter().find_map(elsewhere)
    {
        let why = format!("every {} listener has a loopback address", family(address));
        let fault = Fault::new(format!(
            "no listener can send to `{address}` on another machine"
        ))
        .why(why)
        .help("listen on an address that the destinations are reached from");
        report.warning(&origin, fault);
    }
}

/// Checks that a destination is not ourselves and that we can send to it.
fn reachable(address: SocketAddr, origin: &Origin, listeners: &[Listener], report: &mut Report) {
    if let Some(own) = listeners.iter().find(|own| own.receives(address)) {
        let fault = Fault::new(format!("`{address}` is our own listener `{}`", own.name))
            .why("requests would come back to us until Max-Forwards ends them")
            .help("name a SIP server behind us");
        report.error(origin, fault);
    }
    let is_told = listeners.is_empty() || report.lacks("listener");
    if !is_told && of_family(address, listeners).next().is_none() {
        let family = family(address);
        let fault = Fault::new(format!("no listener can send to `{address}`"))
            .why(format!("none has an {family} address"))
            .help(format!("add an {family} listener"));
        report.error(origin, fault);
    }
}

/// Checks that a destination is not taken for a front balancer.
fn no_front_balancer(
    address: SocketAddr,
    origin: &Origin,
    listeners: &[Listener],
    report: &mut Report,
) {
    let takes = |listener: &&Listener| {
        let mut networks = listener.proxy_protocol.iter();
        networks.any(|network| network.contains(&address.ip()))
    };
    if let Some(listener) = listeners.iter().find(takes) {
        let fault = Fault::new(format!(
            "`{address}` lies within `proxy-protocol` of listener `{}`",
            listener.name
        ))
        .why("what it sends there is dropped unless it begins with a PROXY protocol header")
        .help("name the front balancers alone in `proxy-protocol`");
        report.warning(origin, fault);
    }
}

/// Turns the names in routes into indices. `listened` is where the first
/// listener came from.
pub(super) fn routes(
    drafts: Vec<RouteDraft>,
    sets: &[Placed<Set>],
    listeners: &[Listener],
    listened: Option<&Origin>,
    report: &mut Report,
) -> Vec<Route> {
    let set_names: Vec<&str> = sets.iter().map(|set| set.value.name.as_str()).collect();
    let set_origin = sets.first().map(|set| &set.origin);
    let listener_names: Vec<&str> = listeners.iter().map(|each| each.name.as_str()).collect();
    let mut routes: Vec<Route> = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let set = position("set", &draft.set.value, &set_names, set_origin);
        let set = report.check_name("set", &draft.set.origin, set);
        let found = draft.listeners.iter().map(|name| {
            let found = position("listener", &name.value, &listener_names, listened);
            // None of that number: no condition would be another rule.
            let found = report.check_name("listener", &name.origin, found);
            found.unwrap_or(usize::MAX)
        });
        let route = Route {
            listeners: found.collect(),
            set: set.unwrap_or_default(),
            methods: draft.methods,
            hosts: draft.hosts,
            user_prefixes: draft.user_prefixes,
            sources: draft.sources,
            record_route: draft.record_route,
            follow_replaces: draft.follow.is_some(),
        };
        if let (Some(follow), Some(set)) = (&draft.follow, set) {
            followable(&sets[set].value, &follow.origin, report);
        }
        let taken = routes.iter().position(|before| claims_all(before, &route));
        if let Some(before) = taken {
            let why = format!(
                "the first route that matches is taken, and number {} matches whatever this one does",
                before + 1
            );
            let fault = Fault::new("this route is never reached").why(why);
            report.warning(&draft.origin, fault.help("move it up, or leave it out"));
        } else {
            splits_calls(&route, &draft.origin, report);
        }
        routes.push(route);
    }
    routes
}

/// Checks that CANCEL and ACK are not claimed without their INVITE.
fn splits_calls(route: &Route, origin: &Origin, report: &mut Report) {
    let names = |method: &str| route.methods.iter().any(|each| each == method);
    let torn = ["CANCEL", "ACK"].into_iter().find(|method| names(method));
    if let (Some(method), false) = (torn, names("INVITE")) {
        let fault = Fault::new(format!("this route claims {method} without its INVITE"))
            .why("the two may go to different servers: the one with the call never hears of it")
            .help(format!(
                "leave {method} out: a route for INVITE claims it too"
            ));
        report.warning(origin, fault);
    }
}

/// Checks that a set places a dialog by its Call-ID, by which it is followed.
fn followable(set: &Set, origin: &Origin, report: &mut Report) {
    let why = match (set.policy, &set.hash_key) {
        (Policy::Hash | Policy::Kamailio, HashKey::CallId) => return,
        (Policy::Hash | Policy::Kamailio, key) => {
            format!("it hashes `{}`", text::hash_key_name(key))
        }
        (policy, _) => format!("its policy is `{}`", text::name(&policy)),
    };
    let fault = Fault::new(format!(
        "`follow` does not lead to the dialogs of set `{}`",
        set.name
    ));
    let fault = fault.why(format!("the Call-ID does not place them: {why}"));
    let help = "use `policy = \"hash\"` and `hash-key = \"call-id\"`, or leave out `follow`";
    report.warning(origin, fault.help(help));
}

/// Whether `wide` matches whatever `narrow` does.
fn claims_all(wide: &Route, narrow: &Route) -> bool {
    covers(&wide.methods, &narrow.methods, String::eq)
        && covers(&wide.hosts, &narrow.hosts, String::eq)
        && covers(&wide.user_prefixes, &narrow.user_prefixes, |short, long| {
            long.starts_with(short)
        })
        && covers(&wide.sources, &narrow.sources, |whole, part| {
            whole.contains(part)
        })
        && covers(&wide.listeners, &narrow.listeners, usize::eq)
}

/// Whether each of `narrow` is within one of `wide`; an empty list holds all.
fn covers<T>(wide: &[T], narrow: &[T], holds: impl Fn(&T, &T) -> bool) -> bool {
    let is_within = |part| wide.iter().any(|whole| holds(whole, part));
    wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(is_within))
}

/// The place of a name among those that there are. `origin` is where the first
/// of them came from: a flag replaces all that the file has.
pub(super) fn position(
    kind: &str,
    name: &str,
    names: &[&str],
    origin: Option<&Origin>,
) -> Result<usize, Fault> {
    let found = names.iter().position(|known| *known == name);
    found.ok_or_else(|| {
        let mut fault = Fault::new(format!("there is no {kind} `{name}`")).suggest(name, names);
        if let Some(Origin::Flag(flag)) = origin {
            let variable = flag.replace("--", "VIADUCT_").replace('-', "_");
            let variable = variable.to_uppercase();
            fault = fault.why(format!(
                "{flag} (or {variable}) stands in place of the {kind}s of the file"
            ));
        }
        fault.or_help(|| match names {
            [] => format!("add a [[{kind}]] with this name"),
            names => format!("there are: {}", text::first_few(names)),
        })
    })
}

/// Checks that the names of sets differ and that all are used.
pub(super) fn sets(
    sets: &[Placed<Set>],
    routes: &[Route],
    on_failure: &[OnFailure],
    report: &mut Report,
) {
    let by_routes = routes.iter().map(|route| route.set);
    let by_failures = on_failure.iter().map(|rule| rule.set);
    let used: BTreeSet<usize> = by_routes.chain(by_failures).collect();
    let mut seen = BTreeSet::new();
    for (index, placed) in sets.iter().enumerate() {
        let name = &placed.value.name;
        if !seen.insert(name) {
            let fault = Fault::new(format!("two sets are named `{name}`"));
            report.error(&placed.origin, fault.help("rename one"));
        } else if index > 0 && !used.contains(&index) {
            let fault = Fault::new(format!("no route leads to set `{name}`"))
                .why("the first set takes what no route claims");
            report.warning(
                &placed.origin,
                fault.help(format!("add a [[route]] with `set = \"{name}\"`")),
            );
        }
    }
}
