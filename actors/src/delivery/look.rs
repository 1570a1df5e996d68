//! One look at a stretch of the outbox: what is over is closed, what is due is leased. When and where to look is the delivery's
//! business; this is one transaction and what it gives.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;
use vellum_protocol::{MessageType, UnixMillis};
use vellum_store::outbox::{self, Leased, Lot, Stretch, Unread, Unreadable, Wanted};
use vellum_store::{InvitationId, Tx, invitations};

use super::{settle, wrong_times};
use crate::node::Node;
use crate::{BootTime, Error};

/// Rows leased in one transaction.
const BATCH: u32 = 256;
/// Peers looked at in one that may be tried, at least. With the places that each of them has they make a batch.
const FEWEST_PEERS: u32 = 16;
/// How long a peer that has taken something counts as one that takes more. After that it is tried with one row first.
const PROVEN_MILLIS: i64 = 3_600_000;
/// How long a lease holds. An attempt fetches at most two documents (10 s each) and posts (15 s).
pub(crate) const LEASE_MILLIS: i64 = 60_000;
/// What of that an attempt may use.
const LEASE_HOLDS: Duration = Duration::from_secs(50);

/// Where to look, and what is known before.
pub(super) struct Look {
    /// The word of the leases.
    pub lease: String,
    /// The peers whose domains come after this one; after `""` come all, and what is over is closed.
    pub after: String,
    /// Whether something is known to be due. Else a look from the beginning reads first: an idle node writes nothing.
    pub due: bool,
    /// How many rows may be under way to one peer.
    pub per_peer: u32,
    /// Whether there will be another round in any case, so that nobody has to know when the next thing is due.
    pub again: bool,
    /// Whether to search first for times that a wrong clock has stored.
    pub correct: bool,
}

/// What a look has found.
pub(super) struct Scan {
    pub leased: Vec<Leased>,
    /// How long the database was at work for it.
    pub took: Duration,
    /// Until when what is leased may be sent.
    pub until: BootTime,
    pub next: Next,
}

/// Where to go on.
pub(super) enum Next {
    /// With the peers after this domain.
    After(String),
    /// All have been looked at. The next thing is due in this time; `None` when nothing is, or nobody asked.
    Round(Option<Duration>),
    /// From the beginning, after a while: the database has failed.
    Failed(Error),
}

impl Look {
    pub async fn run(self, node: Arc<Node>) -> Result<Scan, Error> {
        if self.correct {
            wrong_times::correct(&node).await?;
        }
        // Read before the lease begins, and from the clock that goes on while the machine is
        // suspended.
        let until = node.clock.boot() + LEASE_HOLDS;
        let now = node.clock.now();
        let mut took = Duration::ZERO;
        if self.after.is_empty() && !self.due {
            let sleep = until_next(&node, now, &mut took).await?;
            if sleep.is_none_or(|sleep| !sleep.is_zero()) {
                return Ok(Scan { leased: Vec::new(), took, until, next: Next::Round(sleep) });
            }
        }
        let again = self.again;
        let (leased, stretch, leasing) = self.lease(&node, now).await?;
        let next = match stretch.last() {
            Some(last) => Next::After(last.to_owned()),
            None if again || is_full(&leased) => Next::Round(None),
            // What is leased has to be sent, whatever comes of this.
            None => match until_next(&node, now, &mut took).await {
                Ok(sleep) => Next::Round(sleep),
                Err(error) => Next::Failed(error),
            },
        };
        Ok(Scan { leased, took: took + leasing, until, next })
    }

    /// Leases what is due. Gives also whom it has looked at, and how long that took the database.
    async fn lease(self, node: &Node, now: UnixMillis) -> Result<(Vec<Leased>, Stretch, Duration), Error> {
        let Self { lease, after, per_peer, .. } = self;
        let (lot, peers) = (Lot::new(rand::random()), FEWEST_PEERS.max(BATCH / per_peer.max(1)));
        let (own, asked) = (node.domain.folded(), Instant::now());
        let (leased, stretch, took, lapsed) = node
            .store
            .write(move |tx| {
                async move {
                    let begun = Instant::now();
                    let lapsed = if after.is_empty() { close_what_is_over(tx, now).await? } else { 0 };
                    let stretch = outbox::stretch(tx, &after, peers, now).await?;
                    let until = now.plus_millis(LEASE_MILLIS);
                    let proven_since = now.plus_millis(-PROVEN_MILLIS);
                    let wanted =
                        Wanted { now, until, limit: BATCH, per_peer, lot, stretch, proven_since, own };
                    let leased = outbox::lease_due(tx, &lease, &wanted).await?;
                    Ok::<_, Error>((leased, wanted.stretch, begun.elapsed(), lapsed))
                }
                .boxed()
            })
            .await?;
        let asked = asked.elapsed();
        // Said only now: a transaction may be run more than once.
        if lapsed > 0 {
            tracing::info!(messages = lapsed, "given up: their recipients' nodes did not take them in time");
        }
        let leased = readable(node, leased, now).await;
        // Where this node has a writer of its own, it may have waited for that; where it has not, all of it is the server's work.
        Ok((leased, stretch, if node.store.is_shared() { asked } else { took }))
    }
}

/// The rows behind the leases. What cannot be read is set aside, or the rest would stand still behind it for ever.
async fn readable(node: &Node, leases: Vec<Unread>, now: UnixMillis) -> Vec<Leased> {
    let (mut leased, mut unreadable) = (Vec::with_capacity(leases.len()), Vec::new());
    for lease in leases {
        match lease.read() {
            Ok(row) => leased.push(row),
            Err(row) => unreadable.push(row),
        }
    }
    for row in unreadable {
        let Unreadable { id, error, .. } = &row;
        tracing::error!(row = %id, %error, "a row of the outbox cannot be read; it is set aside as rejected");
        let set_aside: Result<(), Error> = node
            .store
            .write(move |tx| async move { Ok(outbox::set_aside(tx, &row, now).await?) }.boxed())
            .await;
        if let Err(error) = set_aside {
            // What could be read has to be sent all the same; this row comes again when its lease is over.
            tracing::error!(%error, "it could not be set aside");
        }
    }
    leased
}

/// Puts rows whose lease has ended back into the queue, and gives up what its recipients' nodes did not take in time. Gives how many
/// those are.
async fn close_what_is_over(tx: &mut Tx, now: UnixMillis) -> Result<usize, Error> {
    outbox::expire_leases(tx, now).await?;
    let lapsed = outbox::expire(tx, now).await?;
    for message in &lapsed {
        if message.message_type == MessageType::FriendInvite {
            let reason = message.last_error.as_deref().unwrap_or("it was not tried in time");
            invitations::note_failure(tx, &InvitationId::from(message.subject.clone()), reason).await?;
        }
        settle::lapsed(tx, message, now).await?;
    }
    Ok(lapsed.len())
}

/// How long it is until something is due; nothing may ever be. Adds how long it took to find out.
async fn until_next(node: &Node, now: UnixMillis, took: &mut Duration) -> Result<Option<Duration>, Error> {
    let begun = Instant::now();
    let next = outbox::next_due(&mut *node.store.read().await?).await?;
    *took += begun.elapsed();
    Ok(next.map(|next| Duration::from_millis(u64::try_from(next.since(now)).unwrap_or(0))))
}

/// Whether that is as much as one look may take: there may be more that is due.
pub(super) fn is_full(leased: &[Leased]) -> bool {
    leased.len() >= BATCH as usize
}
