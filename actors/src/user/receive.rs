//! Carrying out what somebody else signed for this user. The signature has been verified by then, with
//! the sender's key of today (see `inbox`).

use std::sync::Arc;

use futures_util::FutureExt;
use vellum_protocol::text::has_control_characters;
use vellum_protocol::{Handle, Json, JsonObject, MessageType, UnixMillis, base64};
use vellum_store::applied_envelopes::{self, AppliedEnvelope};
use vellum_store::friendships::{self, Friendship, RemoteUser};
use vellum_store::invitations::{self, Direction, Invitation, Status};
use vellum_store::shares::{self, Resource, Role, Share, Status as ShareStatus};
use vellum_store::transport_nonces::TransportNonce;
use vellum_store::{InvitationId, OutboxId, ShareId, Tx, outbox, peers, transport_nonces, usage};

use super::quotas::bytes;
use super::{Scope, UserCommand};
use crate::Error;
use crate::node::REVOCATION_WINDOW_MILLIS;
use crate::refusal::Refusal;
use crate::relationships::{become_friends, end_relationship};

/// How long an envelope that is not a revocation is remembered: twice the time in which it is fresh.
const REMEMBERED_MILLIS: i64 = 600_000;

/// Kinds of resources that can be shared (wire protocol, section 6).
pub const RESOURCE_TYPES: [&str; 4] = ["collection", "route", "map", "layer"];
/// Each sender may have this part of the shares, and of their bytes, that a user takes.
const SENDERS_PART: u64 = 4;
/// The longest id of a resource, in characters.
pub const LONGEST_RESOURCE_ID: usize = 200;
/// The longest nonce of a sealed payload, in characters. Clients send 16.
const LONGEST_SEALED_NONCE: usize = 4096;

/// A verified message for the user.
#[derive(Debug, Clone)]
pub struct Receive {
    /// What it says.
    pub message_type: MessageType,
    /// Who signed it, as resolved just now. The handle is the envelope's `from`.
    pub sender: RemoteUser,
    /// The envelope's `to`, as written.
    pub to: Handle,
    /// Unique per sender: the envelope's nonce, or for version 1 something made from its signature.
    pub nonce: String,
    /// The envelope's time.
    pub signed_at: UnixMillis,
    /// What the type needs.
    pub payload: JsonObject,
    /// The signature, to tell a repetition from another envelope with the same nonce.
    pub signature: String,
    /// How it has come here.
    pub source: Source,
}

/// How a message has come to its recipient's node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// From another node, in a request whose signature has been verified. Its nonce is remembered with what the message
    /// does; a request that is remembered already is refused.
    Request(TransportNonce),
    /// Out of this node's own outbox, under this lease. What its sender has discarded meanwhile is not carried out.
    Outbox(OutboxId, String),
}

/// What a message did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    /// Whether anything changed.
    pub applied: bool,
    /// Whether the two are friends now because both had invited each other.
    pub friends: bool,
}

impl UserCommand for Receive {
    type Output = Received;
    const NAME: &'static str = "receive";

    async fn run(self, scope: Scope) -> Result<Received, Error> {
        let (node, message) = (scope.node.clone(), Arc::new(self));
        let sender = match &message.source {
            Source::Request(nonce) => Some(nonce.sender.clone()),
            Source::Outbox(..) => None,
        };
        let (received, probe) =
            node.store.write(move |tx| async move { message.receive(tx, &scope).await }.boxed()).await?;
        if probe {
            node.wake_delivery_for(sender);
        }
        Ok(received?)
    }
}

impl Receive {
    /// Carries out a message that has come. A refusal is an outcome, too: the request's nonce stays remembered. Tells as
    /// well whether the sending node has earned a probe.
    async fn receive(&self, tx: &mut Tx, scope: &Scope) -> Result<(Result<Received, Refusal>, bool), Error> {
        let probe = match &self.source {
            Source::Request(nonce) => remember(tx, nonce, scope.now).await?,
            Source::Outbox(row, lease) if outbox::is_leased(tx, row, lease).await? => false,
            Source::Outbox(..) => return Err(Error::NotQueued),
        };
        // Whatever becomes of the message: who has signed it shows this key, and the signature
        // proves it.
        let key_changed = friendships::note_signing_key(tx, &scope.user, &self.sender, scope.now).await?;
        match self.once(tx, scope, key_changed).await {
            Ok(received) => Ok((Ok(received), probe)),
            Err(Error::Message(refusal)) => Ok((Err(refusal), probe)),
            Err(other) => Err(other),
        }
    }

    /// Carries the message out, if it has not been before. What it refuses, it refuses before it changes anything.
    async fn once(&self, tx: &mut Tx, scope: &Scope, key_changed: bool) -> Result<Received, Error> {
        let sender = self.sender.handle.as_str();
        if let Some(earlier) = applied_envelopes::find(tx, sender, &self.nonce).await? {
            // The same envelope again: the sender may have missed our answer, so it is given once more. A friendship that
            // has begun since, or that there was all along, is no part of it; one that has ended since is none any more.
            let same = earlier.signature == self.signature && earlier.recipient_handle == self.to.as_str();
            let friendship = friendships::find(tx, &scope.user, &self.sender.handle).await?;
            let stands = friendship.is_some_and(|known| known.established_at <= earlier.applied_at);
            let friends = earlier.friends && stands;
            return if same {
                Ok(Received { applied: earlier.applied, friends })
            } else {
                Err(Refusal::Replayed.into())
            };
        }
        let received = match self.message_type {
            MessageType::FriendInvite => self.invited(tx, scope, key_changed).await?,
            MessageType::FriendAccept => self.accepted(tx, scope, key_changed).await?,
            MessageType::FriendReject => self.rejected(tx, scope).await?,
            MessageType::RelationshipRevoke => self.revoked(tx, scope).await?,
            MessageType::ResourceShare => self.shared(tx, scope).await?,
            other => return Err(Refusal::Unsupported(other).into()),
        };
        let envelope = AppliedEnvelope {
            sender_handle: sender.to_owned(),
            nonce: self.nonce.clone(),
            recipient_handle: self.to.to_string(),
            message_type: self.message_type.as_str().to_owned(),
            signature: self.signature.clone(),
            applied: received.applied,
            friends: received.friends,
            signed_at: self.signed_at,
            applied_at: scope.now,
        };
        applied_envelopes::insert(tx, &envelope, self.forgotten_at(scope.now)).await?;
        Ok(received)
    }

    /// Until then the envelope itself could still pass as fresh, so until then it is remembered.
    fn forgotten_at(&self, now: UnixMillis) -> UnixMillis {
        match self.message_type {
            MessageType::RelationshipRevoke => now.plus_millis(REVOCATION_WINDOW_MILLIS + REMEMBERED_MILLIS),
            _ => now.plus_millis(REMEMBERED_MILLIS),
        }
    }

    /// This moment by the sender's own clock, as far as that is not ahead of ours. A relationship that
    /// begins with this message is dated by it, and so is a revocation: the two can be compared although
    /// the clocks differ. A clock that is ahead must not reach into what is established after this moment.
    fn by_peers_clock(&self, now: UnixMillis) -> UnixMillis {
        self.signed_at.min(now)
    }

    async fn invited(&self, tx: &mut Tx, scope: &Scope, key_changed: bool) -> Result<Received, Error> {
        let (me, peer) = (&scope.user, &self.sender);
        let limits = &scope.node.invitations;
        invitations::expire_of_user(tx, me, limits.expired_until(scope.now)).await?;
        if invitations::with_peer(tx, me, Direction::Outgoing, &peer.handle).await?.is_some() {
            if self.is_overtaken(tx).await? {
                return Err(Refusal::InvitationExists.into());
            }
            // Each has invited the other: nobody is left to accept.
            become_friends(tx, me, peer, scope.now, self.by_peers_clock(scope.now)).await?;
            return Ok(Received { applied: true, friends: true });
        }
        if let Some(friendship) = friendships::find(tx, me, &peer.handle).await?
            && !key_changed
            && self.signed_at <= friendship.revocable_from
        {
            // The other half of two crossing invitations, which are a friendship since.
            self.date_back(tx, scope, &friendship).await?;
            return Ok(Received { applied: false, friends: true });
        }
        if invitations::with_peer(tx, me, Direction::Incoming, &peer.handle).await?.is_some() {
            return Err(Refusal::InvitationExists.into());
        }
        if !limits.make_room(tx, me, &peer.handle.domain().folded()).await? {
            return Err(Refusal::TooManyInvitations.into());
        }
        let invitation = Invitation {
            id: InvitationId::generate(),
            local_user_id: me.clone(),
            direction: Direction::Incoming,
            from: peer.handle.clone(),
            to: self.to.clone(),
            status: Status::Pending,
            origin_server: peer.handle.domain().as_str().to_owned(),
            signature: Some(self.signature.clone()),
            peer: Some(peer.clone()),
            created_at: scope.now,
            revocable_from: self.by_peers_clock(scope.now),
        };
        invitations::insert(tx, &invitation).await?;
        Ok(Received { applied: true, friends: false })
    }

    /// Whether the sender has ended, by a revocation that came first, what this message was signed to begin. Messages take
    /// different times, and friends would be one-sided for good.
    async fn is_overtaken(&self, tx: &mut Tx) -> Result<bool, Error> {
        let (sender, to) = (&self.sender.handle, &self.to);
        Ok(applied_envelopes::revoked_after_signing(tx, sender, to, self.signed_at).await?)
    }

    async fn accepted(&self, tx: &mut Tx, scope: &Scope, key_changed: bool) -> Result<Received, Error> {
        let (me, peer) = (&scope.user, &self.sender);
        let expired_until = scope.node.invitations.expired_until(scope.now);
        invitations::expire_of_user(tx, me, expired_until).await?;
        let Some(ours) = invitations::with_peer(tx, me, Direction::Outgoing, &peer.handle).await? else {
            return self.accepted_again(tx, scope, key_changed).await;
        };
        if self.is_overtaken(tx).await? {
            return Err(Refusal::NoOriginalInvitation.into());
        }
        if outbox::invites_after_revoking(tx, me, &peer.handle, &ours.id).await? {
            // What is accepted is an earlier invitation, and the revocation is about to end that at the peer's.
            return Err(Refusal::NoOriginalInvitation.into());
        }
        become_friends(tx, me, peer, scope.now, self.by_peers_clock(scope.now)).await?;
        Ok(Received { applied: true, friends: true })
    }

    /// Dates a friendship that began with an answer to our invitation, and so by our clock, by what the peer has signed.
    async fn date_back(&self, tx: &mut Tx, scope: &Scope, friendship: &Friendship) -> Result<(), Error> {
        if friendship.revocable_from == friendship.established_at {
            let at = self.by_peers_clock(scope.now);
            friendships::date_back(tx, &scope.user, &self.sender.handle, at).await?;
        }
        Ok(())
    }

    /// Two that are friends agree already: an answer of ours was lost, or theirs to our invitation
    /// said it first.
    async fn accepted_again(&self, tx: &mut Tx, scope: &Scope, key_changed: bool) -> Result<Received, Error> {
        let known = friendships::find(tx, &scope.user, &self.sender.handle).await?;
        let known = known.ok_or(Refusal::NoOriginalInvitation)?;
        if !key_changed {
            self.date_back(tx, scope, &known).await?;
        }
        Ok(Received { applied: key_changed, friends: true })
    }

    async fn rejected(&self, tx: &mut Tx, scope: &Scope) -> Result<Received, Error> {
        let (me, peer) = (&scope.user, &self.sender.handle);
        let ours = invitations::with_peer(tx, me, Direction::Outgoing, peer).await?;
        let ours = ours.ok_or(Refusal::NoInvitation)?;
        invitations::delete(tx, &ours.id).await?;
        Ok(Received { applied: true, friends: false })
    }

    /// One row per sender and resource: a repetition brings what is new and asks nobody again.
    async fn shared(&self, tx: &mut Tx, scope: &Scope) -> Result<Received, Error> {
        let text = |name: &str| self.payload.get(name).and_then(Json::as_str).filter(|text| !text.is_empty());
        // What is signed stays as it was sent; what is kept for the recipient has one form.
        let sealed = |name: &str| {
            text(name).map(|text| base64::canonical(text.to_owned())).filter(|text| !text.is_empty())
        };
        let (Some(kind), Some(id), Some(data), Some(nonce)) =
            (text("resourceType"), text("resourceId"), sealed("encryptedData"), sealed("nonce"))
        else {
            return Err(Refusal::MissingResource.into());
        };
        if [kind, id, &data, &nonce].into_iter().any(has_control_characters) {
            return Err(Refusal::InvalidResource("it has control characters").into());
        }
        if nonce.chars().count() > LONGEST_SEALED_NONCE {
            return Err(Refusal::InvalidResource("its nonce is too long").into());
        }
        if !RESOURCE_TYPES.contains(&kind) || id.chars().count() > LONGEST_RESOURCE_ID {
            return Err(Refusal::UnknownResource.into());
        }
        let friendship = friendships::find(tx, &scope.user, &self.sender.handle).await?;
        let friendship = friendship.ok_or(Refusal::NotAFriend)?;
        let resource = Resource { kind: kind.to_owned(), id: id.to_owned() };
        self.check_room_for_share(tx, scope, &resource, bytes(&data) + bytes(&nonce)).await?;
        let share = Share {
            id: ShareId::generate(),
            user_id: scope.user.clone(),
            direction: Direction::Incoming,
            peer_handle: self.sender.handle.clone(),
            peer_user_id: None,
            resource,
            encrypted_data: Some(data),
            nonce: Some(nonce),
            role: text("role").and_then(Role::parse).unwrap_or(Role::Viewer),
            status: ShareStatus::Pending,
            created_at: scope.now,
            accepted_at: None,
            unverified_key: friendship.keys_changed_at.map(|_| self.sender.signing_key),
        };
        shares::put(tx, &share, self.by_peers_clock(scope.now)).await?;
        Ok(Received { applied: true, friends: false })
    }

    /// Others together may keep as much with a user as the user may keep, and each of them a part
    /// of it: a friend on another node is not bound by quotas of ours.
    async fn check_room_for_share(
        &self,
        tx: &mut Tx,
        scope: &Scope,
        resource: &Resource,
        more: u64,
    ) -> Result<(), Error> {
        let quotas = scope.node.quotas;
        let kept = usage::incoming_shares(tx, &scope.user, &self.sender.handle, resource).await?;
        let part = |quota: u64| (quota / SENDERS_PART).max(1);
        let fits = kept.all < quotas.shares
            && kept.bytes + more <= quotas.bytes
            && kept.of_sender < part(quotas.shares)
            && kept.bytes_of_sender + more <= part(quotas.bytes);
        if fits { Ok(()) } else { Err(Refusal::TooManyShares.into()) }
    }

    async fn revoked(&self, tx: &mut Tx, scope: &Scope) -> Result<Received, Error> {
        let cutoff = self.by_peers_clock(scope.now);
        let (me, peer) = (&scope.user, &self.sender.handle);
        let applied = end_relationship(tx, me, peer, cutoff).await?;
        if applied && friendships::find(tx, me, peer).await?.is_none() {
            // It would be taken for the answer to an invitation that has followed.
            outbox::drop_acceptances(tx, me, peer).await?;
        }
        Ok(Received { applied, friends: false })
    }
}

/// Remembers the nonce of a request whose signature has been verified: nobody else can use one up.
/// A server that is being waited for has spoken, then; tells whether that has earned it a probe.
pub(crate) async fn remember(tx: &mut Tx, nonce: &TransportNonce, now: UnixMillis) -> Result<bool, Error> {
    if !transport_nonces::remember(tx, nonce, now).await? {
        return Err(Refusal::Auth("Replayed nonce".into()).into());
    }
    Ok(peers::allow_probe(tx, &nonce.sender, now).await?)
}
