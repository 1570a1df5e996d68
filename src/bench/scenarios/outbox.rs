//! `flush` and `drain`: what the node sends to others. A flush is a user who waits for 200 outcomes; a drain is a long
//! queue that nobody waits for. Both stand beside what signing and sending cost without a node.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::FutureExt;
use vellum_actors::Clock;
use vellum_client::Signer;
use vellum_protocol::{Alias, Domain, Envelope, Handle, JsonObject, MessageType, UnixMillis};
use vellum_store::{StoreError, UserId, outbox};

use super::{Bench, Figures, Goal, Load, Pace, Prepared, Scenario, Script};
use crate::bench::connection::{Answer, write_request};
use crate::bench::database_use::Counters;
use crate::bench::seed::{self, Account};
use crate::bench::sinks::{Sinks, send_bare};

/// What a flush is: so many peers, so many rows for each, and how long a peer takes.
const FLUSH_PEERS: usize = 20;
const FLUSH_EACH: usize = 10;
const FLUSH_DELAY: Duration = Duration::from_millis(50);
/// Flushes at most in one run, each by a user of its own.
const MOST_FLUSHES: usize = 50;
/// What the node sends to one peer at a time, by default.
const IN_FLIGHT: usize = 4;
/// The share of bare sending to reach: by a flush, and by a drain.
const WANTED_FLUSH: f64 = 0.75;
const WANTED_DRAIN: f64 = 0.3;
/// The most memory that a drain may need, in MB.
const WANTED_MB: f64 = 200.0;
/// The share of that rate which has to remain when half of the peers are away: all of it, but for what two runs differ.
const NO_SLOWER: f64 = 0.95;
/// Rows written in one transaction.
const AT_ONCE: usize = 2_000;
/// How long a queue may take to drain.
const PATIENCE: Duration = Duration::from_secs(900);
/// How long what has arrived may take to leave the queue.
const SETTLING: Duration = Duration::from_secs(30);
/// How long the queue's rows may be delivered.
const WINDOW_MILLIS: i64 = 24 * 3_600_000;

fn revocation(signer: &Signer, to: &Handle, at: UnixMillis) -> Envelope {
    signer.envelope(MessageType::RelationshipRevoke, to, JsonObject::new(), at, &mut rand::rng())
}

fn signer_of(bench: &Bench, account: &Account) -> anyhow::Result<Signer> {
    Ok(Signer::new(Handle::parse(&bench.env.handle(account))?, seed::signing_secret(1)))
}

/// The people on a peer for whom there are revocations.
fn people(domain: &Domain, count: usize) -> impl Iterator<Item = anyhow::Result<Handle>> + '_ {
    (0..count).map(|number| Ok(Handle::new(Alias::parse(&format!("peer{number}"))?, domain.clone())))
}

/// Writes into the database with the node's own function, many in a transaction.
async fn in_groups<T: Clone + Send + 'static>(
    bench: &Bench,
    items: Vec<T>,
    write: impl for<'t> Fn(&'t mut vellum_store::Tx, T) -> vellum_store::TxFuture<'t, (), StoreError>
    + Clone
    + Send
    + Sync
    + 'static,
) -> anyhow::Result<()> {
    let store = bench.env.store().await?;
    for group in items.chunks(AT_ONCE) {
        let (group, write) = (group.to_vec(), write.clone());
        let written: Result<(), StoreError> = store
            .write(move |tx| {
                async move {
                    for item in group {
                        write(tx, item).await?;
                    }
                    Ok(())
                }
                .boxed()
            })
            .await;
        written?;
    }
    store.close().await;
    Ok(())
}

/// Flushes for one user after the other.
struct Flushing {
    users: Vec<(Signer, String)>,
    peers: Vec<Handle>,
}

impl Script for Flushing {
    fn write_next(&mut self, request: &mut Vec<u8>) -> bool {
        let Some((signer, bearer)) = self.users.pop() else { return false };
        let now = Clock::system().now();
        let items: Vec<_> = self
            .peers
            .iter()
            .map(|peer| {
                let signed = signer.revoke(peer, now, &mut rand::rng());
                serde_json::json!({
                    "peerHandle": peer,
                    "signature": signed.signature,
                    "nonce": signed.nonce,
                    "timestamp": signed.timestamp,
                    "messageVersion": signed.message_version,
                })
            })
            .collect();
        let body = serde_json::json!({ "items": items }).to_string();
        let headers = [("authorization", bearer.as_str())];
        write_request(request, "POST /users/me/revocations/flush", &headers, body.as_bytes());
        true
    }

    fn check(&mut self, answer: Answer<'_>) -> Result<(), String> {
        answer.expect(200, "")?;
        let delivered = String::from_utf8_lossy(answer.body).matches(r#""delivered":true"#).count();
        let all = self.peers.len();
        (delivered == all).then_some(()).ok_or_else(|| format!("{delivered} of {all} were delivered"))
    }
}

/// Has some users wait for their signatures, and makes the one script that flushes for them.
pub(super) async fn prepare_flush(bench: &Bench) -> anyhow::Result<Prepared> {
    let sinks = Sinks::start(FLUSH_PEERS, 0, FLUSH_DELAY).await?;
    let script = flushing(bench, &sinks).await?;
    Ok(Prepared { scripts: vec![script], changed: Vec::new(), _sinks: Some(sinks) })
}

async fn flushing(bench: &Bench, sinks: &Sinks) -> anyhow::Result<Box<dyn Script>> {
    let domains = sinks.alive.iter().map(|sink| &sink.domain);
    let peers: Vec<Handle> =
        domains.flat_map(|domain| people(domain, FLUSH_EACH)).collect::<anyhow::Result<_>>()?;
    let accounts: Vec<&Account> = bench.env.plain().iter().take(MOST_FLUSHES).collect();
    let now = Clock::system().now();
    let rows: Vec<(UserId, Handle)> = accounts
        .iter()
        .flat_map(|account| peers.iter().map(|peer| (account.id.clone(), peer.clone())))
        .collect();
    in_groups(bench, rows, move |tx, (user, peer)| {
        async move { outbox::await_signature(tx, &user, &peer, now).await }.boxed()
    })
    .await?;
    let users = accounts.iter().map(|account| Ok((signer_of(bench, account)?, account.bearer.clone())));
    Ok(Box::new(Flushing { users: users.collect::<anyhow::Result<_>>()?, peers }))
}

/// Measures flushes, one after the other, beside sending the same without a node.
pub(super) async fn flush(bench: &Bench) -> anyhow::Result<Figures> {
    let (options, env) = (&bench.options, &bench.env);
    let sinks = Sinks::start(FLUSH_PEERS, 0, FLUSH_DELAY).await?;
    let script = flushing(bench, &sinks).await?;
    let account = env.plain().first().context("an account")?;
    let to = people(&sinks.alive[0].domain, 1).next().context("somebody")??;
    let envelope = revocation(&signer_of(bench, account)?, &to, Clock::system().now());
    let (_, bare) = send_bare(&sinks, &envelope, FLUSH_EACH, IN_FLIGHT).await?;
    let (nodes, before) = (env.watch(), sinks.arrived());
    let load = Load { pace: Pace::Closed, warm_up: Duration::ZERO, ..options.load() };
    let measured = env.drive(vec![script], load).await?;
    let (arrived, answered) = (sinks.arrived() - before, measured.times.total());
    ensure!(
        u64::try_from(arrived)? == answered * u64::try_from(FLUSH_PEERS * FLUSH_EACH)?,
        "{arrived} revocations have arrived, of {answered} flushes"
    );
    let figures = Figures::driven(Scenario::Flush.name(), "closed, 1 conn.".to_owned(), &measured, &nodes);
    let limit = 1.0 / bare.as_secs_f64();
    Ok(figures
        .limit("bare sending of the same, 4 at a time to a peer", limit)
        .goal(Goal::at_least("share of bare sending", WANTED_FLUSH, measured.rate() / limit))
        .note(format!("{FLUSH_PEERS} peers, {FLUSH_EACH} rows each, {FLUSH_DELAY:?} an answer")))
}

/// Fills the queue while the node is stopped, starts it, and gives deliveries a second until all who answer have
/// everything. Rows for others are removed afterwards.
///
/// # Errors
/// When something does not arrive, or is still in the queue afterwards.
pub(in crate::bench) async fn drained(
    bench: &mut Bench,
    sinks: &Sinks,
    rows: usize,
) -> anyhow::Result<Figures> {
    let account = bench.env.plain().first().context("an account")?.clone();
    let each = (rows / (sinks.alive.len() + sinks.dead.len())).max(1);
    bench.env.stop().await?;
    // Flushes that were prepared and not made have left some that wait for a signature.
    let others = pending(bench, &account).await?;
    fill(bench, &account, sinks, each).await?;
    let (before, expected) = (sinks.arrived(), sinks.alive.len() * each);
    let started = bench.env.start().await?;
    let nodes = bench.env.watch();
    sinks.wait_for(before + expected, PATIENCE).await?;
    let took = started.elapsed();
    let mut figures = Figures::counted(
        Scenario::Drain.name(),
        format!(
            "{} rows, {} peers",
            expected + sinks.dead.len() * each,
            sinks.alive.len() + sinks.dead.len()
        ),
        rate(expected, took),
        &nodes,
    );
    // The nodes have counted from their start, a moment ago.
    let counters = bench.env.counters().await?;
    figures.database = Some(counters.since(&Counters::default(), u64::try_from(expected)?));
    settle(bench, &account, others + u64::try_from(sinks.dead.len() * each)?).await?;
    ensure!(sinks.arrived() == before + expected, "something arrived twice");
    forget_dead(bench, &account, sinks, each).await?;
    Ok(figures)
}

/// Things a second.
fn rate(count: usize, took: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / took.as_secs_f64()
}

async fn fill(bench: &Bench, account: &Account, sinks: &Sinks, each: usize) -> anyhow::Result<()> {
    let (signer, user) = (signer_of(bench, account)?, account.id.clone());
    let domains = sinks.alive.iter().map(|sink| &sink.domain).chain(&sinks.dead);
    let handles: Vec<Handle> = domains.flat_map(|domain| people(domain, each)).collect::<Result<_, _>>()?;
    let now = Clock::system().now();
    in_groups(bench, handles, move |tx, to| {
        let (signer, user) = (signer.clone(), user.clone());
        async move {
            let envelope = revocation(&signer, &to, now);
            outbox::queue(tx, &user, &envelope, "", now.plus_millis(WINDOW_MILLIS), None, now).await?;
            Ok(())
        }
        .boxed()
    })
    .await
}

/// How many of the account's rows are in the queue.
async fn pending(bench: &Bench, account: &Account) -> anyhow::Result<u64> {
    let store = bench.env.store().await?;
    let counted = outbox::count_pending(&mut *store.read().await?, &account.id).await;
    store.close().await;
    Ok(counted?)
}

/// Waits until only so many rows are left: what has arrived is soon taken out of the queue.
async fn settle(bench: &Bench, account: &Account, left: u64) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let counted = pending(bench, account).await?;
        if counted == left {
            return Ok(());
        }
        ensure!(started.elapsed() < SETTLING, "{counted} rows are in the queue instead of {left}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Takes what is for nodes that are away out of the queue, with the node stopped: what comes next must not be
/// disturbed.
async fn forget_dead(bench: &mut Bench, account: &Account, sinks: &Sinks, each: usize) -> anyhow::Result<()> {
    if sinks.dead.is_empty() {
        return Ok(());
    }
    bench.env.stop().await?;
    let handles: Vec<Handle> =
        sinks.dead.iter().flat_map(|domain| people(domain, each)).collect::<Result<_, _>>()?;
    let user = account.id.clone();
    in_groups(bench, handles, move |tx, peer| {
        let user = user.clone();
        async move { outbox::discard(tx, &user, &peer).await.map(drop) }.boxed()
    })
    .await?;
    bench.env.start().await.map(drop)
}

/// Measures bare sending, a queue for peers that are all well, and one for peers half of which are away.
pub(super) async fn drain(bench: &mut Bench) -> anyhow::Result<Figures> {
    let (peers, rows) = (bench.options.drain_peers, bench.options.rows);
    let well = Sinks::start(peers, 0, Duration::ZERO).await?;
    let account = bench.env.plain().first().context("an account")?;
    let to = people(&well.alive[0].domain, 1).next().context("somebody")??;
    let envelope = revocation(&signer_of(bench, account)?, &to, Clock::system().now());
    let (sent, took) = send_bare(&well, &envelope, (rows / peers).max(1), 1).await?;
    let bare = rate(sent, took);
    let all = drained(bench, &well, rows).await?;
    drop(well);
    let half_away = Sinks::start(peers.div_ceil(2), peers / 2, Duration::ZERO).await?;
    let half = drained(bench, &half_away, rows).await?.rate;
    let (share, left) = (all.rate / bare, half / all.rate);
    let memory = all.most_resident_mb.map(|most| Goal::at_most("MB resident at most", WANTED_MB, most));
    let mut all = all
        .limit("bare signing and sending", bare)
        .goal(Goal::at_least("share of bare signing and sending", WANTED_DRAIN, share))
        .goal(Goal::at_least("share that is left with half of the peers away", NO_SLOWER, left))
        .note(format!("with half of the peers away: {half:.0} deliveries a second to the others"));
    all.goals.extend(memory);
    Ok(all)
}
