//! `inbox`: many peers send signed revocations, and the node verifies the signature of the server and that of the user.
//! Requests are signed before the clock runs, so that signing takes no processor from the node while it is measured.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use futures_util::FutureExt;
use vellum_actors::Clock;
use vellum_client::Signer;
use vellum_protocol::{Alias, Domain, Handle, JsonObject, MessageType};
use vellum_store::{StoreError, peers};

use super::{Bench, Figures, Goal, Load, Pace, Prepared, Scenario, Script};
use crate::bench::connection::Answer;
use crate::bench::env::BenchEnv;
use crate::bench::limits::cores;
use crate::bench::load::drive;
use crate::bench::seed;
use crate::bench::sinks::{Sink, Sinks, signed_request};

/// Verifications that a message costs: the server's signature and the user's.
const VERIFICATIONS: f64 = 2.0;
/// The share of the bare verifications to reach.
const WANTED: f64 = 0.25;
/// The share of the reached rate at which times are looked at, and how far the slow may be from the median there.
const MODERATE: f64 = 0.7;
const WANTED_SPREAD: f64 = 10.0;
/// People on each peer who send.
const SENDERS: usize = 3;
/// How long it may take until everybody has sent once.
const LONGEST_INTRODUCTION: Duration = Duration::from_secs(120);
/// Requests made beyond those that are expected to be needed.
const SPARE: f64 = 1.3;

/// Makes messages of the people on some peers, in turn.
#[derive(Clone)]
struct Writer {
    sinks: Arc<Vec<Sink>>,
    node: Domain,
    recipients: Arc<Vec<Handle>>,
    next: usize,
    step: usize,
}

impl Writer {
    fn new(bench: &Bench, sinks: &Sinks, first: usize, step: usize) -> anyhow::Result<Self> {
        let env = &bench.env;
        let plain = env.plain();
        let handles = plain.iter().map(|account| Ok(Handle::parse(&env.handle(account))?));
        let recipients: Vec<Handle> = handles.collect::<anyhow::Result<_>>()?;
        ensure!(!recipients.is_empty() && !sinks.alive.is_empty(), "somebody has to send, and to be sent to");
        Ok(Self {
            sinks: Arc::new(sinks.alive.clone()),
            node: Domain::parse(&env.domain())?,
            recipients: Arc::new(recipients),
            next: first,
            step,
        })
    }

    /// A request with one revocation, signed twice.
    fn write(&mut self) -> anyhow::Result<Vec<u8>> {
        let number = self.next;
        self.next += self.step;
        let sink = &self.sinks[number % self.sinks.len()];
        let alias = Alias::parse(&format!("peer{}", number / self.sinks.len() % SENDERS))?;
        let signer = Signer::new(Handle::new(alias, sink.domain.clone()), seed::signing_secret(1));
        let to = &self.recipients[number % self.recipients.len()];
        let (kind, at) = (MessageType::RelationshipRevoke, Clock::system().now());
        let envelope = signer.envelope(kind, to, JsonObject::new(), at, &mut rand::rng());
        Ok(signed_request(&sink.secret, &sink.domain, &self.node, &envelope, &[]))
    }
}

/// Sends what was made before, and then, if it may, what it makes itself.
struct Sending {
    made: VecDeque<Vec<u8>>,
    writer: Option<Writer>,
}

impl Script for Sending {
    fn write_next(&mut self, request: &mut Vec<u8>) -> bool {
        let made = self.made.pop_front();
        let made = made.or_else(|| self.writer.as_mut().and_then(|writer| writer.write().ok()));
        made.is_some_and(|made| {
            *request = made;
            true
        })
    }

    fn check(&mut self, answer: Answer<'_>) -> Result<(), String> {
        answer.expect(202, r#""success":true"#)
    }
}

/// A script that signs as it goes: for a run that is longer than a signature is fresh.
pub(super) fn signing(
    bench: &Bench,
    sinks: &Sinks,
    first: usize,
    step: usize,
) -> anyhow::Result<Box<dyn Script>> {
    let writer = Some(Writer::new(bench, sinks, first, step)?);
    Ok(Box::new(Sending { made: VecDeque::new(), writer }))
}

/// How many requests a load can need.
fn needed(bench: &Bench, load: Load) -> usize {
    let rate = match load.pace {
        Pace::Open(rate) => rate,
        Pace::Closed => bench.verifications() / VERIFICATIONS,
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number far below where it would not fit"
    )]
    let needed = (rate * SPARE * (load.duration + load.warm_up).as_secs_f64()) as usize;
    needed
}

/// Scripts, one per connection, with so many requests in all.
fn signed_before(bench: &Bench, sinks: &Sinks, count: usize) -> anyhow::Result<Vec<Box<dyn Script>>> {
    let connections = bench.options.connections;
    let each = count.div_ceil(connections).max(1);
    let mut writers = Vec::with_capacity(connections);
    for connection in 0..connections {
        writers.push((Writer::new(bench, sinks, connection, connections)?, VecDeque::with_capacity(each)));
    }
    std::thread::scope(|scope| {
        let parts = writers.chunks_mut(connections.div_ceil(cores()));
        let threads: Vec<_> = parts.map(|part| scope.spawn(|| write_all(part, each))).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the thread that signs has panicked")))
        })
    })?;
    let script = |(_, made)| -> Box<dyn Script> { Box::new(Sending { made, writer: None }) };
    Ok(writers.into_iter().map(script).collect())
}

fn write_all(writers: &mut [(Writer, VecDeque<Vec<u8>>)], each: usize) -> anyhow::Result<()> {
    for (writer, made) in writers {
        for _ in 0..each {
            made.push_back(writer.write()?);
        }
    }
    Ok(())
}

/// Has the node know other nodes. Of those that it has not met, it asks only some at a time who
/// they are.
pub(super) async fn meet(env: &BenchEnv, sinks: &Sinks) -> anyhow::Result<()> {
    let (store, now) = (env.store().await?, Clock::system().now());
    let met: Vec<_> = sinks.alive.iter().map(|sink| (sink.domain.folded(), sink.secret.public())).collect();
    let pinned: Result<(), StoreError> = store
        .write(move |tx| {
            async move {
                for (domain, key) in &met {
                    peers::pin(tx, domain, key, None, now).await?;
                }
                Ok(())
            }
            .boxed()
        })
        .await;
    pinned?;
    store.close().await;
    Ok(())
}

/// Starts the peers, and has everybody on them send once to every node. A node keeps what it learns
/// of a sender for a minute, so asking for it is not part of the rate.
pub(super) async fn senders(bench: &Bench) -> anyhow::Result<Sinks> {
    let sinks = Sinks::start(bench.options.peers, 0, Duration::ZERO).await?;
    meet(&bench.env, &sinks).await?;
    let until_done = Load { pace: Pace::Closed, duration: LONGEST_INTRODUCTION, warm_up: Duration::ZERO };
    for node in bench.env.addresses() {
        let once = signed_before(bench, &sinks, sinks.alive.len() * SENDERS)?;
        drive(&[node], once, until_done).await?;
    }
    Ok(sinks)
}

/// Starts the peers and signs what they send.
pub(super) async fn prepare(bench: &Bench, load: Load) -> anyhow::Result<Prepared> {
    let sinks = senders(bench).await?;
    let scripts = signed_before(bench, &sinks, needed(bench, load))?;
    Ok(Prepared { scripts, changed: Vec::new(), _sinks: Some(sinks) })
}

/// Messages per second in a closed loop.
pub(in crate::bench) async fn rate(bench: &Bench) -> anyhow::Result<f64> {
    Ok(Scenario::Inbox.load(bench, bench.options.load()).await?.rate())
}

/// Measures the bare verifications, then the highest rate, then the times at a part of it.
pub(super) async fn measure(bench: &Bench) -> anyhow::Result<Figures> {
    let (options, env) = (&bench.options, &bench.env);
    let bare = bench.verifications() / VERIFICATIONS;
    let sinks = senders(bench).await?;
    let load = options.load();
    // Signed before the node is watched, which has nothing to do meanwhile.
    let scripts = signed_before(bench, &sinks, needed(bench, load))?;
    let nodes = env.watch();
    let measured = env.drive(scripts, load).await?;
    let told = format!("{}, {} conn.", load.pace, options.connections);
    let figures = Figures::driven(Scenario::Inbox.name(), told, &measured, &nodes);
    let moderate = Load { pace: Pace::Open(measured.rate() * MODERATE), ..load };
    let scripts = signed_before(bench, &sinks, needed(bench, moderate))?;
    let times = env.drive(scripts, moderate).await?.times;
    let (median, slow) = (times.percentile(0.5), times.percentile(0.99));
    Ok(figures
        .limit("bare Ed25519 verifications of all cores, by two", bare)
        .goal(Goal::at_least("share of the bare verifications", WANTED, measured.rate() / bare))
        .goal(Goal::at_most("p99 by median at 70 % of the rate", WANTED_SPREAD, slow / median.max(1e-3)))
        .note(format!("{}: p50 {median:.2} ms, p99 {slow:.2} ms", moderate.pace)))
}
