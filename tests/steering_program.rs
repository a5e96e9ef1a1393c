//! The program that chooses a datagram's worker by its Call-ID, by itself: it
//! does what its plain twin does.

use proptest::prelude::*;
use viaduct::net::steer::{BLOCKS_MAX, NOBODY, program};
use viaduct::transaction::owner::{owner, owner_of_cut};

use support::generate::{damaged, message};
use support::steering::{request, run, worker_for};

/// What the program returns, as a worker.
fn ran(message: &[u8], workers: usize, blocks: usize) -> Option<usize> {
    match run(&program(workers, blocks), message) {
        NOBODY => None,
        worker => Some(worker as usize),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_program_does_what_is_to_be_done_with_any_message(
        sample in message(), workers in 1..1025_usize, blocks in 0..=BLOCKS_MAX,
    ) {
        let wanted = worker_for(&sample.octets, workers, blocks);
        prop_assert_eq!(ran(&sample.octets, workers, blocks), wanted);
    }

    #[test]
    fn the_program_does_what_is_to_be_done_with_any_octets(octets in damaged()) {
        prop_assert_eq!(ran(&octets, 7, BLOCKS_MAX), worker_for(&octets, 7, BLOCKS_MAX));
    }

    #[test]
    fn the_program_does_what_is_to_be_done_with_a_message_cut_anywhere(
        row in "X: [a-z]{0,40}\r\n", id in "[!-~]{0,70}", end in any::<prop::sample::Index>(),
    ) {
        let mut octets = request(&row, "Call-ID: ", &id);
        octets.truncate(end.index(octets.len() + 1));
        prop_assert_eq!(ran(&octets, 7, BLOCKS_MAX), worker_for(&octets, 7, BLOCKS_MAX));
    }

    /// What a worker is said to own is what the kernel gives it, whatever the
    /// octets of the value are.
    #[test]
    fn the_owner_of_a_call_is_the_worker_that_the_program_chooses(
        id in prop_oneof![
            "[!-~]{0,70}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>().prop_filter("a line end", |b| *b != b'\n'), 0..40),
        ],
        workers in 1..1025_usize,
    ) {
        // White space in front is none of the value's.
        prop_assume!(!id.first().is_some_and(u8::is_ascii_whitespace));
        let mut message = b"MESSAGE sip:desk@farm.example SIP/2.0\r\nCall-ID: ".to_vec();
        message.extend_from_slice(&id);
        message.extend_from_slice(b"\r\n\r\n");
        let chosen = ran(&message, workers, BLOCKS_MAX);
        prop_assert_eq!(worker_for(&message, workers, BLOCKS_MAX), chosen);
        prop_assert_eq!(owner(&id, workers), chosen.unwrap_or(0));
    }

    /// What came back undelivered is cut anywhere.
    #[test]
    fn the_owner_of_what_came_back_is_told_by_a_whole_row_alone(
        id in "[!-~]{1,70}",
        row in "X: [a-z]{0,40}\r\n",
        name in prop::sample::select(vec!["Call-ID: ", "call-id :", "i: "]),
        end in any::<prop::sample::Index>(),
    ) {
        let mut octets = request(&row, name, &id);
        let behind = octets.windows(7).position(|seven| seven == b"\r\nFrom:").expect("From") + 2;
        let end = end.index(octets.len() + 1);
        octets.truncate(end);
        let wanted = (end >= behind).then(|| owner(id.as_bytes(), 1_000));
        prop_assert_eq!(owner_of_cut(&octets, 1_000), wanted);
    }

    /// Wherever it stands, however its name is written, whatever follows.
    #[test]
    fn one_call_id_has_one_worker(
        id in "[!-~]{1,70}",
        before in prop::collection::vec("[ -~]{0,50}", 0..6),
        name in prop::sample::select(vec!["Call-ID: ", "Call-ID:", "call-id: ", "CALL-ID: ", "Call-Id:"]),
        behind in "[A-Z][a-z]{0,9}: [ -~]{0,50}\r\n",
        body in prop::collection::vec(any::<u8>(), 0..60),
        space in prop::sample::select(vec!["", " ", "  ", "\t"]),
    ) {
        // Nothing before it that looks like it.
        prop_assume!(!before.iter().any(|row| row.to_lowercase().contains("call")));
        let mut row = String::new();
        before.iter().for_each(|text| row += &format!("X: {text}\r\n"));
        let usual = ran(&request("", "Call-ID: ", &id), 1_000, BLOCKS_MAX);
        prop_assert!(usual.is_some());
        let mut other = request(&row, name, &format!("{id}{space}\r\n{behind}"));
        other.extend(body);
        prop_assert_eq!(ran(&other, 1_000, BLOCKS_MAX), usual);
    }
}

#[test]
fn the_program_is_one_that_the_kernel_takes() {
    let longest = program(1024, BLOCKS_MAX);
    assert!(longest.len() <= 4_096, "{}", longest.len());
    assert!(program(1024, BLOCKS_MAX + 1).len() > 4_096, "room is left");
}

#[test]
fn the_call_id_is_found_at_each_place_of_the_search() {
    for length in 0..860 {
        let row = format!("X: {}\r\n", "x".repeat(length));
        let found = ran(&request(&row, "Call-ID: ", "one@a"), 1_000, BLOCKS_MAX);
        assert!(found.is_some(), "behind {length} octets");
    }
}

#[test]
fn what_only_looks_like_it_is_passed_over() {
    let usual = ran(&request("", "Call-ID: ", "one@a"), 1_000, BLOCKS_MAX);
    for row in [
        "Call-Info: <sip:x@y>\r\n",
        "Contact: <sip:call@192.0.2.1>\r\n",
        "To: <sip:call-identity@192.0.2.1>\r\n",
        "CSeq: 1 BYE\r\n",
        "Session-ID: ab30317f1a784dc48ff824d0d3715d86\r\n",
        "To: \"all-in\" <sip:call-in@192.0.2.1>\r\n",
        "All-IDs: 7103\r\n",
    ] {
        for length in 0..16 {
            let row = format!("X: {}\r\n{row}", "x".repeat(length));
            let found = ran(&request(&row, "Call-ID: ", "one@a"), 1_000, BLOCKS_MAX);
            assert_eq!(found, usual, "{row}");
        }
    }
}

#[test]
fn without_a_call_id_the_kernel_chooses() {
    let mut without = request("", "X: ", "one@a");
    assert_eq!(ran(&without, 4, BLOCKS_MAX), None);
    without.truncate(4);
    assert_eq!(ran(&without, 4, BLOCKS_MAX), None);
    assert_eq!(ran(b"", 4, BLOCKS_MAX), None);
    assert_eq!(ran(&request("", "i: ", "one@a"), 4, BLOCKS_MAX), None);
    assert_eq!(
        ran(&request("", "X-Call-ID: ", "one@a"), 4, BLOCKS_MAX),
        None
    );
    assert_eq!(ran(&request("", "Call-ID: ", ""), 4, BLOCKS_MAX), None);
    let deep = format!("X: {}\r\n", "x".repeat(2_000));
    assert_eq!(
        ran(&request(&deep, "Call-ID: ", "one@a"), 4, BLOCKS_MAX),
        None
    );
}
