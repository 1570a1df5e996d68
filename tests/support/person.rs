//! Somebody with an account, and the device that holds their seed.

use serde_json::{Value, json};
use vellum_client::http::{Direction, FlushItem, FlushResult, Invitation, Method, PendingRevocation};
use vellum_client::{MasterSeed, NodeClient, SignedFields, Signer};
use vellum_protocol::{Handle, JsonObject, MessageType};

use super::{eventually, now};

/// A person. Their client may be used directly for what has no method here.
pub struct Person {
    pub client: NodeClient,
    seed: Option<MasterSeed>,
    handle: Option<Handle>,
}

impl Person {
    pub fn new(client: NodeClient) -> Self {
        Self { client, seed: None, handle: None }
    }

    /// The same person, with another client.
    pub fn seen_through(&self, client: NodeClient) -> Self {
        let seed = self.seed.as_ref().map(|seed| MasterSeed::from_bytes(*seed.expose_bytes()));
        Self { client, seed, handle: self.handle.clone() }
    }

    /// Chooses an alias and registers keys of a new seed.
    pub async fn set_up(&mut self, alias: &str) {
        self.handle = Some(self.client.set_alias(alias).await.unwrap().handle);
        self.new_keys().await;
    }

    /// Registers keys of a new seed.
    pub async fn new_keys(&mut self) {
        let seed = MasterSeed::generate(&mut rand::rng());
        self.client
            .register_keys(&seed.signing_secret().public(), &seed.encryption_key(), None)
            .await
            .unwrap();
        self.seed = Some(seed);
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone().unwrap()
    }

    pub fn signer(&self) -> Signer {
        Signer::new(self.handle(), self.seed.as_ref().unwrap().signing_secret())
    }

    /// Any request with this person's session: the status and the body.
    pub async fn ask(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let body = (!body.is_null()).then_some(&body);
        self.client.request_json(method, path, body).await.unwrap()
    }

    pub async fn invite(&self, other: &Handle) -> Invitation {
        let signed = self.signer().invite(other, now(), &mut rand::rng());
        self.client.invite(other, &signed).await.unwrap()
    }

    /// The incoming invitation of somebody, once it has come.
    pub async fn invitation_from(&self, other: &Handle) -> Invitation {
        eventually("the invitation arrives", || async {
            let invitations = self.client.invitations(Direction::Incoming).await.unwrap();
            invitations.into_iter().find(|invitation| invitation.from_handle == *other)
        })
        .await
    }

    pub async fn accept(&self, other: &Handle) {
        let invitation = self.invitation_from(other).await;
        let signed = self.signer().accept(other, now(), &mut rand::rng());
        self.client.accept_invitation(&invitation.id, &signed).await.unwrap();
    }

    /// Makes the two friends, whatever nodes they are on.
    pub async fn befriend(&self, other: &Self) {
        self.invite(&other.handle()).await;
        other.accept(&self.handle()).await;
        self.await_friends(&[&other.handle()]).await;
    }

    /// The handles in this person's list of friends, in alphabetical order.
    pub async fn friends(&self) -> Vec<Handle> {
        let mut friends: Vec<Handle> =
            self.client.friends().await.unwrap().into_iter().map(|friend| friend.friend_handle).collect();
        friends.sort();
        friends
    }

    /// Waits until all of these are friends.
    pub async fn await_friends(&self, expected: &[&Handle]) {
        eventually("they are friends", || async {
            let friends = self.friends().await;
            expected.iter().all(|handle| friends.contains(handle)).then_some(())
        })
        .await;
    }

    pub async fn pending(&self) -> Vec<PendingRevocation> {
        self.client.pending_revocations().await.unwrap()
    }

    pub fn revocation(&self, peer: &Handle) -> SignedFields {
        self.signer().revoke(peer, now(), &mut rand::rng())
    }

    /// Signs a message with a nonce of the caller's choice.
    pub fn sign_with(
        &self,
        kind: MessageType,
        to: &Handle,
        payload: JsonObject,
        nonce: &str,
    ) -> SignedFields {
        let mut content = self.signer().envelope(kind, to, payload, now(), &mut rand::rng()).content;
        content.nonce = nonce.to_owned();
        content.sign(&self.seed.as_ref().unwrap().signing_secret()).into()
    }

    /// Signs and flushes a revocation for each of these peers.
    pub async fn flush(&self, peers: &[Handle]) -> Vec<FlushResult> {
        let items: Vec<FlushItem> = peers
            .iter()
            .map(|peer| FlushItem { peer_handle: peer.clone(), signed: self.revocation(peer) })
            .collect();
        self.client.flush_revocations(&items).await.unwrap()
    }

    /// Flushes one item whose fields are what the caller made of them.
    pub async fn flush_raw(&self, items: Value) -> (u16, Value) {
        self.ask(Method::POST, "/users/me/revocations/flush", json!({ "items": items })).await
    }
}

/// The fields of a signature as a request has them.
pub fn fields(signed: &SignedFields) -> Value {
    json!({
        "signature": signed.signature,
        "nonce": signed.nonce,
        "timestamp": signed.timestamp,
        "messageVersion": signed.message_version,
    })
}
