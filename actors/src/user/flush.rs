//! Taking signed revocations into the outbox (`POST /users/me/revocations/flush`).

use std::collections::HashSet;

use futures_util::FutureExt;
use vellum_protocol::{Envelope, Handle, MessageType};
use vellum_store::users::User;
use vellum_store::{OutboxId, Tx, outbox};

use super::{Scope, SignedFields, UserCommand, invite, load};
use crate::Error;
use crate::waiters::OutcomeReceiver;

/// One peer's revocation, signed.
#[derive(Debug, Clone)]
pub struct FlushItem {
    /// The peer, as the pending list spells it.
    pub peer_handle: String,
    /// What the client signed.
    pub signed: SignedFields,
}

/// Queues the signed revocations; each item is judged by itself.
#[derive(Debug)]
pub struct Flush {
    /// The items, in the order of the answer.
    pub items: Vec<FlushItem>,
}

/// Why an item was not taken. It is never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ItemRefusal {
    /// Nothing is pending for this handle.
    #[error("not pending: no revocation is pending for this handle")]
    NotPending,
    /// An earlier item of the same request names the same peer.
    #[error("duplicate: an earlier item names the same peer")]
    Duplicate,
    /// The timestamp is none, or not of now.
    #[error("stale timestamp: it must be an RFC 3339 time within 300 s of now")]
    StaleTimestamp,
    /// The signature does not verify with the user's key.
    #[error(
        "bad signature: it does not verify with your signing key for this peer, nonce, timestamp and message version"
    )]
    BadSignature,
    /// The nonce is none.
    #[error("bad nonce: it must be base64 of 8 to 64 bytes")]
    InvalidNonce,
}

impl ItemRefusal {
    /// The refusal as a word for programs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotPending => "not_pending",
            Self::Duplicate => "duplicate",
            Self::StaleTimestamp => "stale_timestamp",
            Self::BadSignature => "bad_signature",
            Self::InvalidNonce => "invalid_nonce",
        }
    }
}

/// An item that is in the outbox now.
#[derive(Debug)]
pub struct Queued {
    /// Its row.
    pub id: OutboxId,
    /// The peer.
    pub peer: Handle,
    /// Tells the outcome of the next attempt.
    pub outcome: OutcomeReceiver,
}

impl UserCommand for Flush {
    type Output = Vec<Result<Queued, ItemRefusal>>;
    const NAME: &'static str = "flush";

    async fn run(self, scope: Scope) -> Result<Self::Output, Error> {
        // Verified before the transaction: a thousand signatures must not hold the writer up.
        let user = load(&mut *scope.node.store.read().await?, &scope.user).await?;
        if user.identity.keys.is_none() || user.identity.alias.is_none() {
            return Err(Error::IdentityIncomplete);
        }
        let mut seen = HashSet::new();
        let judged: Vec<_> = self
            .items
            .iter()
            .map(|item| judge(item, &mut seen, &user, &scope))
            .collect::<Result<_, Error>>()?;
        let node = scope.node.clone();
        node.store
            .write(move |tx| {
                async move {
                    let now_valid = load(tx, &scope.user).await?.identity;
                    if now_valid != user.identity {
                        // Another replica changed the identity since; nothing of this is valid any more.
                        return Err(Error::RotationConflict { current: now_valid.km_version });
                    }
                    let mut results = Vec::with_capacity(judged.len());
                    for item in judged {
                        results.push(match item {
                            Ok(envelope) => queue(tx, &scope, &envelope).await?,
                            Err(refusal) => Err(refusal),
                        });
                    }
                    Ok(results)
                }
                .boxed()
            })
            .await
    }
}

fn judge(
    item: &FlushItem,
    seen: &mut HashSet<String>,
    user: &User,
    scope: &Scope,
) -> Result<Result<Envelope, ItemRefusal>, Error> {
    let Ok(peer) = Handle::parse(&item.peer_handle) else {
        return Ok(Err(ItemRefusal::NotPending));
    };
    if !seen.insert(item.peer_handle.clone()) {
        return Ok(Err(ItemRefusal::Duplicate));
    }
    match item.signed.envelope(&scope.node, user, MessageType::RelationshipRevoke, &peer, scope.now) {
        Ok(envelope) => Ok(Ok(envelope)),
        Err(Error::StaleTimestamp) => Ok(Err(ItemRefusal::StaleTimestamp)),
        Err(Error::InvalidNonce) => Ok(Err(ItemRefusal::InvalidNonce)),
        Err(Error::BadSignature) => Ok(Err(ItemRefusal::BadSignature)),
        Err(other) => Err(other),
    }
}

async fn queue(
    tx: &mut Tx,
    scope: &Scope,
    envelope: &Envelope,
) -> Result<Result<Queued, ItemRefusal>, Error> {
    let peer = envelope.content.to.clone();
    if outbox::pending_for_peer(tx, &scope.user, &peer).await?.is_none() {
        return Ok(Err(ItemRefusal::NotPending));
    }
    let (id, outcome) = invite::queue(tx, scope, envelope, "").await?;
    Ok(Ok(Queued { id, peer, outcome }))
}
