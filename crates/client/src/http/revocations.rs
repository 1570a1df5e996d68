//! The queue of those who have yet to learn that a relationship is over (`/users/me/revocations`).

use reqwest::Method;
use serde::{Deserialize, Serialize};
use vellum_protocol::{Handle, Timestamp};

use super::error::ClientError;
use super::node_client::NodeClient;
use super::path::segment;
use crate::signer::SignedFields;

/// How far a revocation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationState {
    /// The user has to sign, for the first time or again.
    AwaitingSignature,
    /// Signed; the node tries when it is due.
    Queued,
    /// An attempt is under way.
    Delivering,
    /// The peer has carried it out.
    Delivered,
    /// The peer refuses for good.
    Rejected,
    /// A word that this client does not know.
    #[serde(other)]
    Other,
}

/// A peer that has yet to learn of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingRevocation {
    /// The row's id.
    pub id: String,
    /// The peer, spelled as it has to be signed.
    pub peer_handle: Handle,
    /// Since when it is pending.
    pub created_at: Timestamp,
    /// How far it has come.
    pub state: RevocationState,
    /// How often the node has tried.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// When the last attempt was.
    pub last_attempt_at: Option<Timestamp>,
    /// When the next attempt is due.
    pub next_attempt_at: Option<Timestamp>,
    /// When the signature no longer counts and the user has to sign again.
    pub expires_at: Option<Timestamp>,
}

/// A signed revocation; see [`Signer::revoke`](crate::Signer::revoke).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FlushItem {
    /// The peer, as the pending list spells it.
    pub peer_handle: Handle,
    /// What was signed.
    #[serde(flatten)]
    pub signed: SignedFields,
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlushResult {
    /// The peer, as the item named it.
    pub peer_handle: String,
    /// Whether the peer has carried it out.
    pub delivered: bool,
    /// Why not, as a sentence.
    pub error: Option<String>,
    /// Why the item was not taken, as a word a program can switch on, such as `bad_signature`.
    pub code: Option<String>,
    /// How far it has come; none for an item that was not taken.
    pub state: Option<RevocationState>,
    /// How often the node has tried.
    pub attempts: Option<u32>,
    /// When the next attempt is due.
    pub next_attempt_at: Option<Timestamp>,
}

#[derive(Serialize)]
struct FlushRequest<'a> {
    items: &'a [FlushItem],
}

#[derive(Deserialize)]
struct PendingAnswer {
    revocations: Vec<PendingRevocation>,
}

#[derive(Deserialize)]
struct FlushAnswer {
    results: Vec<FlushResult>,
}

impl NodeClient {
    /// The pending revocations, oldest first.
    ///
    /// # Errors
    /// As for every request.
    pub async fn pending_revocations(&self) -> Result<Vec<PendingRevocation>, ClientError> {
        let answer: PendingAnswer = self.get("/users/me/revocations/pending").await?;
        Ok(answer.revocations)
    }

    /// Hands signed revocations over for delivery, at most 1000 of them. The node waits some
    /// seconds for the first attempts; the answer is in the order of the items, and each is judged
    /// by itself.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the code `identity_incomplete` without alias or keys; otherwise as for
    /// every request.
    pub async fn flush_revocations(&self, items: &[FlushItem]) -> Result<Vec<FlushResult>, ClientError> {
        let request = FlushRequest { items };
        let answer: FlushAnswer =
            self.call(Method::POST, "/users/me/revocations/flush", Some(&request)).await?;
        Ok(answer.results)
    }

    /// Drops a pending revocation: this peer will not be told.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the code `not_pending`; otherwise as for every request.
    pub async fn discard_revocation(&self, peer: &Handle) -> Result<(), ClientError> {
        let path = format!("/users/me/revocations/pending/{}", segment(peer.as_str()));
        self.ask(Method::DELETE, &path, None::<&()>).await.map(drop)
    }
}
