//! Resolves names: those of next hops for the workers, and those of
//! destinations for the supervisor, each in a thread of its own.
//!
//! A worker hands over each request whose next hop is a name it does not
//! know, and gets it back with the answer. It never waits: both ways are
//! queues, and a [waker](mio::Waker) tells it of answers. The thread asks for
//! each name once at a time, whoever waits for it, and ends with the last
//! worker.

mod follow;
mod lookup;
mod next_hop;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel;
use mio::Waker;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::config::{Config, HostPort};
use crate::proxy::{KeptDatagram, MAX_HELD, Server};
use lookup::Lookup;

pub use follow::{Followed, Looked, Resolved, Target};

/// How long an answer holds at least, and that there is none.
const TTL: Duration = Duration::from_secs(5);
/// Hosts of one service, and addresses of one host, that are used at most.
const MAX_RECORDS: usize = 16;
/// How long a request is held at most.
const TIME_LIMIT: Duration = Duration::from_secs(2);
/// How long a name server has to answer for a next hop: there is time for
/// SRV, a silent host, and the one behind it.
const ANSWER_LIMIT: Duration = Duration::from_millis(650);
/// Questions that each of both threads has open at once.
const QUESTIONS: usize = 64;
/// Sockets that a question takes at most for each name server: it may be sent
/// three times, each time by another one, and then by TCP.
const SOCKETS: usize = 4;
/// Name servers of `/etc/resolv.conf` that are asked, as everybody does.
const SYSTEM_SERVERS: usize = 3;

/// What a name stands for, and the request that asked for it.
#[derive(Debug)]
pub struct Answer {
    /// The name.
    pub name: HostPort,
    /// None: there is no such name, or no answer came in time.
    pub servers: Vec<Server>,
    /// How long that holds. Zero: for this request alone.
    pub ttl: Duration,
    /// The request.
    pub held: KeptDatagram,
}

/// A name to resolve.
struct Question {
    name: HostPort,
    waiting: Waiting,
}

/// A request, and the way back to its worker.
struct Waiting {
    held: KeptDatagram,
    answers: channel::Sender<Answer>,
    waker: Arc<Waker>,
}

/// The way to the resolver's thread.
#[derive(Clone)]
pub struct Questions(mpsc::Sender<Question>);

/// A worker's end of both queues.
pub struct Client {
    questions: Questions,
    answers: (channel::Sender<Answer>, channel::Receiver<Answer>),
    waker: Arc<Waker>,
}

impl Client {
    /// For the worker that `waker` wakes.
    #[must_use]
    pub fn new(questions: Questions, waker: Arc<Waker>) -> Self {
        Self {
            questions,
            answers: channel::bounded(MAX_HELD),
            waker,
        }
    }

    /// Asks for a name on behalf of a request. Returns whether there will be
    /// an answer: always, while no worker asks for more than [`MAX_HELD`].
    pub fn ask(&self, name: HostPort, held: KeptDatagram) -> bool {
        let waiting = Waiting {
            held,
            answers: self.answers.0.clone(),
            waker: Arc::clone(&self.waker),
        };
        let question = Question { name, waiting };
        self.questions.0.try_send(question).is_ok()
    }

    /// The next answer, if one is there.
    #[must_use]
    pub fn answer(&self) -> Option<Answer> {
        self.answers.1.try_recv().ok()
    }
}

/// Sockets that resolving names takes at most.
#[must_use]
pub fn sockets(config: &Config) -> usize {
    let servers = match config.resolvers.len() {
        0 => SYSTEM_SERVERS,
        given => given,
    };
    let by_name = config.sets.iter().any(|set| !set.named.is_empty());
    let threads = usize::from(config.resolve) + usize::from(by_name);
    threads * QUESTIONS * SOCKETS * servers
}

/// Starts the thread; it ends when all [`Questions`] are gone.
///
/// # Errors
/// What is wrong with the name servers of the system, or kept it from starting.
pub fn start(config: &Config) -> io::Result<Questions> {
    let lookup = Lookup::new(config, ANSWER_LIMIT, TTL, MAX_RECORDS)?;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_io().enable_time().build()?;
    let (sender, questions) = mpsc::channel(config.workers * MAX_HELD);
    std::thread::Builder::new()
        .name("resolver".to_owned())
        .spawn(move || runtime.block_on(serve(lookup, questions)))?;
    Ok(Questions(sender))
}

/// Answers all questions.
async fn serve(lookup: Lookup, mut questions: mpsc::Receiver<Question>) {
    let lookup = Arc::new(lookup);
    let mut waiting: HashMap<HostPort, Vec<Waiting>> = HashMap::new();
    let mut lookups = JoinSet::new();
    loop {
        tokio::select! {
            question = questions.recv() => {
                let Some(Question { name, waiting: one }) = question else {
                    return;
                };
                let others = waiting.entry(name.clone()).or_default();
                if others.is_empty() {
                    let lookup = Arc::clone(&lookup);
                    lookups.spawn(async move {
                        let found = next_hop::servers(&lookup, &name).await;
                        (name, found)
                    });
                }
                others.push(one);
            }
            Some(Ok((name, (servers, ttl)))) = lookups.join_next() => {
                for one in waiting.remove(&name).unwrap_or_default() {
                    one.answer(name.clone(), servers.clone(), ttl);
                }
            }
        }
    }
}

impl Waiting {
    fn answer(self, name: HostPort, servers: Vec<Server>, ttl: Duration) {
        let answer = Answer {
            name,
            servers,
            ttl,
            held: self.held,
        };
        // A worker that takes no more answers has ended.
        if self.answers.try_send(answer).is_ok() {
            let _ = self.waker.wake();
        }
    }
}
