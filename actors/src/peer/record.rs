//! What an outcome changes: the row, the peer's record, and what rests on the message
//! (`relationships`). One transaction, and only where the lease still stands.

use std::time::Duration;

use vellum_protocol::UnixMillis;
use vellum_store::outbox::{self, FailureScope, Leased, Outcome, Retry};
use vellum_store::peers::Peer;
use vellum_store::signals::{self, Signal};
use vellum_store::{Tx, peers};

use super::retry::RetryPolicy;
use super::{Federation, window};
use crate::Error;
use crate::relationships::{delivered, rejected};

/// The pause after a failure where a probe is to come early.
const EARLY_PROBE: Duration = Duration::from_millis(peers::EARLY_PROBE_MILLIS.unsigned_abs());

/// An attempt that has ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    /// The row.
    pub leased: Leased,
    /// How it ended; `None` if it was stopped.
    pub outcome: Option<Outcome>,
    /// When it began.
    pub started: UnixMillis,
    /// Whether the envelope may have left this node.
    pub sent: bool,
}

/// Records what became of an attempt. Returns the outcome with the time of the next attempt, or
/// `None` if there is nothing to tell: the attempt was stopped, or the row was changed meanwhile.
pub(super) async fn record_outcome(
    tx: &mut Tx,
    federation: &Federation,
    ended: &Ended,
    now: UnixMillis,
) -> Result<Option<Outcome>, Error> {
    let Ended { leased, outcome, started, sent } = ended;
    let Some(mut outcome) = outcome.clone() else {
        if !sent {
            outbox::hand_back(tx, &leased.id, &leased.token).await?;
        }
        return Ok(None);
    };
    if !federation.is_local(&leased.peer_handle) {
        note_on_peer(tx, &federation.retry, leased, &outcome, *started, now).await?;
    }
    if let Outcome::Retry(retry) = &mut outcome {
        retry.at = Some(next_attempt(&federation.retry, leased, retry, now));
    }
    if !outbox::record_outcome(tx, leased, &outcome, now).await? {
        return Ok(None);
    }
    match &outcome {
        Outcome::Delivered { friends } => delivered(tx, leased, *friends, *started, now).await?,
        Outcome::Rejected { reason } => rejected(tx, leased, reason, now).await?,
        Outcome::Retry(_) | Outcome::Withdrawn => {}
    }
    let (row, word) = (leased.id.clone(), outcome.as_str().to_owned());
    signals::send(tx, &Signal::Outcome { row, word, holder: federation.instance.clone() }).await?;
    Ok(Some(outcome))
}

/// This much later, but never later than the longest interval: a peer may ask for a pause, not for
/// silence.
fn later(retry: &RetryPolicy, now: UnixMillis, pause: Duration) -> UnixMillis {
    now.plus_millis(i64::try_from(pause.min(retry.longest_pause()).as_millis()).unwrap_or(i64::MAX))
}

/// The pause at this peer, where so long a one is wanted: not so long that it outlasts the window
/// of something that waits for it.
async fn pause_at_peer(
    tx: &mut Tx,
    record: Option<&Peer>,
    leased: &Leased,
    wanted: Duration,
    now: UnixMillis,
) -> Result<Duration, Error> {
    let wanted = wanted.min(window::longest_pause(&leased.envelope, leased.expires_at, now));
    let shortest = window::third(window::SHORTEST_MILLIS);
    // Where the answer is the same, what waits is not read: that is once for each failure.
    if wanted <= shortest {
        return Ok(wanted);
    }
    match record.and_then(|peer| peer.revocation_window_seconds.map(|stated| (peer, stated))) {
        Some((peer, stated)) if !outbox::has_short_lived(tx, &peer.domain).await? => {
            Ok(wanted.min(window::third(window::of_revocations(stated))))
        }
        _ => Ok(shortest),
    }
}

/// When an envelope is due again. Where the peer was not reached its own record makes the row wait;
/// the row stays ready, for a probe that comes early and for the peer's return.
fn next_attempt(policy: &RetryPolicy, leased: &Leased, retry: &Retry, now: UnixMillis) -> UnixMillis {
    let refused = retry.scope == FailureScope::Envelope;
    let own = policy.after(if refused { leased.refusals.saturating_add(1) } else { 1 });
    let longest = window::longest_pause(&leased.envelope, leased.expires_at, now);
    later(policy, now, asked(retry, now).map_or(own, |asked| asked.max(own)).min(longest))
}

/// The pause that the peer has asked for.
fn asked(retry: &Retry, now: UnixMillis) -> Option<Duration> {
    retry.at.map(|at| Duration::from_millis(u64::try_from(at.since(now)).unwrap_or(0)))
}

/// Reaching a peer or not is the peer's record, not the envelope's: ten thousand envelopes to a
/// dead peer wait for one probe. Attempts that ran at the same time and failed together count once.
async fn note_on_peer(
    tx: &mut Tx,
    policy: &RetryPolicy,
    leased: &Leased,
    outcome: &Outcome,
    started: UnixMillis,
    now: UnixMillis,
) -> Result<(), Error> {
    let domain = leased.peer_handle.domain().folded();
    let retry = match outcome {
        Outcome::Delivered { .. } => return Ok(peers::note_delivery(tx, &domain, now).await?),
        Outcome::Retry(retry) if retry.scope == FailureScope::Peer || retry.at.is_some() => retry,
        _ => return Ok(()),
    };
    let record = peers::find(tx, &domain).await?;
    if retry.scope == FailureScope::Peer {
        // One in the future was noted by a clock that was ahead.
        let is_since = |at: UnixMillis| (started..=now).contains(&at);
        let counted = record.as_ref().is_some_and(|peer| peer.last_failure_at.is_some_and(is_since));
        if !counted {
            let failures = record.as_ref().map_or(0, |peer| peer.failures).saturating_add(1);
            let wanted = policy.after(failures);
            let mut wait = pause_at_peer(tx, record.as_ref(), leased, wanted, now).await?;
            // What was signed while this attempt was under way has had no probe of its own.
            if wait > EARLY_PROBE && outbox::has_untried(tx, &domain, started).await? {
                wait = EARLY_PROBE;
            }
            let cause = retry.cause.as_ref().unwrap_or(&retry.reason);
            peers::note_failure(tx, &domain, failures, later(policy, now, wait), cause, now).await?;
        }
    }
    if let Some(pause) = asked(retry, now) {
        let pause = pause_at_peer(tx, record.as_ref(), leased, pause, now).await?;
        peers::pause_until(tx, &domain, later(policy, now, pause)).await?;
    }
    Ok(())
}
