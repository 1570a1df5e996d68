//! Somebody with an account and a device that signs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vellum_actors::node::Node;
use vellum_actors::user::{FlushItem, RegisterKeys, ResetIdentity, SetAlias, SignedFields, Source};
use vellum_actors::{Error, friends, revocations};
use vellum_client::{MasterSeed, Signer};
use vellum_protocol::{Alias, Handle, KmVersion, UnixMillis};
use vellum_store::friendships::{self, Friendship};
use vellum_store::invitations::{self, Direction, Invitation};
use vellum_store::outbox::{self, PendingRevocation};
use vellum_store::transport_nonces::TransportNonce;
use vellum_store::users::Keys;
use vellum_store::{InvitationId, UserId};

use super::Site;

/// What a client sends, as the node takes it.
pub fn fields(signed: vellum_client::SignedFields) -> SignedFields {
    SignedFields {
        signature: signed.signature.to_base64(),
        nonce: signed.nonce,
        timestamp: signed.timestamp.as_str().to_owned(),
        message_version: signed.message_version,
    }
}

/// As a message comes from another node: in a request of its own.
pub fn in_a_request() -> Source {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let nonce = format!("request {}", NEXT.fetch_add(1, Ordering::Relaxed));
    Source::Request(TransportNonce { sender: "elsewhere.example".into(), nonce, until: UnixMillis(i64::MAX) })
}

/// Public keys out of a seed.
pub fn keys_of(seed: &MasterSeed) -> Keys {
    Keys { signing: seed.signing_secret().public(), encryption: seed.encryption_key() }
}

pub struct Person {
    pub node: Arc<Node>,
    pub id: UserId,
    pub handle: Handle,
    pub signer: Signer,
    pub keys: Keys,
}

impl Person {
    pub async fn join(site: &Site, alias: &str) -> Self {
        let (node, id) = (Arc::clone(&site.node), site.account(alias).await);
        let alias = Alias::parse(alias).unwrap();
        let handle = node.ask(&id, SetAlias { alias }).await.unwrap().handle;
        let seed = MasterSeed::generate(&mut rand::rng());
        let signer = Signer::new(handle.clone(), seed.signing_secret());
        let person = Self { node, id, handle, signer, keys: keys_of(&seed) };
        person.register(person.keys, None).await.unwrap();
        person
    }

    pub async fn register(&self, keys: Keys, expected: Option<i64>) -> Result<KmVersion, Error> {
        let expected = expected.map(|version| KmVersion::new(version).unwrap());
        self.node.ask(&self.id, RegisterKeys { keys, expected }).await
    }

    /// Resets the identity: how many revocations are pending then.
    pub async fn reset(&self) -> u64 {
        self.node.ask(&self.id, ResetIdentity).await.unwrap()
    }

    /// Makes new keys and registers them.
    pub async fn renew_keys(&mut self) {
        let seed = MasterSeed::generate(&mut rand::rng());
        self.signer = Signer::new(self.handle.clone(), seed.signing_secret());
        self.keys = keys_of(&seed);
        self.register(self.keys, None).await.unwrap();
    }

    pub async fn invite(&self, other: &Self) -> Result<Invitation, Error> {
        let signed = self.signer.invite(&other.handle, self.node.clock.now(), &mut rand::rng());
        friends::invite(&self.node, &self.id, &other.handle, Some(fields(signed))).await
    }

    pub async fn accept(&self, id: InvitationId, from: &Handle) -> Result<(), Error> {
        let signed = self.signer.accept(from, self.node.clock.now(), &mut rand::rng());
        friends::accept(&self.node, &self.id, id, Some(fields(signed))).await
    }

    pub async fn accept_from(&self, other: &Self) -> Result<(), Error> {
        let invitation = self.invitation_of(other).await.expect("there is an invitation");
        self.accept(invitation.id, &other.handle).await
    }

    pub async fn friends(&self) -> Vec<Friendship> {
        friendships::of_user(&mut self.node.store.read().await.unwrap(), &self.id).await.unwrap()
    }

    pub async fn has_friend(&self, other: &Self) -> bool {
        self.friends().await.iter().any(|friendship| friendship.friend.handle == other.handle)
    }

    pub async fn invitations(&self, direction: Direction) -> Vec<Invitation> {
        let mut conn = self.node.store.read().await.unwrap();
        let since = self.node.settings.invitations.expired_until(self.node.clock.now());
        invitations::pending_of_user(&mut conn, &self.id, Some(direction), since).await.unwrap()
    }

    /// The open invitation from somebody.
    pub async fn invitation_of(&self, other: &Self) -> Option<Invitation> {
        let incoming = self.invitations(Direction::Incoming).await;
        incoming.into_iter().find(|invitation| invitation.from == other.handle)
    }

    pub async fn has_invited(&self, other: &Self) -> bool {
        let outgoing = self.invitations(Direction::Outgoing).await;
        outgoing.iter().any(|invitation| invitation.to == other.handle)
    }

    /// A signed revocation for somebody, of now.
    pub fn revocation(&self, peer: &Handle) -> FlushItem {
        self.revocation_at(peer, 0)
    }

    /// The same, signed this many milliseconds from now.
    pub fn revocation_at(&self, peer: &Handle, millis: i64) -> FlushItem {
        let at = self.node.clock.now().plus_millis(millis);
        let signed = fields(self.signer.revoke(peer, at, &mut rand::rng()));
        FlushItem { peer_handle: peer.to_string(), signed }
    }

    pub async fn flush(&self, items: Vec<FlushItem>) -> Vec<revocations::Flushed> {
        revocations::flush(&self.node, &self.id, items).await.unwrap()
    }

    pub async fn pending(&self) -> Vec<PendingRevocation> {
        outbox::pending_of_user(&mut self.node.store.read().await.unwrap(), &self.id).await.unwrap()
    }
}
