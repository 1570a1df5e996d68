//! Becoming friends again, in both directions: one side invites, the other accepts and is a friend at once,
//! the first hears of it, or never does. The messages between are not examined here as the revocation is, so
//! an invitation arrives at once; an accept arrives at any later time, or its window closes and it is undone.
//! Ending a friendship is in `sender` (the reset) and `receiver`. Invitations that cross are left out.

use crate::envelope::Standing;
use crate::sender::{Accept, Row};
use crate::{Defect, Revocation, State};

/// A's user invites, B's accepts.
impl State {
    pub(crate) fn invite(&mut self, model: &Revocation) -> Option<()> {
        let apart = !self.a.friend && self.a.invited.is_none() && self.b.invited.is_none();
        (apart && !self.a.busy() && self.a.identity.key.is_some()).then_some(())?;
        self.count_invitation(model)?;
        self.a.invited = Some(self.now);
        // One that is pending stays: "Invitation already exists".
        self.b.invitation.get_or_insert(self.now);
        Some(())
    }

    /// The new friendship replaces an older one.
    pub(crate) fn accept(&mut self) -> Option<()> {
        self.b.friend = Some(self.b.invitation.take()?);
        self.b.invited = None;
        self.b.accept_under_way = true;
        Some(())
    }

    /// A hears that B has accepted. If A knows of no invitation any more, B undoes its side.
    pub(crate) fn accept_arrives(&mut self, model: &Revocation) -> Option<()> {
        (self.b.accept_under_way && !self.a.busy()).then_some(())?;
        self.b.accept_under_way = false;
        match self.a.invited.take() {
            Some(_) => {
                self.begin_friendship();
                self.void_if_unsigned(model);
            }
            None => self.b.friend = None,
        }
        Some(())
    }

    /// A never hears it: B undoes its side, and the invitation is pending again.
    pub(crate) fn accept_lapses(&mut self) -> Option<()> {
        self.b.accept_under_way.then_some(())?;
        self.b.accept_under_way = false;
        self.b.invitation = self.b.friend.take();
        Some(())
    }
}

/// B's user invites, A's accepts.
impl State {
    pub(crate) fn invite_back(&mut self, model: &Revocation) -> Option<()> {
        let apart = self.b.friend.is_none() && self.b.invited.is_none() && self.a.invited.is_none();
        (apart && !self.a.busy() && self.a.identity.key.is_some()).then_some(())?;
        self.count_invitation(model)?;
        self.b.invited = Some(self.now);
        self.a.invitation.get_or_insert(self.now);
        Some(())
    }

    pub(crate) fn accept_back(&mut self, model: &Revocation) -> Option<()> {
        (!self.a.busy() && self.a.identity.key.is_some()).then_some(())?;
        let invitation = self.a.invitation.take()?;
        // B may have a friendship already, by an accept that arrived before this one.
        let owed = (self.a.friend || self.a.accept.is_some_and(|older| older.arrived || older.owed))
            && model.defect != Defect::AcceptForgetsWhatItVoided;
        self.begin_friendship();
        self.a.accept = Some(Accept { at: self.now, invitation, arrived: false, owed });
        self.void_if_unsigned(model);
        Some(())
    }

    /// B hears it. If B knows of no invitation any more, A undoes its side.
    pub(crate) fn accept_back_arrives(&mut self) -> Option<()> {
        let accept = self.a.accept.as_mut().filter(|accept| !accept.arrived)?;
        if self.b.invited.take().is_some() {
            accept.arrived = true;
            self.b.friend = Some(accept.at);
            (self.b.invitation, self.b.accept_under_way) = (None, false);
        } else if self.b.friend.is_some() {
            // An accept from before has arrived unheard: the two agree already.
            accept.arrived = true;
        } else {
            self.undo_accept();
            self.a.invitation = None;
        }
        Some(())
    }

    /// A hears that B has heard.
    pub(crate) fn accept_back_confirmed(&mut self) -> Option<()> {
        self.a.accept.take_if(|accept| accept.arrived)?;
        Some(())
    }

    pub(crate) fn accept_back_lapses(&mut self) -> Option<()> {
        self.a.accept?;
        self.undo_accept();
        Some(())
    }
}

impl State {
    /// A's accept was not taken in time. Where it may have arrived unheard, B has a friendship that A has not:
    /// that has to be told, and a signature from before would not end it. The same holds where the accept
    /// has made a revocation void, since what that one was for may still be there.
    pub(crate) fn undo_accept(&mut self) {
        let Some(accept) = self.a.accept.take() else { return };
        self.a.friend = false;
        self.a.invitation = Some(accept.invitation);
        if accept.arrived || accept.owed {
            self.envelopes.retire(Standing::Withdrawn);
            self.a.row = Some(Row::AwaitingSignature);
        }
    }

    fn count_invitation(&mut self, model: &Revocation) -> Option<()> {
        (self.used.invitations < model.bounds.invitations).then(|| self.used.invitations += 1)
    }

    /// A's side of a new friendship. The invitations that led to it are over.
    fn begin_friendship(&mut self) {
        self.a.friend = true;
        (self.a.invited, self.a.invitation, self.a.accept) = (None, None, None);
    }

    /// A signature made from now on would end the new friendship.
    fn void_if_unsigned(&mut self, model: &Revocation) {
        if self.a.row == Some(Row::AwaitingSignature) {
            self.a.row = None;
            self.envelopes.retire(Standing::Superseded);
            if let Some(accept) = &mut self.a.accept {
                accept.owed = model.defect != Defect::AcceptForgetsWhatItVoided;
            }
        }
    }

    /// What the row carries is void, and its owner would have to sign anew: unless the two are friends again.
    pub(crate) fn take_back_signature(&mut self, model: &Revocation, standing: Standing) {
        let Some(id) = self.a.row.and_then(Row::envelope) else { return };
        self.envelopes.stand(id, standing);
        self.a.row = Some(Row::AwaitingSignature);
        if self.a.friend && model.defect != Defect::FriendAwaitsSignature {
            self.void_if_unsigned(model);
        }
    }
}
