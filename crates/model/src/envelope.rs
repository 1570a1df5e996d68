//! Signed revocations: what is written in one, where it stands with its owner, and what it did at the other
//! node. The last two are the model's own record, which no node can see; the promises in `properties` are
//! about it.

use crate::bounds::Bounds;
use crate::{Key, Time};

/// The number of an envelope; it stands for the envelope's nonce.
pub type EnvelopeId = u8;

/// Who made the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Author {
    /// The user, on a device of theirs, with this key.
    User(Key),
    /// Somebody who has a session but no key. It verifies nowhere.
    Forger,
}

/// Where an envelope stands with its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Signed on the device; the node has not seen it.
    Draft,
    /// The node refused it, or it became stale on the device.
    Void,
    /// The flush that brought it was answered with success: it is what the row carries.
    Queued,
    /// Its window has closed: the row waits for another signature.
    Lapsed,
    /// Another signature has taken its place, or its key was replaced.
    Withdrawn,
    /// The other node has confirmed it, and the row went.
    Confirmed,
    /// Its owner discards the row; the answer is still out.
    Discarded,
    /// Its owner has been told that the row is gone.
    DiscardAnswered,
    /// Nobody had signed anew when a new friendship began.
    Superseded,
}

/// What carrying it out did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Effect {
    /// The beginning of the newest that it has ended.
    pub ended: Option<Time>,
    /// It was no longer fresh.
    pub late: bool,
    /// There was a friendship that is newer than the signature, and it stayed.
    pub spared: bool,
}

/// A revocation with a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Envelope {
    /// The time that the signature covers.
    pub at: Time,
    /// Who signed.
    pub author: Author,
    /// Where it stands.
    pub standing: Standing,
    /// What it did, once it was carried out.
    pub effect: Option<Effect>,
}

/// All envelopes, in the order in which they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Envelopes([Option<Envelope>; Bounds::MOST_ENVELOPES]);

impl Envelopes {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Envelope> {
        self.0.iter().flatten()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u8 {
        self.0.iter().flatten().map(|_| 1).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0[0].is_none()
    }

    /// This one.
    #[must_use]
    pub fn get(&self, id: EnvelopeId) -> Option<&Envelope> {
        self.0.get(usize::from(id))?.as_ref()
    }

    /// The one that a device holds and no node has seen.
    #[must_use]
    pub fn draft(&self) -> Option<EnvelopeId> {
        (0..self.len()).find(|id| self.get(*id).is_some_and(|envelope| envelope.standing == Standing::Draft))
    }

    /// Adds one.
    pub(crate) fn add(&mut self, at: Time, author: Author, standing: Standing) -> EnvelopeId {
        let id = self.len();
        self.0[usize::from(id)] = Some(Envelope { at, author, standing, effect: None });
        id
    }

    pub(crate) fn change(&mut self, id: EnvelopeId, change: impl FnOnce(&mut Envelope)) {
        if let Some(envelope) = self.0.get_mut(usize::from(id)).and_then(Option::as_mut) {
            change(envelope);
        }
    }

    pub(crate) fn stand(&mut self, id: EnvelopeId, standing: Standing) {
        self.change(id, |envelope| envelope.standing = standing);
    }

    /// The row goes unconfirmed: whatever its owner had signed for it stands so from now on.
    pub(crate) fn retire(&mut self, standing: Standing) {
        for envelope in self.0.iter_mut().flatten() {
            if matches!(
                envelope.standing,
                Standing::Queued | Standing::Lapsed | Standing::Withdrawn | Standing::Superseded
            ) {
                envelope.standing = standing;
            }
        }
    }

    pub(crate) fn discard_answered(&mut self) {
        for envelope in self.0.iter_mut().flatten() {
            if envelope.standing == Standing::Discarded {
                envelope.standing = Standing::DiscardAnswered;
            }
        }
    }
}
