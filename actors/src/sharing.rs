//! Sharing from beginning to end: take the share, and wait a while for the recipient's node.

use std::sync::Arc;

use vellum_store::outbox::Outcome;
use vellum_store::shares::Share as StoredShare;

use crate::node::Node;
use crate::user::Share;
use crate::{Asker, Error};

/// Shares a resource, and waits a while for the recipient's node to take it.
///
/// # Errors
/// What [`Share`] refuses with; [`Error::ShareRefused`] when the recipient's node refuses for good, which
/// removes the share.
pub async fn share(node: &Arc<Node>, asker: impl Into<Asker>, share: Share) -> Result<StoredShare, Error> {
    let shared = node.ask(asker, share).await?;
    let Some(outcome) = shared.outcome else { return Ok(shared.share) };
    match outcome.first(node.settings.flush_wait).await {
        Some(Outcome::Rejected { .. }) => Err(Error::ShareRefused),
        _ => Ok(shared.share),
    }
}
