//! Somebody with an account, and the device that holds their seed.

use serde_json::{Value, json};
use vellum_client::http::{Direction, FlushItem, FlushResult, Invitation, Method, PendingRevocation};
use vellum_client::{MasterSeed, NodeClient, SignedFields, Signer};
use vellum_protocol::{Handle, JsonObject, MessageType};

use super::{now, wait_for};

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

    /// Rotates from this version to keys of a new seed; nothing is sealed anew.
    pub async fn rotate(&mut self, from: i64) {
        let seed = MasterSeed::generate(&mut rand::rng());
        let commit = json!({
            "expectedCurrent": from,
            "signingKey": seed.signing_secret().public(),
            "encryptionKey": seed.encryption_key(),
            "blobs": [],
            "collections": [],
            "slots": [],
        });
        let (status, answer) = self.ask(Method::POST, "/users/me/km-version/commit", commit).await;
        assert_eq!((status, answer["kmVersion"].as_i64()), (200, Some(from + 1)), "{answer}");
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

    /// The same; the status must be this one. Gives the body.
    pub async fn ask_for(&self, expected: u16, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(method.clone(), path, body).await;
        assert_eq!(status, expected, "{method} {path} was answered with {answer}");
        answer
    }

    pub async fn invite(&self, other: &Handle) -> Invitation {
        let signed = self.signer().invite(other, now(), &mut rand::rng());
        self.client.invite(other, &signed).await.unwrap()
    }

    /// The incoming invitation of somebody, once it has come.
    pub async fn invitation_from(&self, other: &Handle) -> Invitation {
        let is_theirs = |invitation: &Invitation| invitation.from_handle == *other;
        let probe = || async { self.client.invitations(Direction::Incoming).await.unwrap() };
        let what = format!("an invitation by {other} arrives");
        let all = wait_for(&what, probe, |all| all.iter().any(is_theirs)).await;
        all.into_iter().find(is_theirs).unwrap()
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
        wait_for(
            &format!("these are friends: {expected:?}"),
            || self.friends(),
            |friends| expected.iter().all(|handle| friends.contains(handle)),
        )
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
