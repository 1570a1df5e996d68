//! Becoming friends again: A invites, B accepts, A hears of it. The messages between are taken as reliable,
//! since they are not what is examined here; each of the three steps can come at any later time, and other
//! things between them. Ending a friendship is in `sender` (the reset) and `receiver`.

use crate::envelope::Standing;
use crate::sender::Row;
use crate::{Revocation, State};

impl State {
    /// A's user invites B's; the invitation arrives.
    pub(crate) fn invite(&mut self, model: &Revocation) -> Option<()> {
        let may = !self.a.busy() && !self.a.friend && self.a.invited.is_none();
        (may && self.a.identity.key.is_some() && self.used.invitations < model.bounds.invitations)
            .then_some(())?;
        self.used.invitations += 1;
        self.a.invited = Some(self.now);
        // One that is pending stays: "Invitation already exists".
        self.b.invitation.get_or_insert(self.now);
        Some(())
    }

    /// B's user accepts. The new friendship replaces an older one.
    pub(crate) fn accept(&mut self) -> Option<()> {
        self.b.friend = Some(self.b.invitation.take()?);
        self.b.accept_under_way = true;
        Some(())
    }

    /// A hears that B has accepted. If A knows of no invitation any more, B undoes its side.
    pub(crate) fn accept_arrives(&mut self) -> Option<()> {
        (self.b.accept_under_way && !self.a.busy()).then_some(())?;
        self.b.accept_under_way = false;
        let Some(invited) = self.a.invited.take() else {
            self.b.friend = None;
            return Some(());
        };
        self.a.friend = true;
        if self.a.row == Some(Row::AwaitingSignature) {
            // A signature made from now on would end the new friendship.
            self.a.row = None;
            self.envelopes.retire(Standing::Superseded(invited));
        }
        Some(())
    }
}
