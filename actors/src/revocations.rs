//! A flush from beginning to end: take the signed envelopes, wait a while for what becomes of them, and
//! answer for every item.

use std::sync::Arc;

use tokio::time::Instant;
use vellum_protocol::UnixMillis;
use vellum_store::UserId;
use vellum_store::outbox::{self, Outcome, PendingRevocation, State};

use crate::node::Node;
use crate::user::{Flush, FlushItem, Queued};
use crate::{Asker, Error};

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flushed {
    /// The peer, as the item named it.
    pub peer_handle: String,
    /// Whether the peer's node has confirmed.
    pub delivered: bool,
    /// Why not, in words.
    pub error: Option<String>,
    /// Why an item was not taken, as a word for programs.
    pub code: Option<&'static str>,
    /// Where its row stands now; `None` when there is none (any more).
    pub state: Option<State>,
    /// Attempts so far with this signature.
    pub attempts: u32,
    /// When the next attempt is due.
    pub next_attempt_at: Option<UnixMillis>,
}

/// Takes signed revocations, and waits for their first attempts' outcomes up to the limit in the
/// settings. The answers are in the order of the items; of no items there are none. One slow peer
/// delays no other, only the answer.
///
/// # Errors
/// [`Error::IdentityIncomplete`]; trouble with an item is in that item's answer.
pub async fn flush(
    node: &Arc<Node>,
    asker: impl Into<Asker>,
    items: Vec<FlushItem>,
) -> Result<Vec<Flushed>, Error> {
    if items.is_empty() {
        return Ok(Vec::new());
    }
    let asker = asker.into();
    let handles: Vec<String> = items.iter().map(|item| item.peer_handle.clone()).collect();
    let deadline = Instant::now() + node.settings.flush_wait;
    let queued = node.ask(&asker, Flush { items }).await?;
    let mut results = Vec::with_capacity(queued.len());
    for (peer_handle, item) in handles.into_iter().zip(queued) {
        let flushed = Flushed::unanswered(peer_handle);
        results.push(match item {
            Ok(queued) => settled(node, &asker.user, queued, deadline, flushed).await?,
            Err(refusal) => {
                Flushed { error: Some(refusal.to_string()), code: Some(refusal.code()), ..flushed }
            }
        });
    }
    Ok(results)
}

impl Flushed {
    fn unanswered(peer_handle: String) -> Self {
        Self {
            peer_handle,
            delivered: false,
            error: None,
            code: None,
            state: None,
            attempts: 0,
            next_attempt_at: None,
        }
    }

    /// Tells what the row says of an item that has not been delivered yet.
    fn not_delivered(&mut self, row: Option<PendingRevocation>) {
        let Some(row) = row else {
            self.error = Some("no longer pending".into());
            return;
        };
        self.error = Some(match (row.state, row.last_error) {
            (State::Delivering, Some(error)) if row.attempts > 0 => {
                format!("under way again; the last attempt: {error}")
            }
            (State::Delivering, _) => "under way: the peer has not answered yet".into(),
            // What is noted of an earlier signature says nothing of this one.
            (_, Some(error)) if row.attempts > 0 => error,
            _ => "queued: not attempted yet".into(),
        });
        self.state = Some(row.state);
        self.attempts = row.attempts;
        self.next_attempt_at = row.next_attempt_at;
    }
}

async fn settled(
    node: &Arc<Node>,
    user: &UserId,
    queued: Queued,
    deadline: Instant,
    mut flushed: Flushed,
) -> Result<Flushed, Error> {
    // Nothing can become of it before the deadline: its peer is being waited for.
    let wait = deadline.saturating_duration_since(Instant::now());
    let latest = node.clock.now().plus_millis(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
    let row = outbox::pending_for_peer(&mut *node.store.read().await?, user, &queued.peer).await?;
    if row.as_ref().is_some_and(|row| row.next_attempt_at.is_some_and(|next| next > latest)) {
        flushed.not_delivered(row);
        return Ok(flushed);
    }
    match queued.outcome.before(deadline).await {
        Some(Outcome::Delivered { .. }) => flushed.delivered = true,
        Some(Outcome::Withdrawn) => flushed.error = Some("discarded while it was on its way".into()),
        _ => flushed.not_delivered(
            outbox::pending_for_peer(&mut *node.store.read().await?, user, &queued.peer).await?,
        ),
    }
    Ok(flushed)
}
