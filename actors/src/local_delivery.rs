//! Starting and stopping the delivery, and what it does with a message whose recipient is a user of
//! this very node.

use std::sync::Arc;

use actix::ArbiterHandle;
use futures_util::FutureExt;
use vellum_store::outbox::{FailureScope, Leased, Outcome, Retry};

use crate::Error;
use crate::delivery::{RevocationDelivery, Stop};
use crate::node::Node;
use crate::peer::DeliverHere;
use crate::user::{Receive, Source};

impl Node {
    /// Starts the delivery on an arbiter. Leases that an earlier run of this node left behind are
    /// taken back first.
    ///
    /// # Errors
    /// Only what the database says.
    pub async fn start_delivery(self: &Arc<Self>, arbiter: &ArbiterHandle) -> Result<(), Error> {
        let node = Arc::clone(self);
        let deliver_here: DeliverHere = Arc::new(move |leased| {
            let node = Arc::clone(&node);
            async move { deliver_here(&node, &leased).await }.boxed()
        });
        let (federation, peers) = (Arc::clone(&self.federation), Arc::clone(&self.peers));
        let addr = RevocationDelivery::start(arbiter, &self.name, federation, peers, deliver_here).await?;
        if self.context.delivery.set(addr).is_err() {
            tracing::warn!("the delivery was started already");
        }
        Ok(())
    }

    /// Stops the delivery: no attempt starts any more, those under way are stopped, leases are
    /// handed back.
    pub async fn stop_delivery(&self) {
        if let Some(delivery) = self.context.delivery.get()
            && delivery.send(Stop).await.is_err()
        {
            tracing::debug!("the delivery had stopped already");
        }
    }
}

/// Delivers to a user of this node: no request, the same rules.
async fn deliver_here(node: &Arc<Node>, leased: &Leased) -> Outcome {
    match receive_here(node, leased).await {
        Ok(friends) => Outcome::Delivered { friends },
        Err(Error::UserNotFound) => Outcome::Rejected { reason: "Recipient not found".into() },
        Err(error) => {
            let (reason, scope) = (error.to_string(), FailureScope::Envelope);
            Outcome::Retry(Retry { reason, cause: None, scope, at: None, maybe_arrived: false })
        }
    }
}

async fn receive_here(node: &Arc<Node>, leased: &Leased) -> Result<bool, Error> {
    let content = &leased.envelope.content;
    let recipient = node.user_by_alias(content.to.alias()).await?.ok_or(Error::UserNotFound)?;
    let sender = node.user(&leased.user_id).await?;
    let sender = node.context.as_peer(&sender)?;
    leased.envelope.verify(&sender.signing_key).map_err(|_| Error::BadSignature)?;
    let receive = Receive {
        message_type: content.message_type,
        sender,
        to: content.to.clone(),
        nonce: content.nonce.clone(),
        signed_at: content.timestamp.instant(),
        payload: content.payload.clone(),
        signature: leased.envelope.signature.to_base64(),
        source: Source::Outbox(leased.id.clone(), leased.token.clone()),
    };
    Ok(node.ask(&recipient.id, receive).await?.friends)
}
