//! Node B, which receives: transport nonces, the memory of envelopes, and B's side of the relationship. All
//! of it is in B's database. What B has in memory lasts for one request, so a crash of B is a way for a
//! request to end. Of the checks of an inbound envelope (`docs/architecture.md`) those are here that
//! remember something or look at something remembered.

use crate::envelope::{Author, Effect};
use crate::network::{Nonce, Numbers};
use crate::{Defect, Revocation, State, Time};

/// What B's database holds about A.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Receiver {
    /// The friendship, by the time from which on A may revoke it: that of A's invitation.
    pub friend: Option<Time>,
    /// The invitation from A, by its time.
    pub invitation: Option<Time>,
    /// B's own invitation to A, by its time.
    pub invited: Option<Time>,
    /// B has accepted, and A does not know yet.
    pub accept_under_way: bool,
    /// Transport nonces that are remembered.
    pub nonces: Numbers,
    /// Those whose request had passed every check before: the model's own record.
    pub accepted: Numbers,
    /// Envelopes that were carried out.
    pub carried_out: Numbers,
}

impl Receiver {
    /// A friend of A's from the beginning.
    pub(crate) const FIRST: Self = Self {
        friend: Some(0),
        invitation: None,
        invited: None,
        accept_under_way: false,
        nonces: Numbers::NONE,
        accepted: Numbers::NONE,
        carried_out: Numbers::NONE,
    };
}

impl State {
    /// A request of A's arrives, for the first time or again. `dies` says that B crashes over it: after the
    /// transaction that remembers the nonce, before the one that carries the envelope out. (Before the first
    /// is as if it had not arrived, after the second as if the answer were lost.)
    pub(crate) fn arrive(&mut self, model: &Revocation, nonce: Nonce, dies: bool) -> Option<()> {
        let id = self.network.request(nonce)?;
        let envelope = *self.envelopes.get(id)?;
        if dies {
            self.fault(model)?;
        }
        if self.b.nonces.contains(nonce) {
            // "Replayed nonce". It is none if no request with it has been accepted.
            self.breaches.proven_refused |= !self.b.accepted.contains(nonce);
            return Some(());
        }
        self.b.nonces.insert(nonce);
        self.breaches.accepted_twice |= self.b.accepted.contains(nonce);
        self.b.accepted.insert(nonce);
        if dies && model.defect == Defect::NoncesInMemory {
            self.b.nonces = Numbers::NONE;
        }
        // A refusal leaves nothing but the nonce. To A it is a failed attempt.
        let age = self.now - envelope.at;
        // Any key that the user ever had: B may have kept a document from a minute ago.
        let verifies = matches!(envelope.author, Author::User(_));
        let answers = !dies || model.defect == Defect::AckBeforeCommit;
        if age > model.bounds.window || !verifies || !answers {
            return Some(());
        }
        if !dies && (!self.b.carried_out.contains(id) || model.defect == Defect::NoEnvelopeMemory) {
            let effect = self.end_relationship(envelope.at, model.defect);
            self.breaches.carried_out_twice |= envelope.effect.is_some();
            self.envelopes.change(id, |envelope| envelope.effect = Some(effect));
            self.b.carried_out.insert(id);
        }
        if self.a.waits_for(nonce) {
            self.network.confirm(nonce);
        }
        Some(())
    }

    /// Ends what was established at or before the signature (wire protocol, section 5, rule 3).
    fn end_relationship(&mut self, signed_at: Time, defect: Defect) -> Effect {
        let ends = |since: &Time| *since <= signed_at || defect == Defect::ApplyWithoutEstablishedAt;
        let ended = self.b.friend.take_if(|since| ends(since)).into_iter();
        let ended = ended.chain(self.b.invitation.take_if(|since| ends(since)));
        let ended = ended.chain(self.b.invited.take_if(|since| ends(since))).max();
        self.breaches.newer_ended |= ended.is_some_and(|since| since > signed_at);
        Effect { ended, late: self.now > signed_at, spared: self.b.friend.is_some() }
    }

    /// Somebody who has seen a nonce sends a request with it that A's node has not signed.
    pub(crate) fn forge_request(&mut self, model: &Revocation, nonce: Nonce) -> Option<()> {
        self.network.request(nonce)?;
        if model.defect == Defect::NonceBeforeSignature {
            self.b.nonces.insert(nonce);
        }
        Some(())
    }
}
