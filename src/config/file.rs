//! The TOML file: text in, a draft out whose every value is well formed.
//!
//! What one value can say by itself is checked here, also where a flag goes
//! before it; what values say of each other is checked in `merge`.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use ipnet::IpNet;

use super::diagnostic::{Fault, Origin, Report, Source};
use super::member::Member;
use super::merge::Settings;
use super::methods;
use super::operation::{HealthSettings, OperationDraft};
use super::stateful::{self, OnFailureDraft, StatefulDraft};
use super::table::{Item, Placed, Section};
use super::text;
use super::{
    BATCHES, HashKey, HostPort, Policy, RATES, SECOND_CHANCES, WAITS, WORKERS, WhenAllDown,
};

/// What flags and file say; what neither does is `None`, or not there.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// `None`: nothing is said about listeners, good or bad.
    pub(super) listeners: Option<Vec<ListenerDraft>>,
    pub(super) advertise: Option<Placed<HostPort>>,
    /// For sets that name none.
    pub(super) policy: Option<Placed<Policy>>,
    /// For sets that name none.
    pub(super) hash_key: Option<Placed<HashKey>>,
    pub(super) settings: Settings,
    pub(super) stateful: StatefulDraft,
    pub(super) on_failure: Vec<OnFailureDraft>,
    pub(super) operation: OperationDraft,
    /// `None`: nothing is said about sets, good or bad.
    pub(super) sets: Option<Vec<SetDraft>>,
    pub(super) routes: Vec<RouteDraft>,
}

/// A `[[listener]]`, or one entry of `listen`.
#[derive(Debug)]
pub(super) struct ListenerDraft {
    pub(super) name: Option<Placed<String>>,
    pub(super) address: Placed<SocketAddr>,
    pub(super) advertise: Option<HostPort>,
    pub(super) also_known_as: Vec<HostPort>,
    pub(super) proxy_protocol: Vec<Placed<IpNet>>,
    pub(super) record_route: Option<bool>,
    pub(super) path: Option<bool>,
    pub(super) egress: Vec<Placed<IpNet>>,
}

impl ListenerDraft {
    /// A listener of which nothing but its address is said.
    pub(super) fn at(address: Placed<SocketAddr>) -> Self {
        Self {
            name: None,
            address,
            advertise: None,
            also_known_as: Vec::new(),
            proxy_protocol: Vec::new(),
            record_route: None,
            path: None,
            egress: Vec::new(),
        }
    }
}

/// A `[[set]]`.
#[derive(Debug)]
pub(super) struct SetDraft {
    pub(super) name: Placed<String>,
    pub(super) policy: Option<Placed<Policy>>,
    pub(super) hash_key: Option<Placed<HashKey>>,
    pub(super) members: Members,
    pub(super) member_sources: Vec<Placed<IpNet>>,
    pub(super) health: Option<Placed<HealthSettings>>,
    pub(super) when_all_down: Option<WhenAllDown>,
}

impl SetDraft {
    /// A set of which nothing but its members is said.
    pub(super) fn of(name: Placed<String>, members: Members) -> Self {
        Self {
            name,
            policy: None,
            hash_key: None,
            members,
            member_sources: Vec::new(),
            health: None,
            when_all_down: None,
        }
    }
}

/// Where the destinations of a set are written.
#[derive(Debug)]
pub(super) enum Members {
    /// In the file or in flags.
    Here(Vec<Placed<Member>>),
    /// In a `dispatcher.list`, under this set id or the lowest one.
    List(Placed<PathBuf>, Option<u32>),
}

/// A `[[route]]`.
#[derive(Debug)]
pub(super) struct RouteDraft {
    pub(super) origin: Origin,
    pub(super) set: Placed<String>,
    pub(super) methods: Vec<String>,
    pub(super) hosts: Vec<String>,
    pub(super) user_prefixes: Vec<String>,
    pub(super) sources: Vec<IpNet>,
    pub(super) listeners: Vec<Placed<String>>,
    pub(super) record_route: Option<bool>,
    pub(super) follow: Option<Placed<()>>,
}

/// Reads a whole file into what the draft of the `flags` leaves open; `None`
/// where its syntax is broken.
pub(super) fn read(source: &Rc<Source>, flags: Draft, report: &mut Report) -> Option<Draft> {
    let mut top = Section::document(source, report)?;
    let listened = top.has("listen") || top.has("listener");
    let has_sets = top.has("set");
    let mut listeners = Vec::new();
    let before = report.errors();
    for address in parse_all(&mut top, "listen", text::listen_address, report) {
        listeners.push(ListenerDraft::at(address));
    }
    if report.errors() > before {
        report.lacking.push("listener");
    }
    for section in top.sections("listener", "[[listener]]", report) {
        let listener = listener(section, report);
        listeners.extend(report.or_lacking("listener", listener));
    }
    let advertise = parse(&mut top, "advertise", text::advertise, report);
    let policy = parse(&mut top, "policy", text::choice, report);
    let hash_key = parse(&mut top, "hash-key", text::hash_key, report);
    let settings = flags.settings.or_file(&mut top, report);
    let stateful = flags.stateful.or_file(&mut top, report);
    let on_failure = stateful::on_failure(&mut top, report);
    let operation = flags.operation.or_file(&mut top, report);
    let sets = top.sections("set", "[[set]]", report);
    let sets = sets
        .into_iter()
        .filter_map(|section| {
            let set = set(section, report);
            report.or_lacking("set", set)
        })
        .collect();
    let routes = top.sections("route", "[[route]]", report);
    let routes = routes
        .into_iter()
        .filter_map(|section| route(section, report))
        .collect();
    // A slip of the key is told of by itself.
    let listened = listened || top.misspells("listen") || top.misspells("listener");
    let has_sets = has_sets || top.misspells("set");
    let listeners = listened.then_some(listeners);
    let sets = has_sets.then_some(sets);
    top.finish_document(report);
    Some(Draft {
        listeners: flags.listeners.or(listeners),
        advertise: flags.advertise.or(advertise),
        policy: flags.policy.or(policy),
        hash_key: flags.hash_key.or(hash_key),
        settings,
        stateful,
        on_failure,
        operation,
        sets: flags.sets.or(sets),
        routes,
    })
}

impl Settings {
    /// What is said in `self`, or else in the file.
    #[expect(
        clippy::or_fun_call,
        reason = "what the file says is checked also where a flag goes before it"
    )]
    fn or_file(self, top: &mut Section<'_>, report: &mut Report) -> Self {
        let octets = |key, top: &mut Section<'_>, report: &mut Report| {
            let size = top
                .take(key)?
                .parse_number_or_string(text::octets, report)?;
            Some(size.value)
        };
        let coalesce = integer(top, "coalesce-us", WAITS, report);
        let spin = integer(top, "spin-us", WAITS, report);
        let second_chance = integer(top, "second-chance-s", SECOND_CHANCES, report);
        let secret_file = top.take("secret-file").and_then(|item| item.path(report));
        let resolvers = list(top, "resolver", text::resolver, report);
        let allow_next_hop = list(top, "allow-next-hop", text::network, report);
        Self {
            workers: self.workers.or(integer(top, "workers", WORKERS, report)),
            steer: self.steer.or(value(top, "steer", text::choice, report)),
            pin: self.pin.or(boolean(top, "pin", report)),
            batch: self.batch.or(integer(top, "batch", BATCHES, report)),
            gso: self.gso.or(value(top, "gso", text::choice, report)),
            coalesce: self.coalesce.or(coalesce.map(Duration::from_micros)),
            spin: self.spin.or(spin.map(Duration::from_micros)),
            receive_buffer: self
                .receive_buffer
                .or(octets("receive-buffer", top, report)),
            send_buffer: self.send_buffer.or(octets("send-buffer", top, report)),
            secret_file: self.secret_file.or(secret_file),
            reply_rate: self
                .reply_rate
                .or(integer(top, "reply-rate", RATES, report)),
            resolve: self.resolve.or(boolean(top, "resolve", report)),
            resolvers: self.resolvers.or(resolvers.map(values)),
            second_chance: self
                .second_chance
                .or(second_chance.map(Duration::from_secs)),
            allow_next_hop: self.allow_next_hop.or(allow_next_hop),
            record_route: self.record_route.or(boolean(top, "record-route", report)),
            path: self.path.or(boolean(top, "path", report)),
        }
    }
}

pub(super) fn boolean(
    section: &mut Section<'_>,
    key: &'static str,
    report: &mut Report,
) -> Option<bool> {
    section.take(key)?.boolean(report)
}

pub(super) fn integer<T: TryFrom<i64> + PartialOrd + Display>(
    section: &mut Section<'_>,
    key: &'static str,
    range: RangeInclusive<T>,
    report: &mut Report,
) -> Option<T> {
    let placed = section.take(key)?.integer(range, report);
    placed.map(|placed| placed.value)
}

/// An empty list is a list: it takes away what the default would allow.
pub(super) fn list<T>(
    section: &mut Section<'_>,
    key: &'static str,
    parser: impl Fn(&str) -> Result<T, Fault>,
    report: &mut Report,
) -> Option<Vec<Placed<T>>> {
    let items = section.take(key)?.any_number(report).into_iter();
    let values = items.filter_map(|item| item.parse_number_or_string(&parser, report));
    Some(values.collect())
}

fn listener(mut section: Section<'_>, report: &mut Report) -> Option<ListenerDraft> {
    let name = section.take("name").and_then(|item| item.text(report));
    let address = section.require("address", report);
    let address = address.and_then(|item| item.parse(text::listen_address, report));
    let advertise = value(&mut section, "advertise", text::advertise, report);
    let also_known_as = parse_all(&mut section, "also-known-as", text::advertise, report);
    let proxy_protocol = parse_all(&mut section, "proxy-protocol", text::network, report);
    let record_route = boolean(&mut section, "record-route", report);
    let path = boolean(&mut section, "path", report);
    let egress = parse_all(&mut section, "egress", text::network, report);
    section.finish(report);
    Some(ListenerDraft {
        name,
        address: address?,
        advertise,
        also_known_as: values(also_known_as),
        proxy_protocol,
        record_route,
        path,
        egress,
    })
}

fn set(mut section: Section<'_>, report: &mut Report) -> Option<SetDraft> {
    let name = section
        .require("name", report)
        .and_then(|item| item.text(report));
    let policy = parse(&mut section, "policy", text::choice, report);
    let hash_key = parse(&mut section, "hash-key", text::hash_key, report);
    let members = members(&mut section, report);
    let member_sources = parse_all(&mut section, "member-sources", text::network, report);
    let health = HealthSettings::take(&mut section, report);
    let when_all_down = value(&mut section, "when-all-down", text::choice, report);
    section.finish(report);
    Some(SetDraft {
        name: name?,
        policy,
        hash_key,
        members,
        member_sources,
        health,
        when_all_down,
    })
}

fn members(section: &mut Section<'_>, report: &mut Report) -> Members {
    let destinations = section.take("destinations");
    let list = section.take("dispatcher-list");
    let id = section
        .take("id")
        .and_then(|item| item.integer(0..=u32::MAX, report));
    if let (None, Some(id)) = (&list, &id) {
        let fault = Fault::new("`id` without `dispatcher-list`");
        let fault = fault.why("it chooses a set of a dispatcher.list");
        report.error(&id.origin, fault);
    }
    match (destinations, list) {
        (Some(_), Some(list)) => {
            let fault = Fault::new("both `destinations` and `dispatcher-list`");
            report.error(&list.origin, fault.help("keep one of them"));
        }
        (None, None) => {
            let fault = Fault::new("the set has no destinations");
            let help = "add `destinations = [\"10.0.0.11:5060\"]` or `dispatcher-list = \"path\"`";
            report.error(&section.origin, fault.help(help));
        }
        (None, Some(list)) => {
            if let Some(path) = list.path(report) {
                return Members::List(path, id.map(|id| id.value));
            }
        }
        (Some(item), None) => {
            let items = item.one_or_many(report).into_iter();
            return Members::Here(items.filter_map(|item| member(item, report)).collect());
        }
    }
    Members::Here(Vec::new())
}

fn member(item: Item<'_>, report: &mut Report) -> Option<Placed<Member>> {
    if !item.is_table() {
        return item.parse(text::member, report);
    }
    let mut section = item.section("a destination", report)?;
    let member = section
        .require("uri", report)
        .and_then(|item| item.parse(text::member, report));
    let weight = section
        .take("weight")
        .and_then(|item| item.integer_or(text::WEIGHTS, text::WEIGHT_HELP, report));
    let priority = section
        .take("priority")
        .and_then(|item| item.integer(i32::MIN..=i32::MAX, report));
    let state = parse(&mut section, "state", text::choice, report);
    let health = HealthSettings::take(&mut section, report);
    let origin = section.origin.clone();
    section.finish(report);

    let mut member = member?.value;
    add("weight", weight, &mut member.weight, report);
    add("priority", priority, &mut member.priority, report);
    add("state", state, &mut member.state, report);
    member.health = health.map(|health| health.value).unwrap_or_default();
    Some(Placed::new(member, origin))
}

/// Sets a field from its key, which must not stand in the URI too.
fn add<T>(key: &str, given: Option<Placed<T>>, field: &mut Option<T>, report: &mut Report) {
    let Some(given) = given else {
        return;
    };
    if field.replace(given.value).is_some() {
        let fault = Fault::new(format!("`{key}` is given here and in the URI"));
        report.error(&given.origin, fault.help("keep one of them"));
    }
}

fn route(mut section: Section<'_>, report: &mut Report) -> Option<RouteDraft> {
    let set = section
        .require("set", report)
        .and_then(|item| item.text(report));
    let methods = parse_all(&mut section, "method", text::method, report);
    let all = "leave `method` out, and the route claims all of them";
    methods::notice_slips(&methods, all, report);
    let hosts = parse_all(&mut section, "host", host, report);
    let user_prefixes = parse_all(&mut section, "user-prefix", user_prefix, report);
    for prefix in &user_prefixes {
        notice_slip(prefix, report);
    }
    let sources = parse_all(&mut section, "source", text::network, report);
    let listeners = parse_all(&mut section, "listener", |name| Ok(name.to_owned()), report);
    let record_route = boolean(&mut section, "record-route", report);
    let follow = parse(&mut section, "follow", follow, report);
    let origin = section.origin.clone();
    section.finish(report);
    Some(RouteDraft {
        origin,
        set: set?,
        methods: values(methods),
        hosts: values(hosts),
        user_prefixes: values(user_prefixes),
        sources: values(sources),
        listeners,
        record_route,
        follow,
    })
}

fn follow(text: &str) -> Result<(), Fault> {
    match text {
        "replaces" => Ok(()),
        text => Err(Fault::new(format!("`{text}` cannot be followed")).help("write `replaces`")),
    }
}

/// A host in lower case; an IPv6 address stands in brackets.
fn host(text: &str) -> Result<String, Fault> {
    let advertise = text::advertise(text).map_err(|fault| {
        match text::host_port(text).map(|(host, _)| text::ip_literal(host)) {
            Ok(Ok(ip)) if !text::is_one_host(ip) => {
                Fault::new(format!("`{text}` is no host of a Request-URI"))
                    .why("no request can be sent to it")
                    .help("give a host that requests name, or leave `host` out")
            }
            _ => fault,
        }
    })?;
    match advertise.port {
        None => Ok(advertise.host.to_ascii_lowercase()),
        Some(_) => {
            Err(Fault::new("a host condition has no port")
                .help(format!("write `{}`", advertise.host)))
        }
    }
}

fn user_prefix(text: &str) -> Result<String, Fault> {
    match text {
        text if text.trim_matches(['-', '.', '(', ')']).is_empty() => Err(Fault::new(
            "an empty prefix holds always, as do the separators of a number",
        )
        .help("leave `user-prefix` out")),
        text => Ok(text.to_owned()),
    }
}

/// Warns of a prefix that hardly any user part begins with.
fn notice_slip(prefix: &Placed<String>, report: &mut Report) {
    let text = &prefix.value;
    let is_scheme = |name: &&str| ["sip", "sips", "tel"].contains(&&*name.to_ascii_lowercase());
    let scheme = text.split_once(':').map(|(scheme, _)| scheme);
    let fault = if let Some(scheme) = scheme.filter(is_scheme) {
        Fault::new(format!("`{text}` begins with a scheme"))
            .why("the user part is what stands behind it")
            .help(format!("leave out `{scheme}:`"))
    } else if let Some(sign) = text.chars().find(|sign| " \"<>@".contains(*sign)) {
        Fault::new(format!(
            "no user part of a SIP URI has `{sign}` in it as it is"
        ))
        .why("it could only be escaped there")
        .help(format!("leave it out, or write `%{:02X}`", sign as u32))
    } else {
        return;
    };
    report.warning(&prefix.origin, fault);
}

pub(super) fn parse<T>(
    section: &mut Section<'_>,
    key: &'static str,
    parser: impl Fn(&str) -> Result<T, Fault>,
    report: &mut Report,
) -> Option<Placed<T>> {
    section.take(key)?.parse(parser, report)
}

/// The same, where nobody asks for its place.
pub(super) fn value<T>(
    section: &mut Section<'_>,
    key: &'static str,
    parser: impl Fn(&str) -> Result<T, Fault>,
    report: &mut Report,
) -> Option<T> {
    parse(section, key, parser, report).map(|placed| placed.value)
}

pub(super) fn parse_all<T>(
    section: &mut Section<'_>,
    key: &'static str,
    parser: impl Fn(&str) -> Result<T, Fault>,
    report: &mut Report,
) -> Vec<Placed<T>> {
    let item = section.take(key);
    item.map(|item| item.parse_all(parser, report))
        .unwrap_or_default()
}

pub(super) fn values<T>(placed: Vec<Placed<T>>) -> Vec<T> {
    placed.into_iter().map(|placed| placed.value).collect()
}
