//! What in the traffic makes a destination suspect, and what does not.

use std::time::Duration;

use viaduct::health::{Judge, Sample};

/// What a judge says of samples a quarter of a second apart.
fn judged(samples: impl IntoIterator<Item = (u64, u64, u64)>) -> Vec<Option<&'static str>> {
    let mut judge = Judge::new(Sample::default(), Duration::ZERO);
    let samples = samples.into_iter().zip(1..);
    samples
        .map(|((requests, responses, suspected), quarter)| {
            let sample = Sample {
                requests,
                responses,
                suspected,
            };
            judge.look(sample, Duration::from_millis(250 * quarter))
        })
        .collect()
}

#[test]
fn a_second_of_requests_without_responses_makes_suspect() {
    let silent = judged((1..=12).map(|quarter| (quarter * 2, 0, 0)));
    let quarters: Vec<_> = (1..=12).filter(|n| silent[n - 1].is_some()).collect();
    assert_eq!(quarters, [4, 8, 12]);
    // What it answered before it died does not count for it.
    let died = judged((1..=12).map(|quarter| (quarter * 2, quarter.min(6) * 2, 0)));
    assert_eq!(died[7], None);
    assert!(died[11].is_some());
}

#[test]
fn five_requests_say_something_and_one_response_to_ten_is_as_good_as_none() {
    for (requests, responses, is_suspect) in [
        (4, 0, false),
        (5, 0, true),
        (9, 1, false),
        (10, 1, true),
        (20, 2, true),
        (20, 3, false),
    ] {
        let judged = judged((1..=4).map(|_| (requests, responses, 0)));
        assert_eq!(judged[3].is_some(), is_suspect, "{requests}, {responses}");
    }
}

#[test]
fn what_answers_or_is_hardly_asked_is_not_suspect() {
    let answers = (1..=40).map(|quarter| (quarter * 10, quarter * 3, 0));
    assert!(judged(answers).iter().all(Option::is_none));
    let asked_once = (1..=40).map(|quarter| (quarter.min(4), 0, 0));
    assert!(judged(asked_once).iter().all(Option::is_none));
    let idle = (1..=40).map(|_| (1_000, 0, 0));
    assert!(judged(idle).iter().skip(4).all(Option::is_none));
}

#[test]
fn a_request_that_did_not_reach_it_makes_suspect_at_once() {
    let said = judged([(1, 1, 0), (2, 1, 1), (3, 2, 1), (4, 3, 2)]);
    let is_suspect: Vec<_> = said.iter().map(Option::is_some).collect();
    assert_eq!(is_suspect, [false, true, false, true]);
}

#[test]
fn counters_that_begin_anew_accuse_nobody() {
    let said = judged([
        (900, 900, 5),
        (900, 900, 5),
        (0, 0, 0),
        (3, 3, 0),
        (5, 5, 0),
    ]);
    assert!(said[1..].iter().all(Option::is_none));
}
