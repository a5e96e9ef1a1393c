//! Two instances with one secret and one name, with nothing between them:
//! each message of a call goes to either at random, requests and responses
//! in both directions. The test is caller, farm, and the router that deals.

use std::net::SocketAddr;

use support::dialog::{Peer, Request, response, status, values};
use support::net::V4;
use support::process::Signal;
use support::stateful::only;
use support::viaduct::Viaduct;
use support::wait_until;

const NAME: &str = "edge.example:5060";
const ONE_NAME: [&str; 2] = ["--advertise", NAME];

struct Pair {
    instances: [Viaduct; 2],
    /// Which of them was killed.
    dead: Option<usize>,
    caller: Peer,
    farm: Vec<Peer>,
    dice: u64,
}

/// A call, and how far it has come.
struct Call {
    invite: Request,
    member: usize,
    /// The INVITE as it came to its member.
    there: Vec<u8>,
    route: String,
}

impl Pair {
    fn start(folder: &tempfile::TempDir, further: &[&str]) -> Self {
        let farm: Vec<Peer> = (0..4).map(|_| Peer::new(V4)).collect();
        let secret = folder.path().join("secret");
        let secret = secret.to_str().expect("text");
        let instance = |_| {
            let mut args = vec!["--listen", "127.0.0.1:0", "--secret-file", secret];
            args.extend(["--record-route", "--workers", "2"]);
            args.extend(further);
            let addresses: Vec<_> = farm.iter().map(|one| one.address().to_string()).collect();
            for address in &addresses {
                args.extend(["--to", address]);
            }
            Viaduct::start(&args)
        };
        Self {
            instances: [0, 1].map(instance),
            dead: None,
            caller: Peer::new(V4),
            farm,
            // Any number; the same each time.
            dice: 42,
        }
    }

    /// Where a message goes: to an instance by the dice. What goes to the dead
    /// one is lost and sent again, as a transaction does.
    fn deal(&mut self) -> Vec<SocketAddr> {
        let mut ways = Vec::new();
        loop {
            self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005) + 1;
            let chosen = usize::from(self.dice >> 63 == 1);
            ways.push(self.instances[chosen].address(0));
            if self.dead != Some(chosen) {
                return ways;
            }
        }
    }

    /// From the caller; to whom it comes in the farm.
    #[track_caller]
    fn inward(&mut self, octets: impl AsRef<[u8]>) -> (usize, Vec<u8>) {
        for way in self.deal() {
            self.caller.send(way, &octets);
        }
        self.at_farm()
    }

    /// The next datagram that comes to the farm, and to whom.
    #[track_caller]
    fn at_farm(&self) -> (usize, Vec<u8>) {
        let (number, octets, _) = Peer::first_of(&self.farm);
        (number, octets)
    }

    /// From a member; what comes to the caller.
    #[track_caller]
    fn outward(&mut self, member: usize, octets: impl AsRef<[u8]>) -> Vec<u8> {
        for way in self.deal() {
            self.farm[member].send(way, &octets);
        }
        self.caller.receive()
    }

    fn ring(&mut self) -> Call {
        let invite = Request::new("INVITE", self.caller.address());
        let (member, there) = self.inward(invite.text());
        let ringing = self.outward(member, response(&there, "180 Ringing", "t"));
        assert_eq!(status(ringing), 180);
        Call {
            route: only(&there, "record-route"),
            invite,
            member,
            there,
        }
    }

    fn answer(&mut self, call: &Call) {
        let ok = self.outward(call.member, response(&call.there, "200 OK", "t"));
        assert_eq!(status(ok), 200);
        let (member, _) = self.inward(call.within("ACK", 1).text());
        assert_eq!(member, call.member);
    }

    fn cancel(&mut self, call: &Call) {
        let (member, cancel) = self.inward(call.invite.method("CANCEL").text());
        assert_eq!(member, call.member);
        let ok = self.outward(member, response(&cancel, "200 OK", "t"));
        assert_eq!(status(ok), 200);
        let terminated = response(&call.there, "487 Request Terminated", "t");
        assert_eq!(status(self.outward(member, terminated)), 487);
        let ack = call
            .invite
            .method("ACK")
            .to("<sip:desk@farm.example>;tag=t");
        assert_eq!(self.inward(ack.text()).0, member);
    }

    fn end_by_caller(&mut self, call: &Call) {
        let (member, bye) = self.inward(call.within("BYE", 2).text());
        assert_eq!(member, call.member);
        let ok = self.outward(member, response(&bye, "200 OK", ""));
        assert_eq!(status(ok), 200);
    }

    fn end_by_member(&mut self, call: &Call) {
        let bye = Request::new("BYE", self.farm[call.member].address())
            .uri(format!("sip:ann@{}", self.caller.address()))
            .call_id(&call.invite.call_id)
            .from("<sip:desk@farm.example>;tag=t")
            .to(&call.invite.from)
            .row(format!("Route: {}", call.route));
        let bye = self.outward(call.member, bye.text());
        let (member, ok) = self.inward(response(&bye, "200 OK", ""));
        assert_eq!((member, status(ok)), (call.member, 200));
    }
}

impl Call {
    /// A request of the caller in the dialog.
    fn within(&self, method: &str, cseq: u32) -> Request {
        let new = Request::new(method, "127.0.0.1:5060".parse().expect("an address"));
        let via = self
            .invite
            .via
            .replace("z9hG4bK", &format!("z9hG4bK{method}"));
        Request { cseq, ..new }
            .via(via)
            .uri(format!("sip:desk@{NAME}"))
            .call_id(&self.invite.call_id)
            .from(&self.invite.from)
            .to("<sip:desk@farm.example>;tag=t")
            .row(format!("Route: {}", self.route))
    }
}

#[test]
fn calls_of_which_each_message_takes_either_instance_come_through() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut pair = Pair::start(&folder, &ONE_NAME);
    for number in 0..40 {
        let call = pair.ring();
        match number % 4 {
            0 => pair.cancel(&call),
            1 | 2 => {
                pair.answer(&call);
                pair.end_by_caller(&call);
            }
            _ => {
                pair.answer(&call);
                pair.end_by_member(&call);
            }
        }
    }
    let all: u64 = pair
        .instances
        .map(|instance| {
            let counters = instance.stop();
            let forwarded =
                counters.get("requests-forwarded") + counters.get("responses-forwarded");
            assert_eq!(counters.get("received"), forwarded, "{counters:?}");
            // Neither was left out.
            assert!(forwarded > 50, "{counters:?}");
            forwarded
        })
        .iter()
        .sum();
    // Six messages a call, those to be cancelled included.
    assert_eq!(all, 240);
}

#[test]
fn calls_go_on_by_the_other_instance_when_one_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut pair = Pair::start(&folder, &ONE_NAME);
    let ringing: Vec<Call> = (0..12).map(|_| pair.ring()).collect();
    let to_cancel: Vec<Call> = (0..12).map(|_| pair.ring()).collect();
    let established: Vec<Call> = (0..24)
        .map(|_| {
            let call = pair.ring();
            pair.answer(&call);
            call
        })
        .collect();
    pair.instances[1].signal(Signal::KILL);
    pair.dead = Some(1);
    for call in &ringing {
        pair.answer(call);
        pair.end_by_member(call);
    }
    for call in &to_cancel {
        pair.cancel(call);
    }
    for (number, call) in established.iter().enumerate() {
        match number % 2 {
            0 => pair.end_by_caller(call),
            _ => pair.end_by_member(call),
        }
    }
}

#[test]
fn without_a_name_in_common_each_takes_the_other_for_a_stranger() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut pair = Pair::start(&folder, &[]);
    let [one, other] = [0, 1].map(|number: usize| pair.instances[number].address(0));
    let invite = Request::new("INVITE", pair.caller.address());
    pair.caller.send(one, invite.text());
    let (member, there) = pair.at_farm();
    let ok = response(&there, "200 OK", "t");
    // Nobody is there for the answer.
    pair.farm[member].send(other, &ok);
    wait_until("the drop of the answer", || {
        pair.instances[1].counter("drop-not-our-via") > 0
    });
    pair.farm[member].send(one, ok);
    assert_eq!(pair.caller.receive_from().1, one);
    let call = Call {
        route: values(&there, "record-route").remove(0),
        invite,
        member,
        there,
    };
    // The next hop is to send it to the one whose call it is.
    pair.caller.send(other, call.within("BYE", 2).text());
    assert_eq!(values(&pair.at_farm().1, "route"), [call.route]);
}

/// A transaction lives in one instance, which takes that for silence.
#[test]
fn a_transaction_whose_answers_come_to_the_other_instance_goes_to_two_servers() {
    let folder = tempfile::tempdir().expect("a folder");
    let further = [&ONE_NAME[..], &["--stateful", "INVITE"]].concat();
    let pair = Pair::start(&folder, &further);
    let [one, other] = [0, 1].map(|number: usize| pair.instances[number].address(0));
    let invite = Request::new("INVITE", pair.caller.address());
    pair.caller.send(one, invite.text());
    let (first, there) = pair.at_farm();
    let ringing = response(&there, "180 Ringing", "t");
    pair.farm[first].send(other, ringing);
    let from_other = || {
        let (octets, source) = pair.caller.receive_from();
        (source == other).then(|| status(octets))
    };
    let mut passed = std::iter::repeat_with(from_other).flatten();
    assert_eq!(passed.next(), Some(180));
    // What comes again to the first comes before.
    while pair.at_farm().0 == first {}
}
