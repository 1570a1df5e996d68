//! Sharing a resource with a friend (`POST /sharing`, `PUT /sharing/envelope`, `PATCH /sharing/{id}`), and
//! ending that (`DELETE /sharing/{id}`).
//!
//! A share with a user of this node is written on both sides at once and counts as accepted. One
//! with a friend elsewhere goes as a RESOURCE_SHARE that the client has signed; the protocol has no
//! message that takes it back, so ending it ends our side, and only ending the friendship ends
//! theirs. Existing clients change such a share without a signature: that changes our side alone.

use futures_util::FutureExt;
use vellum_protocol::{Handle, Json, JsonObject, MessageType, base64};
use vellum_store::friendships;
use vellum_store::invitations::Direction;
use vellum_store::shares::{self, Resource, Role, Share as StoredShare, Status};
use vellum_store::usage::Usage;
use vellum_store::users::{self, User};
use vellum_store::{ShareId, Tx, UserId, outbox};

use super::invite::send;
use super::key_generation::load_as_shown;
use super::quotas::{Growth, bytes};
use super::{Scope, SignedFields, UserCommand, load};
use crate::Error;
use crate::replicas::Withdrawal;
use crate::waiters::OutcomeReceiver;

/// What of a share stays as it is when the command runs: its caller may have read an older state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keeps {
    /// Nothing: all of it is given.
    #[default]
    Nothing,
    /// The sealed payload: only the role changes.
    Payload,
    /// The role: only the payload changes.
    Role,
}

/// Shares a resource with a friend, or replaces what was shared with them.
#[derive(Clone, Debug)]
pub struct Share {
    /// The friend, as the list of friends spells it.
    pub recipient: Handle,
    /// What is shared.
    pub resource: Resource,
    /// The sealed payload, as the client has signed it.
    pub encrypted_data: Option<String>,
    /// Its nonce.
    pub nonce: Option<String>,
    /// What the friend may do.
    pub role: Role,
    /// What the client signed; towards another node nothing goes without it. A share that stands is
    /// then changed here only.
    pub signed: Option<SignedFields>,
    /// What stays of a share that there is already.
    pub keeps: Keeps,
}

/// The share as it stands, and word of its first attempt if it went to another node.
#[derive(Debug)]
pub struct Shared {
    /// The sharing side's row.
    pub share: StoredShare,
    /// Tells the outcome of the next attempt.
    pub outcome: Option<OutcomeReceiver>,
}

impl UserCommand for Share {
    type Output = Shared;
    const NAME: &'static str = "share";

    async fn run(self, scope: Scope) -> Result<Shared, Error> {
        let node = scope.node.clone();
        node.store.write(move |tx| async move { self.share(tx, &scope).await }.boxed()).await
    }
}

impl Share {
    async fn share(mut self, tx: &mut Tx, scope: &Scope) -> Result<Shared, Error> {
        let me = load_as_shown(tx, scope).await?;
        self.keep(tx, scope).await?;
        scope.node.handle_of_user(&me)?;
        if friendships::find(tx, &me.id, &self.recipient).await?.is_none() {
            return Err(Error::NotAFriend);
        }
        let local = if scope.node.is_local(&self.recipient) {
            Some(users::by_alias(tx, self.recipient.alias()).await?.ok_or(Error::UserNotFound)?.id)
        } else {
            None
        };
        if local.is_none() && self.signed.is_none() && self.keeps != Keeps::Nothing {
            return self.change_here(tx, scope).await;
        }
        let mut share = self.row(scope, local.clone());
        let growth = Growth::begin(tx, &me.id).await?;
        share.id = shares::put(tx, &share, scope.now).await?;
        let data = share.encrypted_data.as_deref().map_or(0, bytes);
        growth.check(tx, scope, &Usage { shares: 1, bytes: data, ..Usage::default() }).await?;
        let outcome = match local {
            Some(other) => {
                mirror(tx, scope, &me, &share, &other).await?;
                None
            }
            None => Some(self.send(tx, scope, &me, &share.id).await?),
        };
        let share =
            shares::by_id(tx, &me.id, Direction::Outgoing, &share.id).await?.ok_or(Error::ShareNotFound)?;
        Ok(Shared { share, outcome })
    }

    /// Changes our side of a share with a friend elsewhere, who is not told. So the share is as old
    /// as it was: a revocation that the friend has signed meanwhile ends it.
    async fn change_here(self, tx: &mut Tx, scope: &Scope) -> Result<Shared, Error> {
        // The sealed payload that is there would be lost.
        let is_empty = |text: &Option<String>| text.as_deref() == Some("");
        if self.keeps == Keeps::Role && (is_empty(&self.encrypted_data) || is_empty(&self.nonce)) {
            return Err(Error::PayloadRequired);
        }
        let (user, outgoing) = (&scope.user, Direction::Outgoing);
        let row = shares::with_peer(tx, user, outgoing, &self.recipient, &self.resource).await?;
        let id = row.ok_or(Error::ShareNotFound)?.id;
        let growth = Growth::begin(tx, user).await?;
        let data = self.encrypted_data.map(base64::canonical);
        let nonce = self.nonce.map(base64::canonical);
        shares::change(tx, &id, data.as_deref(), nonce.as_deref(), self.role).await?;
        let most = Usage { bytes: data.as_deref().map_or(0, bytes), ..Usage::default() };
        growth.check(tx, scope, &most).await?;
        let share = shares::by_id(tx, user, outgoing, &id).await?.ok_or(Error::ShareNotFound)?;
        Ok(Shared { share, outcome: None })
    }

    /// Takes over what stays from the row as it is now.
    async fn keep(&mut self, tx: &mut Tx, scope: &Scope) -> Result<(), Error> {
        if self.keeps == Keeps::Nothing {
            return Ok(());
        }
        let (recipient, resource) = (&self.recipient, &self.resource);
        let row = shares::with_peer(tx, &scope.user, Direction::Outgoing, recipient, resource).await?;
        let row = row.ok_or(Error::ShareNotFound)?;
        if self.keeps == Keeps::Role {
            self.role = row.role;
        } else {
            (self.encrypted_data, self.nonce) = (row.encrypted_data, row.nonce);
        }
        Ok(())
    }

    fn row(&self, scope: &Scope, local: Option<UserId>) -> StoredShare {
        let accepted = local.is_some();
        StoredShare {
            id: ShareId::generate(),
            user_id: scope.user.clone(),
            direction: Direction::Outgoing,
            peer_handle: self.recipient.clone(),
            peer_user_id: local,
            resource: self.resource.clone(),
            // The envelope carries what was signed; the row has the canonical form.
            encrypted_data: self.encrypted_data.clone().map(base64::canonical),
            nonce: self.nonce.clone().map(base64::canonical),
            role: self.role,
            status: if accepted { Status::Accepted } else { Status::Pending },
            created_at: scope.now,
            accepted_at: accepted.then_some(scope.now),
            unverified_key: None,
        }
    }

    async fn send(
        &self,
        tx: &mut Tx,
        scope: &Scope,
        me: &User,
        id: &ShareId,
    ) -> Result<OutcomeReceiver, Error> {
        let signed = self.signed.as_ref().ok_or(Error::EnvelopeRequired)?;
        let text = |text: &Option<String>| {
            let text = text.as_deref().filter(|text| !text.is_empty());
            text.map(Json::from).ok_or(Error::PayloadRequired)
        };
        let payload = JsonObject::from_iter([
            ("resourceType", Json::from(self.resource.kind.as_str())),
            ("resourceId", Json::from(self.resource.id.as_str())),
            ("encryptedData", text(&self.encrypted_data)?),
            ("nonce", text(&self.nonce)?),
            ("role", Json::from(self.role.as_str())),
        ]);
        let kind = MessageType::ResourceShare;
        let envelope = signed.envelope_with(payload, &scope.node, me, kind, &self.recipient, scope.now)?;
        send(tx, scope, &envelope, id.as_str()).await
    }
}

/// The row of a recipient on the same node. Marked like one that comes from another node, where the
/// recipient has yet to confirm the key of whoever shares.
async fn mirror(
    tx: &mut Tx,
    scope: &Scope,
    me: &User,
    share: &StoredShare,
    other: &UserId,
) -> Result<(), Error> {
    let me_as_peer = scope.node.as_peer(me)?;
    friendships::note_signing_key(tx, other, &me_as_peer, scope.now).await?;
    let theirs = friendships::find(tx, other, &me_as_peer.handle).await?;
    let is_unverified = theirs.is_some_and(|friendship| friendship.keys_changed_at.is_some());
    let mirrored = StoredShare {
        id: ShareId::generate(),
        user_id: other.clone(),
        direction: Direction::Incoming,
        unverified_key: is_unverified.then_some(me_as_peer.signing_key),
        peer_handle: me_as_peer.handle,
        peer_user_id: Some(me.id.clone()),
        ..share.clone()
    };
    shares::put(tx, &mirrored, scope.now).await?;
    Ok(())
}

/// Ends a share that the user has made.
#[derive(Clone, Debug)]
pub struct EndShare {
    /// Which.
    pub id: ShareId,
}

impl UserCommand for EndShare {
    type Output = ();
    const NAME: &'static str = "end_share";

    async fn run(self, scope: Scope) -> Result<(), Error> {
        let node = scope.node.clone();
        let unsent: Result<_, Error> =
            node.store.write(move |tx| async move { self.end(tx, &scope).await }.boxed()).await;
        if let Some(row) = unsent? {
            node.replicas.withdraw(row).await;
        }
        Ok(())
    }
}

impl EndShare {
    /// Returns the outbox row of a share that may not have left the node yet.
    async fn end(self, tx: &mut Tx, scope: &Scope) -> Result<Option<Withdrawal>, Error> {
        let share = shares::by_id(tx, &scope.user, Direction::Outgoing, &self.id).await?;
        let share = share.ok_or(Error::ShareNotFound)?;
        shares::delete(tx, &share.id).await?;
        let Some(other) = &share.peer_user_id else {
            let row =
                outbox::withdraw(tx, &scope.user, MessageType::ResourceShare, share.id.as_str()).await?;
            return match row {
                Some(row) => Ok(Some(scope.node.replicas.withdrawal(tx, row).await?)),
                None => Ok(None),
            };
        };
        let me = load(tx, &scope.user).await?;
        let my_handle = scope.node.handle_of_user(&me)?;
        if let Some(theirs) =
            shares::with_peer(tx, other, Direction::Incoming, &my_handle, &share.resource).await?
        {
            shares::delete(tx, &theirs.id).await?;
        }
        Ok(None)
    }
}
