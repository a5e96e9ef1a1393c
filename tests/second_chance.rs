//! A call that rings while the farm changes: its CANCEL and the ACK to its
//! failure reach the destination that has it, whatever the hash says by then,
//! and the caller hears that one alone.

use std::collections::BTreeMap;

use support::dialog::{Request, assert_octets, read, response, status};
use support::farm::{Farm, LISTEN, text};
use support::wait_until;

const CALLS: usize = 30;
/// A farm of members with these URI parameters, and further lines of the file.
/// Nothing leaves in runs, so that all leaves in the order in which it came.
fn farm(states: &[&str], more: &str) -> Farm {
    Farm::new(states, more, &["--gso", "off"])
}

/// Has `CALLS` new calls ring.
fn ring(farm: &Farm) -> Vec<(usize, Request)> {
    let calls = (0..CALLS).map(|_| farm.scene.request("INVITE"));
    calls
        .map(|call| (farm.scene.pass(call.text()).0, call))
        .collect()
}

/// The ACK to a failure.
fn ack(call: &Request) -> Request {
    let to = format!("{};tag=failed", call.to);
    call.method("ACK").to(to)
}

/// Answers a copy at a member.
fn answer(farm: &Farm, member: usize, request: &[u8], status: &str) {
    let octets = response(request, status, "t");
    farm.scene.farm[member].send(farm.scene.front(), octets);
}

#[test]
fn a_ringing_call_is_cancelled_where_it_rings() {
    let mut farm = farm(&["", "-", ""], "");
    let calls = ring(&farm);
    farm.change(&["", "", ";state=draining"]);
    let mut moved = 0;
    for (owner, call) in calls {
        let now = farm.reached(call.method("BYE").text());
        assert_eq!(now.len(), 1, "a BYE goes to one");
        let cancel = call.method("CANCEL").text();
        let copies = farm.copies(&cancel);
        let mut members: Vec<_> = copies.iter().map(|(member, _)| *member).collect();
        members.sort_unstable();
        let mut wanted = vec![owner, now[0]];
        wanted.sort_unstable();
        wanted.dedup();
        assert_eq!(members, wanted);
        assert_eq!(farm.reached(&cancel), wanted, "a retransmission");
        moved += members.len() - 1;
        // The stranger knows no such call, and its answer comes first.
        for (member, copy) in copies.iter().filter(|(member, _)| *member != owner) {
            assert_octets(copy, &copies[0].1);
            answer(&farm, *member, copy, "481 Call/Transaction Does Not Exist");
        }
        let (_, at_owner) = copies
            .iter()
            .find(|(member, _)| *member == owner)
            .expect("a copy at the owner");
        answer(&farm, owner, at_owner, "200 OK");
        let got = farm.scene.caller.receive();
        assert_eq!(status(&got), 200);
        assert_eq!(read(&got).cseq.method, "CANCEL");
        assert_eq!(farm.reached(ack(&call).text()), wanted, "the ACK");
        farm.scene.caller.assert_silent();
    }
    assert!(moved > 5, "{moved} of {CALLS} moved");
    let strangers = moved as u64;
    let counters = farm.scene.viaduct.stop();
    assert_eq!(counters.get("drop-strangers-answer"), strangers);
    assert_eq!(counters.get("second-chances"), 3 * strangers);
}

#[test]
fn a_call_at_a_member_that_is_gone_can_be_cancelled() {
    for (policy, key) in [
        ("hash", "call-id"),
        ("hash", "to-uri"),
        ("hash", "from-uri"),
        ("hash", "to-user"),
        ("hash", "header:x-key"),
        ("hash", "source"),
        ("kamailio", "call-id"),
        ("random", "call-id"),
    ] {
        let more = format!("policy = '{policy}'\nhash-key = '{key}'\n");
        let mut farm = farm(&["", "-"], &more);
        let calls = ring(&farm);
        let new = text(&farm.scene.farm, &["-", ""], &more);
        assert!(farm.reload(&new).contains("1 added, 1 removed"));
        for (_, call) in calls {
            let copies = farm.copies(call.method("CANCEL").text());
            assert_eq!(copies.len(), 2, "{policy} {key}");
            for (member, copy) in &copies {
                let status = ["200 OK", "481 No"][*member];
                answer(&farm, *member, copy, status);
            }
            assert_eq!(status(farm.scene.caller.receive()), 200);
        }
        farm.scene.assert_nothing_left();
    }
}

#[test]
fn what_might_act_twice_is_sent_once() {
    let mut farm = farm(&["", "-"], "");
    let calls = ring(&farm);
    farm.change(&["-", ""]);
    for (_, call) in calls {
        for method in [
            "INVITE", "BYE", "UPDATE", "PRACK", "INFO", "OPTIONS", "REGISTER", "REFER", "cancel",
        ] {
            assert_eq!(farm.reached(call.method(method).text()), [1], "{method}");
        }
        // Nor is a CANCEL that says where to.
        let named = format!("sip:desk@{}", farm.scene.farm[1].address());
        let cancel = call.method("CANCEL").uri(named);
        assert_eq!(farm.reached(cancel.text()), [1]);
    }
}

#[test]
fn what_comes_round_does_not_multiply() {
    let mut farm = farm(&["", "-"], "");
    farm.change(&["-", ""]);
    let own = format!("Via: SIP/2.0/UDP {};branch=z9hG4bKx", farm.scene.front());
    for method in ["CANCEL", "ACK"] {
        let request = farm.scene.request(method);
        assert_eq!(farm.reached(request.text()), [0, 1]);
        let other = request
            .clone()
            .row("Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx");
        assert_eq!(farm.reached(other.text()), [0, 1]);
        assert_eq!(farm.reached(request.row(&own).text()), [1]);
    }
}

#[test]
fn a_481_passes_where_nothing_has_changed() {
    let mut farm = farm(&["", "", "-"], "");
    let refuse = |farm: &Farm, call: &Request| {
        let copies = farm.copies(call.method("CANCEL").text());
        for (member, copy) in &copies {
            answer(farm, *member, copy, "481 No");
        }
        copies.len()
    };
    let calls = ring(&farm);
    for (_, call) in &calls {
        assert_eq!(refuse(&farm, call), 1);
        assert_eq!(
            status(farm.scene.caller.receive()),
            481,
            "before any change"
        );
    }
    farm.change(&["", "", ""]);
    let mut kept = 0;
    for (_, call) in &calls {
        if refuse(&farm, call) == 1 {
            assert_eq!(
                status(farm.scene.caller.receive()),
                481,
                "a slot that stays"
            );
            kept += 1;
        }
    }
    assert!(kept > 5 && kept < CALLS, "{kept}");
    // 481 to anything else is no matter of CANCEL.
    for (_, call) in &calls {
        let (member, bye) = farm.scene.pass(call.method("BYE").text());
        answer(&farm, member, &bye, "481 No");
        assert_eq!(status(farm.scene.caller.receive()), 481);
    }
    farm.scene.assert_nothing_left();
}

/// A member's CANCEL to a phone is not copied, so nobody but the phone answers it.
#[test]
fn a_481_of_whom_a_member_called_passes() {
    let mut farm = farm(&["", "-"], "");
    farm.change(&["", ""]);
    let (member, phone) = (&farm.scene.farm[0], &farm.scene.caller);
    let cancel = Request::new("CANCEL", member.address());
    let cancel = cancel.uri(format!("sip:ann@{}", phone.address()));
    member.send(farm.scene.front(), cancel.text());
    let (copy, _) = phone.receive_from();
    phone.send(farm.scene.front(), response(copy, "481 No", "t"));
    assert_eq!(status(member.receive()), 481);
}

#[test]
fn the_newest_three_are_asked_besides() {
    let mut farm = farm(&["", "-", "-", "-", "-", "-"], "");
    let call = farm.scene.request("INVITE");
    assert_eq!(farm.reached(call.text()), [0]);
    for active in 1..6_usize {
        let states: Vec<_> = (0..6).map(|n| if n == active { "" } else { "-" }).collect();
        farm.change(&states);
        let wanted: Vec<_> = (active.saturating_sub(3)..=active).collect();
        assert_eq!(farm.reached(call.method("CANCEL").text()), wanted);
        assert_eq!(farm.reached(call.text()), [active]);
    }
    // Back again: the same address is asked once.
    farm.change(&["-", "-", "-", "-", "", "-"]);
    assert_eq!(farm.reached(call.method("CANCEL").text()), [2, 3, 4, 5]);
}

#[test]
fn with_all_draining_a_ringing_call_can_still_be_cancelled() {
    let mut farm = farm(&["", ""], "");
    let calls = ring(&farm);
    farm.change(&[";state=draining", ";state=draining"]);
    for (owner, call) in calls {
        for request in [call.method("CANCEL"), ack(&call)] {
            farm.scene.send(request.text());
            assert_eq!(farm.scene.at_farm().0, owner);
        }
        let refused = farm.scene.answer(farm.scene.request("INVITE").text());
        assert_eq!(status(refused), 503);
    }
    farm.scene
        .farm
        .iter()
        .for_each(support::dialog::Peer::assert_silent);
}

#[test]
fn other_routes_are_another_owner() {
    let mut farm = farm(&["", ""], "");
    let [first, second] = [0, 1].map(|n: usize| farm.scene.farm[n].address());
    let sets = format!(
        "[[set]]\nname = 'a'\ndestinations = ['{first}']\n\
         [[set]]\nname = 'b'\ndestinations = ['{second}']\n"
    );
    let to = |set| format!("{LISTEN}{sets}[[route]]\nset = '{set}'\nhost = 'farm.example'\n");
    farm.reload(&to('a'));
    let call = farm.scene.request("INVITE");
    assert_eq!(farm.reached(call.text()), [0]);
    farm.reload(&to('b'));
    let copies = farm.copies(call.method("CANCEL").text());
    assert_eq!(copies.len(), 2);
    for (member, copy) in &copies {
        answer(&farm, *member, copy, ["200 OK", "481 No"][*member]);
    }
    assert_eq!(status(farm.scene.caller.receive()), 200);
    farm.scene.caller.assert_silent();
}

#[test]
fn after_its_time_a_cancel_goes_to_one_and_its_481_passes() {
    let mut farm = farm(&["", "-"], "second-chance-s = 5\n");
    let call = farm.scene.request("INVITE");
    assert_eq!(farm.reached(call.text()), [0]);
    let more = "second-chance-s = 5\n";
    farm.reload(&text(&farm.scene.farm, &["-", ""], more));
    let cancel = call.method("CANCEL").text();
    assert_eq!(farm.reached(&cancel), [0, 1]);
    wait_until("its end", || farm.reached(&cancel) == [1]);
    let (member, copy) = farm.scene.pass(&cancel);
    answer(&farm, member, &copy, "481 No");
    assert_eq!(status(farm.scene.caller.receive()), 481);
}

#[test]
fn without_second_chance_nothing_is_sent_twice() {
    let more = "second-chance-s = 0\n";
    let mut farm = farm(&["", "-"], more);
    let calls = ring(&farm);
    farm.reload(&text(&farm.scene.farm, &["-", ""], more));
    for (_, call) in calls {
        assert_eq!(farm.reached(call.method("CANCEL").text()), [1]);
        assert_eq!(farm.reached(ack(&call).text()), [1]);
    }
}

/// As many copies as a batch of one has room for.
#[test]
fn the_shortest_batch_has_room_for_the_copies() {
    let mut farm = Farm::new(&["", "-"], "", &["--batch", "1", "--gso", "off"]);
    let calls = ring(&farm);
    farm.change(&["-", ""]);
    for (_, call) in calls {
        assert_eq!(farm.reached(call.method("CANCEL").text()), [0, 1]);
    }
}

#[test]
fn many_at_once_have_each_its_copy() {
    let mut farm = Farm::new(&["", "-", "-", "-"], "", &[]);
    for states in [
        ["-", "", "-", "-"],
        ["-", "-", "", "-"],
        ["-", "-", "-", ""],
    ] {
        farm.change(&states);
    }
    // As many as the buffer of a member holds.
    let calls: Vec<_> = (0..100).map(|_| farm.scene.request("CANCEL")).collect();
    for call in &calls {
        farm.scene.send(call.text());
    }
    let mut counts = BTreeMap::new();
    for _ in 0..4 * calls.len() {
        let (member, got) = farm.scene.at_farm();
        *counts.entry((member, read(got).call_id)).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 4 * calls.len(), "each member has each call");
    assert!(counts.values().all(|count| *count == 1));
    farm.scene
        .assert_counter("second-chances", 3 * calls.len() as u64);
}
