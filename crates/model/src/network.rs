//! What is between the nodes. It keeps every request for ever and hands it out in any order and any number
//! of times: so it reorders and duplicates. It loses a request by not handing it out, which is one of the
//! orders. Answers travel back on the connection of their request only. Nothing here is verified; that is
//! `receiver`'s work.

use crate::bounds::Bounds;
use crate::envelope::EnvelopeId;

/// The number of an attempt. It stands for the word of its lease and for its transport nonce, since both
/// are fresh for every attempt.
pub type Nonce = u8;

/// A set of nonces or envelopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Numbers(u8);

impl Numbers {
    pub(crate) const NONE: Self = Self(0);

    /// Whether it is in the set.
    #[must_use]
    pub fn contains(self, number: u8) -> bool {
        self.0 & (1 << number) != 0
    }

    /// How many there are.
    #[must_use]
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn insert(&mut self, number: u8) {
        self.0 |= 1 << number;
    }

    pub(crate) fn remove(&mut self, number: u8) {
        self.0 &= !(1 << number);
    }
}

/// Requests and answers under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Network {
    /// By the nonce, the envelope that the request carries.
    requests: [Option<EnvelopeId>; Bounds::MOST_ATTEMPTS],
    /// Requests that were answered with success, as long as anybody waits for the answer.
    confirmations: Numbers,
}

impl Network {
    /// The envelope in the request with this nonce, if one was sent.
    #[must_use]
    pub fn request(&self, nonce: Nonce) -> Option<EnvelopeId> {
        *self.requests.get(usize::from(nonce))?
    }

    /// Whether the answer to this request is a success.
    #[must_use]
    pub fn confirmed(&self, nonce: Nonce) -> bool {
        self.confirmations.contains(nonce)
    }

    pub(crate) fn send(&mut self, nonce: Nonce, envelope: EnvelopeId) {
        self.requests[usize::from(nonce)] = Some(envelope);
    }

    pub(crate) fn confirm(&mut self, nonce: Nonce) {
        self.confirmations.insert(nonce);
    }

    /// Nobody waits for this answer any more, so whether there is one makes no difference.
    pub(crate) fn hang_up(&mut self, nonce: Nonce) {
        self.confirmations.remove(nonce);
    }
}
