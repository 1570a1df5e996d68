//! Node A, whose user takes a revocation back to its list, signs it and has it delivered: the outbox row, the
//! attempt with it, the owner's commands. What is in the database and what is in memory are told apart: a
//! crash takes the second only. How a row is chosen, and when it is due, is left out: it is at any time.

use crate::envelope::{Author, EnvelopeId, Standing};
use crate::identity::{Device, Identity, Sealed, Version};
use crate::network::Nonce;
use crate::{Defect, Key, Revocation, State, Time};

/// The one row of the outbox, and its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Row {
    /// The owner has yet to sign.
    AwaitingSignature,
    /// This envelope is to be sent.
    Queued(EnvelopeId),
    /// An attempt with it is under way, as far as the database knows.
    Delivering {
        /// What is sent.
        envelope: EnvelopeId,
        /// The word of the lease.
        lease: Nonce,
        /// When the lease is over.
        until: Time,
    },
}

impl Row {
    /// What the row carries.
    #[must_use]
    pub fn envelope(self) -> Option<EnvelopeId> {
        match self {
            Self::AwaitingSignature => None,
            Self::Queued(envelope) | Self::Delivering { envelope, .. } => Some(envelope),
        }
    }
}

/// An attempt under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// The lease that it was made under, and the nonce that it sends.
    pub nonce: Nonce,
    /// What it sends.
    pub envelope: EnvelopeId,
    /// Whether it has sent it.
    pub sent: bool,
}

/// A's answer to an invitation of B's, until B's node has confirmed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Accept {
    /// When it was signed.
    pub at: Time,
    /// The time of the invitation.
    pub invitation: Time,
    /// It has arrived at B.
    pub arrived: bool,
    /// It has made a pending revocation void, which is pending again if it is undone.
    pub owed: bool,
}

/// A change that the database is asked to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Write {
    /// The identity starts anew, with this version.
    Reset(Version),
    /// These are the keys, under this version.
    Keys(Key, Version),
    /// This envelope is what the row carries.
    Queue(EnvelopeId),
}

/// Node A.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sender {
    /// Database: the user's keys.
    pub identity: Identity,
    /// Database: the revocation for B.
    pub row: Option<Row>,
    /// Database: whether B is a friend.
    pub friend: bool,
    /// Database: the invitation to B that B has not accepted, by its time.
    pub invited: Option<Time>,
    /// Database: an invitation from B, by its time.
    pub invitation: Option<Time>,
    /// Database: the answer to one, on its way.
    pub accept: Option<Accept>,
    /// Memory: the attempt under way.
    pub attempt: Option<Attempt>,
    /// Memory: a discard that is in the database and not answered.
    pub discarding: bool,
    /// Memory: a change that was answered and is not in the database. Always `None` in a node that keeps
    /// the rules.
    pub unwritten: Option<Write>,
}

impl Sender {
    pub(crate) const FIRST: Self = Self {
        identity: Identity::FIRST,
        row: None,
        friend: true,
        invited: None,
        invitation: None,
        accept: None,
        attempt: None,
        discarding: false,
        unwritten: None,
    };

    /// The user's actor runs one command at a time.
    pub(crate) fn busy(&self) -> bool {
        self.discarding || self.unwritten.is_some()
    }

    /// Whether the answer to this request would be heard.
    pub(crate) fn waits_for(&self, nonce: Nonce) -> bool {
        self.attempt.is_some_and(|attempt| attempt.nonce == nonce)
    }

    /// Whether the row's lease is over.
    pub(crate) fn lease_is_over(&self, now: Time) -> bool {
        matches!(self.row, Some(Row::Delivering { until, .. }) if now >= until)
    }
}

/// The owner's commands.
impl State {
    pub(crate) fn reset(&mut self, model: &Revocation, device: usize) -> Option<()> {
        (!self.a.busy() && self.used.resets < model.bounds.resets).then_some(())?;
        self.used.resets += 1;
        let version = self.a.identity.version_after_reset(model.defect);
        self.devices[device] = Device { version, key: None, refused: false };
        self.change(model, Write::Reset(version));
        Some(())
    }

    /// A registration or a rotation: both swap the keys where the version is still the one that was read.
    pub(crate) fn commit(&mut self, model: &Revocation, device: usize) -> Option<()> {
        (!self.a.busy() && self.used.commits < model.bounds.commits).then_some(())?;
        let seen = self.devices[device];
        if !self.a.identity.accepts(&seen, model.defect) {
            self.devices[device].refused = true;
            return Some(());
        }
        self.breaches.overwritten_unseen |= self.a.identity.key != seen.key;
        self.used.commits += 1;
        let (key, version) = (self.used.commits, self.a.identity.version_after(&seen, model.defect));
        self.devices[device] = Device { version, key: Some(key), refused: false };
        self.change(model, Write::Keys(key, version));
        Some(())
    }

    /// A device writes a blob, sealed under the key it believes in, and says under which version.
    pub(crate) fn seal(&mut self, model: &Revocation, device: usize) -> Option<()> {
        let Device { version, key, .. } = self.devices[device];
        let may = !self.a.busy() && version <= self.a.identity.version;
        (may && self.used.seals < model.bounds.seals).then_some(())?;
        self.used.seals += 1;
        self.a.identity.data = Some(Sealed { version, key: key? });
        Some(())
    }

    pub(crate) fn read(&mut self, device: usize) -> Option<()> {
        (!self.a.busy()).then(|| self.devices[device] = self.a.identity.seen())
    }

    /// The user signs, on a device, with the key of now.
    pub(crate) fn sign(&mut self, model: &Revocation) -> Option<()> {
        let free = self.envelopes.len() < model.bounds.envelopes && self.envelopes.draft().is_none();
        (free && self.a.row.is_some()).then_some(())?;
        self.envelopes.add(self.now, Author::User(self.a.identity.key?), Standing::Draft);
        Some(())
    }

    /// The signature reaches the node.
    pub(crate) fn flush(&mut self, model: &Revocation) -> Option<()> {
        let id = self.envelopes.draft()?;
        (!self.a.busy()).then_some(())?;
        let author = self.envelopes.get(id)?.author;
        let verifies = self.a.identity.key.is_some_and(|key| author == Author::User(key));
        if verifies && self.a.row.is_some() {
            self.change(model, Write::Queue(id));
        } else {
            self.envelopes.stand(id, Standing::Void);
        }
        Some(())
    }

    /// Somebody with a session but without the key flushes what is signed by nobody.
    pub(crate) fn flush_forgery(&mut self, model: &Revocation) -> Option<()> {
        let may = !self.a.busy() && self.a.row.is_some() && self.envelopes.len() < model.bounds.envelopes;
        (may && model.defect == Defect::QueueWithoutVerifying).then_some(())?;
        let id = self.envelopes.add(self.now, Author::Forger, Standing::Draft);
        self.change(model, Write::Queue(id));
        Some(())
    }

    /// The row goes, in whatever state.
    pub(crate) fn discard(&mut self, model: &Revocation) -> Option<()> {
        (!self.a.busy() && self.used.discards < model.bounds.discards).then_some(())?;
        self.a.row.take()?;
        self.used.discards += 1;
        self.a.discarding = true;
        self.envelopes.retire(Standing::Discarded);
        Some(())
    }

    /// The owner is told, once no attempt is under way.
    pub(crate) fn answer_discard(&mut self, model: &Revocation) -> Option<()> {
        self.a.discarding.then_some(())?;
        if model.defect != Defect::SendWithoutRecheckAfterDiscard {
            self.hang_up();
        }
        self.a.discarding = false;
        self.envelopes.discard_answered();
        Some(())
    }

    /// First the database, then the answer.
    fn change(&mut self, model: &Revocation, write: Write) {
        if model.defect == Defect::AckBeforeCommit {
            self.a.unwritten = Some(write);
        } else {
            self.write(model, write);
        }
        match write {
            Write::Reset(version) => self.told = (version, None),
            Write::Keys(key, version) => self.told = (version, Some(key)),
            Write::Queue(id) => self.envelopes.stand(id, Standing::Queued),
        }
    }

    pub(crate) fn write_at_last(&mut self, model: &Revocation) -> Option<()> {
        let write = self.a.unwritten.take()?;
        self.write(model, write);
        Some(())
    }

    /// One transaction.
    fn write(&mut self, model: &Revocation, write: Write) {
        match write {
            Write::Reset(version) => {
                if let Some(row) = &mut self.a.row {
                    *row = Row::AwaitingSignature;
                    self.envelopes.retire(Standing::Withdrawn);
                }
                if self.a.friend || self.a.invited.is_some() || self.a.invitation.is_some() {
                    self.a.row = Some(Row::AwaitingSignature);
                }
                (self.a.friend, self.a.invited) = (false, None);
                (self.a.invitation, self.a.accept) = (None, None);
                self.a.identity = Identity { version, key: None, data: None };
            }
            Write::Keys(key, version) => {
                // What the old key signed verifies nowhere any more.
                self.undo_accept();
                self.take_back_signature(model, Standing::Withdrawn);
                let data = self.a.identity.data.map(|_| Sealed { version, key });
                self.a.identity = Identity { version, key: Some(key), data };
            }
            Write::Queue(id) => {
                if let Some(replaced) = self.a.row.and_then(Row::envelope) {
                    self.envelopes.stand(replaced, Standing::Withdrawn);
                }
                self.a.row = Some(Row::Queued(id));
            }
        }
    }
}

/// The clockwork of the outbox.
impl State {
    pub(crate) fn lease(&mut self, model: &Revocation) -> Option<()> {
        let Some(Row::Queued(envelope)) = self.a.row else { return None };
        let open = self.now < self.envelopes.get(envelope)?.at + model.bounds.window;
        (open && self.used.attempts < model.bounds.attempts).then_some(())?;
        // An older attempt, whose lease is over, is void.
        self.hang_up();
        let nonce = self.used.attempts;
        self.used.attempts += 1;
        self.a.row = Some(Row::Delivering { envelope, lease: nonce, until: self.now + 1 });
        self.a.attempt = Some(Attempt { nonce, envelope, sent: false });
        Some(())
    }

    pub(crate) fn send(&mut self) -> Option<()> {
        let attempt = self.a.attempt.as_mut().filter(|attempt| !attempt.sent)?;
        attempt.sent = true;
        let Attempt { nonce, envelope: id, .. } = *attempt;
        let envelope = self.envelopes.get(id)?;
        self.breaches.sent_after_discard |= envelope.standing == Standing::DiscardAnswered;
        self.breaches.sent_unsigned |= envelope.author == Author::Forger;
        self.network.send(nonce, id);
        Some(())
    }

    /// The other node confirms. The row goes where the lease still stands.
    pub(crate) fn hear(&mut self, model: &Revocation) -> Option<()> {
        let attempt = self.a.attempt.filter(|attempt| self.network.confirmed(attempt.nonce))?;
        self.hang_up();
        if self.holds(attempt) || model.defect == Defect::OutcomeWithoutLease {
            self.a.row = None;
            self.envelopes.stand(attempt.envelope, Standing::Confirmed);
        }
        Some(())
    }

    /// The attempt fails: no connection, no answer, a refusal. To be tried again where the lease stands.
    pub(crate) fn fail(&mut self) -> Option<()> {
        let attempt = self.a.attempt?;
        self.hang_up();
        if self.holds(attempt) {
            self.a.row = Some(Row::Queued(attempt.envelope));
        }
        Some(())
    }

    /// The attempt ends, and the database refuses to record how.
    pub(crate) fn forget_outcome(&mut self, model: &Revocation) -> Option<()> {
        let attempt = self.a.attempt?;
        self.holds(attempt).then_some(())?;
        self.fault(model)?;
        self.hang_up();
        Some(())
    }

    pub(crate) fn end_lease(&mut self, model: &Revocation) -> Option<()> {
        (self.a.lease_is_over(self.now) && model.defect != Defect::LeaseWithoutExpiry).then_some(())?;
        self.a.row = self.a.row.and_then(Row::envelope).map(Row::Queued);
        Some(())
    }

    pub(crate) fn close_window(&mut self, model: &Revocation) -> Option<()> {
        let Some(Row::Queued(id)) = self.a.row else { return None };
        (self.now >= self.envelopes.get(id)?.at + model.bounds.window).then_some(())?;
        self.take_back_signature(model, Standing::Lapsed);
        Some(())
    }

    /// The node dies and starts again. While it is down nothing reaches it, which is as if the network had
    /// lost it, so dying and starting are one step.
    pub(crate) fn crash(&mut self, model: &Revocation) -> Option<()> {
        // A crash that takes nothing from memory changes nothing.
        (self.a.attempt.is_some() || self.a.busy()).then_some(())?;
        self.fault(model)?;
        self.hang_up();
        (self.a.discarding, self.a.unwritten) = (false, None);
        if let (Some(Row::Delivering { envelope, .. }), true) =
            (self.a.row, model.defect != Defect::LeaseWithoutExpiry)
        {
            // A starting node takes over what an earlier run left behind.
            self.a.row = Some(Row::Queued(envelope));
        }
        Some(())
    }

    fn holds(&self, attempt: Attempt) -> bool {
        matches!(self.a.row, Some(Row::Delivering { lease, .. }) if lease == attempt.nonce)
    }

    /// The attempt is over, whatever became of it; its answer is not heard.
    fn hang_up(&mut self) {
        if let Some(attempt) = self.a.attempt.take() {
            self.network.hang_up(attempt.nonce);
        }
    }
}
