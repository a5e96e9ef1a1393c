//! The farm: what each destination gets, gives, and how it is.

use std::net::SocketAddr;

use super::page::Page;
use super::{Facts, Input};
use crate::config::text::Choice;
use crate::config::{Health, Named, State};
use crate::health::Probed;
use crate::worker::DestinationTotals;

pub(super) fn add(page: &mut Page, input: &Input<'_>) {
    add_sets(page, input.facts);
    add_names(page, input);
    add_state(page, input);
    add_traffic(page, &input.totals.destinations);
    add_probes(page, input.probes);
}

fn add_sets(page: &mut Page, facts: &Facts) {
    let sets = facts.proxy.dispatcher().sets().iter();
    page.gauges(
        "viaduct_set_open",
        "1 while all active destinations of a set are down and it sends new work to them all the \
         same (when-all-down).",
        ["set"],
        sets.map(|set| ([set.definition().name.clone()], set.is_open())),
    );
}

fn add_names(page: &mut Page, input: &Input<'_>) {
    let sets = input.facts.config.sets.iter();
    let names = sets.flat_map(|set| {
        set.named.iter().map(|Named { name, .. }| {
            let resolved = !input.unresolved.contains(name);
            ([set.name.clone(), name.to_string()], resolved)
        })
    });
    page.gauges(
        "viaduct_name_resolved",
        "0 where the last look-up of a name of destinations failed, so that it stays what it was; \
         1 otherwise.",
        ["set", "name"],
        names,
    );
}

/// The labels of a destination.
fn labels(set: &str, address: SocketAddr) -> [String; 2] {
    [set.to_owned(), address.to_string()]
}

const LABELS: [&str; 2] = ["set", "destination"];

fn add_state(page: &mut Page, input: &Input<'_>) {
    let sets = input.facts.proxy.dispatcher().sets().iter();
    let all = sets.flat_map(|set| {
        let definition = set.definition();
        let destinations = definition.destinations.iter().enumerate();
        destinations.map(|(at, each)| {
            let labels = labels(&definition.name, each.address);
            (labels, each, set.share(at))
        })
    });
    let all: Vec<_> = all.collect();
    page.gauges(
        "viaduct_destination_up",
        "0 where probes have found it down; 1 where it is up, or not probed.",
        LABELS,
        all.iter().map(|(labels, each, _)| {
            let up = each.health != Health::Down;
            (labels.clone(), up)
        }),
    );
    page.gauges(
        "viaduct_destination_weight",
        "Its weight for new work as it is now: a part of it while it warms up, 0 where it takes \
         none.",
        LABELS,
        all.iter()
            .map(|(labels, _, share)| (labels.clone(), *share)),
    );
    let states = all.iter().flat_map(|([set, address], each, _)| {
        State::NAMES.iter().map(|(name, state)| {
            let labels = [set.clone(), address.clone(), (*name).to_owned()];
            (labels, each.state == *state)
        })
    });
    page.gauges(
        "viaduct_destination_state",
        "1 for the state that an operator has given it, 0 for the others.",
        ["set", "destination", "state"],
        states,
    );
}

fn add_traffic(page: &mut Page, all: &[DestinationTotals]) {
    let of = |value: fn(&DestinationTotals) -> u64| {
        all.iter()
            .map(move |each| (labels(&each.set, each.address), value(each)))
    };
    page.counters(
        "viaduct_destination_requests",
        "Requests sent to it.",
        LABELS,
        of(|each| each.requests),
    );
    page.counters(
        "viaduct_destination_retransmissions",
        "Requests sent to it once more, at least; what is remembered is bounded.",
        LABELS,
        of(|each| each.retransmitted),
    );
    let responses = all.iter().flat_map(|each| {
        let [set, address] = labels(&each.set, each.address);
        let classes = each.responses.iter();
        classes.map(move |(class, n)| ([set.clone(), address.clone(), (*class).to_owned()], *n))
    });
    page.counters(
        "viaduct_destination_responses",
        "Responses from it that were sent on, or that a transaction took in, by class.",
        ["set", "destination", "class"],
        responses,
    );
    page.counters(
        "viaduct_destination_suspected",
        "Times that a transaction found it silent, unreachable or busy.",
        LABELS,
        of(|each| each.suspected),
    );
    let ages = |value: fn(&DestinationTotals) -> Option<u64>| {
        all.iter()
            .filter_map(move |each| Some((labels(&each.set, each.address), value(each)?)))
    };
    page.gauges(
        "viaduct_destination_last_seen_age_seconds",
        "Time since a message came from it that was sent on, or that a transaction took in; absent before the first.",
        LABELS,
        ages(|each| each.last_seen),
    );
    page.gauges(
        "viaduct_destination_last_in_dialog_age_seconds",
        "Time since a request within a dialog went to it or came from it; absent before the first.",
        LABELS,
        ages(|each| each.last_in_dialog),
    );
}

fn add_probes(page: &mut Page, all: &[Probed]) {
    let outcomes = all.iter().flat_map(|each| {
        let [set, address] = labels(&each.set, each.address);
        let outcomes = [
            ("answered", each.counts.answered),
            ("failed", each.counts.failed),
        ];
        outcomes.map(|(name, n)| {
            let labels = [set.clone(), address.clone(), name.to_owned()];
            (labels, n)
        })
    });
    page.counters(
        "viaduct_destination_probes",
        "Probes of it that have ended, by outcome.",
        ["set", "destination", "outcome"],
        outcomes,
    );
    let round_trips = all.iter();
    page.histograms(
        "viaduct_destination_probe_seconds",
        "Time from a probe to its response.",
        LABELS,
        round_trips.map(|each| (labels(&each.set, each.address), &each.round_trips)),
    );
}
