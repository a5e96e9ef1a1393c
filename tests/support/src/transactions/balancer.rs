//! The product in its world: workers with their relays, which decide; what
//! they would send and tell is gathered.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use viaduct::config::{Config, Set};
use viaduct::proxy::{Datagram, Decision, Forward, Proxy, ReplyLimiter, Scratch};
use viaduct::sip::MAX_DATAGRAM;
use viaduct::transaction::{
    Around, AttemptId, Event, Finished, Leaving, Lesson, Outbox, Received, Relay, Tried,
};

use crate::fixture;

pub struct Balancer {
    config: Config,
    proxy: Proxy,
    workers: Vec<Worker>,
    limiter: ReplyLimiter,
    space: Vec<u8>,
}

struct Worker {
    relay: Relay,
    scratch: Scratch,
    /// When it wants to be woken, as of its last act.
    due: Option<u64>,
}

/// What one call of the product did, in its order.
#[derive(Default)]
pub struct Output {
    pub acts: Vec<Act>,
    /// What became of the datagram, where there was one.
    pub received: Option<Received>,
}

pub enum Act {
    Send(Sent),
    Finished(Told),
    Learnt(SocketAddr, Lesson),
    Count(Event),
}

pub struct Sent {
    pub to: SocketAddr,
    pub bytes: Rc<[u8]>,
    pub attempt: Option<AttemptId>,
    /// By a transaction, and not statelessly.
    pub by_relay: bool,
    /// Where white space may be put in.
    pub padding_at: Option<usize>,
}

/// [`Finished`], to be kept.
pub struct Told {
    pub response: Vec<u8>,
    pub source: SocketAddr,
    pub status: u16,
    pub local: bool,
    pub cancelled: bool,
    pub received: u64,
    pub rang: Option<u64>,
    pub ended: u64,
    pub tried: Vec<Tried>,
}

impl Balancer {
    pub fn new(config: Config) -> Self {
        let mut balancer = Self {
            proxy: proxy(&config),
            limiter: ReplyLimiter::new(config.reply_rate, [7; 16]),
            config,
            workers: Vec::new(),
            space: vec![0; MAX_DATAGRAM],
        };
        balancer.restart();
        balancer
    }

    /// Forgets everything but its configuration and secret.
    pub fn restart(&mut self) {
        let count = self.config.workers;
        let worker = |number| Worker {
            relay: Relay::new(&self.config.stateful, number, count).expect("memory"),
            scratch: self.proxy.scratch(),
            due: None,
        };
        self.workers = (0..count).map(worker).collect();
    }

    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    pub fn remembered(&self, worker: usize) -> usize {
        self.workers[worker].relay.len()
    }

    pub fn is_empty(&self) -> bool {
        self.workers.iter().all(|worker| worker.relay.is_empty())
    }

    pub fn next_due(&self, worker: usize) -> Option<u64> {
        self.workers[worker].due
    }

    pub fn receive(&mut self, worker: usize, datagram: &Datagram<'_>, now: u64) -> Output {
        let mut output = self.call(worker, now, |relay, around| {
            Some(relay.receive(around, datagram))
        });
        let Some(Received::Decision(decided)) = output.received else {
            return output;
        };
        let (length, to, also, padding_at) = match decided {
            Decision::Forward(forward) => {
                let also = self.workers[worker].scratch.also().to_vec();
                let padding_at = Some(forward.padding_at);
                (forward.length, forward.to, also, padding_at)
            }
            Decision::Reply(reply) => (reply.length, reply.to, Vec::new(), None),
            Decision::Resolve | Decision::Drop(_) => return output,
        };
        let bytes: Rc<[u8]> = self.space[..length].into();
        for to in std::iter::once(to).chain(also) {
            output.acts.push(Act::Send(Sent {
                to,
                bytes: Rc::clone(&bytes),
                attempt: None,
                by_relay: false,
                padding_at,
            }));
        }
        output
    }

    pub fn undeliverable(&mut self, worker: usize, attempt: AttemptId, now: u64) -> Output {
        self.call(worker, now, |relay, around| {
            relay.undeliverable(around, attempt);
            None
        })
    }

    /// Datagrams have been lost before it could read them.
    pub fn lost(&mut self, now: u64) {
        for worker in &mut self.workers {
            worker.relay.lost(now);
        }
    }

    /// More comes than it can do; or no longer.
    pub fn overload(&mut self, too_much: bool) {
        for worker in &mut self.workers {
            worker.relay.overload(too_much);
        }
    }

    pub fn expire(&mut self, worker: usize, now: u64) -> Output {
        self.call(worker, now, |relay, around| {
            relay.expire(around);
            None
        })
    }

    fn call(
        &mut self,
        worker: usize,
        now: u64,
        act: impl FnOnce(&mut Relay, &mut Around<'_, Out<'_>>) -> Option<Received>,
    ) -> Output {
        let Worker {
            relay,
            scratch,
            due,
        } = &mut self.workers[worker];
        let mut out = Out {
            config: &self.config,
            space: &mut self.space,
            limiter: &mut self.limiter,
            now,
            acts: Vec::new(),
        };
        let received = act(
            relay,
            &mut Around {
                proxy: &self.proxy,
                scratch,
                now,
                out: &mut out,
            },
        );
        *due = relay.next_due();
        Output {
            acts: out.acts,
            received,
        }
    }
}

thread_local! {
    /// Tables of sets take long to fill, and few are different.
    static PROXIES: RefCell<Vec<(Vec<Set>, Proxy)>> = const { RefCell::new(Vec::new()) };
}

/// As good as a new one.
fn proxy(config: &Config) -> Proxy {
    PROXIES.with_borrow_mut(|known| {
        let same = known.iter().find(|(sets, _)| *sets == config.sets);
        if let Some((_, proxy)) = same {
            return proxy.successor(config);
        }
        let proxy = Proxy::new(config, fixture::secret());
        known.push((config.sets.clone(), proxy.clone()));
        proxy
    })
}

struct Out<'a> {
    config: &'a Config,
    space: &'a mut Vec<u8>,
    limiter: &'a mut ReplyLimiter,
    now: u64,
    acts: Vec<Act>,
}

impl Outbox for Out<'_> {
    fn space(&mut self) -> &mut [u8] {
        self.space
    }

    fn send(&mut self, leaving: &Leaving) {
        self.acts.push(Act::Send(Sent {
            to: leaving.to,
            bytes: self.space[..leaving.length].into(),
            attempt: leaving.attempt,
            by_relay: true,
            padding_at: leaving.run.map(|run| run.padding_at),
        }));
    }

    fn finished(&mut self, finished: &Finished<'_>) {
        self.acts.push(Act::Finished(Told {
            response: finished.response.to_vec(),
            source: finished.source,
            status: finished.status,
            local: finished.local,
            cancelled: finished.cancelled,
            received: finished.received,
            rang: finished.rang,
            ended: finished.ended,
            tried: finished.tried.to_vec(),
        }));
    }

    fn suspected(&mut self, (set, destination): (usize, usize), lesson: Lesson) {
        let destination = &self.config.sets[set].destinations[destination];
        self.acts.push(Act::Learnt(destination.address, lesson));
    }

    fn allows(&mut self, to: IpAddr, octets: usize) -> bool {
        // It counts from over 1,000 on.
        self.limiter.allow(to, octets, 10_000 + self.now)
    }

    fn forwarded(&mut self, _: &Forward) {}

    fn count(&mut self, event: Event) {
        self.acts.push(Act::Count(event));
    }
}
