//! Inviting somebody (`POST /friends/invite`).

use futures_util::FutureExt;
use vellum_protocol::{Envelope, Handle, MessageType, UnixMillis};
use vellum_store::friendships::{self, RemoteUser};
use vellum_store::invitations::{self, Direction, Invitation, Status};
use vellum_store::users::User;
use vellum_store::{InvitationId, OutboxId, Tx, UserId, outbox, peers};

use super::{Scope, SignedFields, UserCommand, load};
use crate::Error;
use crate::peer::window;
use crate::relationships::become_friends;
use crate::waiters::OutcomeReceiver;

/// Invites a person whose handle has just been resolved.
#[derive(Clone, Debug)]
pub struct Invite {
    /// The person, as their user document shows them.
    pub peer: RemoteUser,
    /// The person's account, if it is on this node.
    pub local: Option<UserId>,
    /// What the client signed; towards another node nothing goes without it.
    pub signed: Option<SignedFields>,
}

/// The invitation as it stands, and word of its first attempt if it went to another node.
#[derive(Debug)]
pub struct Invited {
    /// The inviter's row. Its status is `accepted` if the two are friends now, because both invited.
    pub invitation: Invitation,
    /// Tells the outcome of the next attempt.
    pub outcome: Option<OutcomeReceiver>,
}

impl UserCommand for Invite {
    type Output = Invited;
    const NAME: &'static str = "invite";

    async fn run(self, scope: Scope) -> Result<Invited, Error> {
        let node = scope.node.clone();
        node.store.write(move |tx| async move { self.invite(tx, scope).await }.boxed()).await
    }
}

impl Invite {
    async fn invite(self, tx: &mut Tx, scope: Scope) -> Result<Invited, Error> {
        let me = load(tx, &scope.user).await?;
        let from = scope.node.handle_of_user(&me)?;
        let to = &self.peer.handle;
        if friendships::find(tx, &me.id, to).await?.is_some() {
            return Err(Error::AlreadyFriends);
        }
        let limits = &scope.node.invitations;
        for user in [Some(&me.id), self.local.as_ref()].into_iter().flatten() {
            invitations::expire_of_user(tx, user, limits.expired_until(scope.now)).await?;
        }
        if invitations::with_peer(tx, &me.id, Direction::Outgoing, to).await?.is_some() {
            return Err(Error::AlreadyInvited);
        }
        invitations::forget_failures(tx, &me.id, to).await?;
        let envelope = self
            .signed
            .as_ref()
            .map(|signed| signed.envelope(&scope.node, &me, MessageType::FriendInvite, to, scope.now))
            .transpose()?;
        let signature = envelope.as_ref().map(|envelope| envelope.signature.to_base64());
        let mut invitation = self.row(&scope, Direction::Outgoing, &from, signature);
        match (&self.local, envelope) {
            (Some(other), envelope) => {
                let me_as_peer = scope.node.as_peer(&me)?;
                friendships::note_signing_key(tx, other, &me_as_peer, scope.now).await?;
                let mine = signed_at(envelope.as_ref(), scope.now);
                if let Some(theirs) = invitations::with_peer(tx, &me.id, Direction::Incoming, to).await? {
                    let begin = Beginnings { mine, theirs: theirs.revocable_from };
                    become_friends_here(tx, &scope, &me, other, &self.peer, begin).await?;
                    invitation.status = Status::Accepted;
                } else {
                    if !limits.make_room(tx, other, &scope.node.domain.folded()).await? {
                        return Err(Error::TooManyInvitations);
                    }
                    invitations::insert(tx, &invitation).await?;
                    let mirrored = mirrored(&invitation, other, me_as_peer, mine);
                    invitations::insert(tx, &mirrored).await?;
                }
                Ok(Invited { invitation, outcome: None })
            }
            (None, Some(envelope)) => {
                invitations::insert(tx, &invitation).await?;
                let outcome = send(tx, &scope, &envelope, invitation.id.as_str()).await?;
                Ok(Invited { invitation, outcome: Some(outcome) })
            }
            (None, None) => Err(Error::EnvelopeRequired),
        }
    }

    fn row(
        &self,
        scope: &Scope,
        direction: Direction,
        from: &Handle,
        signature: Option<String>,
    ) -> Invitation {
        Invitation {
            id: InvitationId::generate(),
            local_user_id: scope.user.clone(),
            direction,
            from: from.clone(),
            to: self.peer.handle.clone(),
            status: Status::Pending,
            origin_server: scope.node.domain.as_str().to_owned(),
            signature,
            peer: Some(self.peer.clone()),
            created_at: scope.now,
            revocable_from: scope.now,
        }
    }
}

/// Puts an envelope about an invitation on its way.
pub(super) async fn send(
    tx: &mut Tx,
    scope: &Scope,
    envelope: &Envelope,
    subject: &str,
) -> Result<OutcomeReceiver, Error> {
    Ok(queue(tx, scope, envelope, subject).await?.1)
}

/// Like `send`, but also returns the row id.
pub(super) async fn queue(
    tx: &mut Tx,
    scope: &Scope,
    envelope: &Envelope,
    subject: &str,
) -> Result<(OutboxId, OutcomeReceiver), Error> {
    let domain = envelope.content.to.domain().folded();
    let peer = peers::find(tx, &domain).await?;
    let expires_at = window::closes_at(peer.as_ref(), envelope);
    if let Some(peer) = peer.filter(|peer| peer.retry_at > scope.now) {
        // A pause that it has asked for is kept, as far as this envelope's window allows.
        let longest = window::longest_pause(envelope, expires_at, scope.now).as_millis();
        let asked_until = scope.now.plus_millis(i64::try_from(longest).unwrap_or(i64::MAX / 2));
        peers::shorten_waits(tx, &peer.domain, asked_until, scope.now).await?;
    }
    let trace = scope.origin.trace.map(|trace| trace.to_string());
    let id =
        outbox::queue(tx, &scope.user, envelope, subject, expires_at, trace.as_deref(), scope.now).await?;
    // Before the commit: nobody can have leased the row yet.
    let outcome = scope.node.outcomes.watch(&id);
    scope.queued_for.add(domain);
    Ok((id, outcome))
}

/// When a friendship on one node begins by the clocks of its two, whose revocations are stamped by them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beginnings {
    /// By the acting user's clock.
    pub mine: UnixMillis,
    /// By the other's.
    pub theirs: UnixMillis,
}

/// The moment of a signature by its signer's clock, as far as that is not ahead of ours; without one, now.
pub(super) fn signed_at(envelope: Option<&Envelope>, now: UnixMillis) -> UnixMillis {
    envelope.map_or(now, |envelope| envelope.content.timestamp.instant().min(now))
}

/// Makes two users of this node friends: each gets a row, in the same transaction.
pub(super) async fn become_friends_here(
    tx: &mut Tx,
    scope: &Scope,
    me: &User,
    other: &UserId,
    other_as_peer: &RemoteUser,
    begin: Beginnings,
) -> Result<(), Error> {
    become_friends(tx, &me.id, other_as_peer, scope.now, begin.theirs).await?;
    become_friends(tx, other, &scope.node.as_peer(me)?, scope.now, begin.mine).await?;
    Ok(())
}

/// The row that the invited user of the same node holds.
fn mirrored(
    outgoing: &Invitation,
    invited: &UserId,
    inviter: RemoteUser,
    revocable_from: UnixMillis,
) -> Invitation {
    Invitation {
        id: InvitationId::generate(),
        local_user_id: invited.clone(),
        direction: Direction::Incoming,
        peer: Some(inviter),
        revocable_from,
        ..outgoing.clone()
    }
}
