//! Mistakes that the model can be built with, one at a time. Each one takes a single rule away, and
//! the tests show which promise it breaks: a promise that no mistake can break says nothing. What
//! the rules are stands where they are kept (`sender`, `receiver`, `identity`, `friendship`), not
//! here. How the node keeps those about versions is in `docs/model.md`.

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Defect {
    /// Nothing is left out.
    None,
    /// A revocation ends whatever there is, however new.
    ApplyWithoutEstablishedAt,
    /// The transport nonce is remembered before the server's signature is verified, so anybody who sees a
    /// nonce can use it up.
    NonceBeforeSignature,
    /// A commit of keys does not look whether the version is still the one that it was made from.
    NoCompareAndSwap,
    /// A discard is answered without stopping the attempt that has the row in hand.
    SendWithoutRecheckAfterDiscard,
    /// A lease has no end, and a starting node takes none back.
    LeaseWithoutExpiry,
    /// A change is answered before it is in the database, at either node.
    AckBeforeCommit,
    /// A flush takes an envelope without verifying its signature.
    QueueWithoutVerifying,
    /// An outcome is recorded without looking whether the lease still stands.
    OutcomeWithoutLease,
    /// The receiver keeps transport nonces in memory only.
    NoncesInMemory,
    /// The receiver does not remember which envelopes it has carried out.
    NoEnvelopeMemory,
    /// A reset begins the versions of keys anew, so a version names two different keys.
    VersionRestartsAtReset,
    /// Keys that are registered while nothing is sealed take no version of their own.
    RegistrationKeepsVersion,
    /// An accept that is undone does not bring back the revocation that it had made void.
    AcceptForgetsWhatItVoided,
    /// A signature that is void, since its window has closed or its key was replaced, has its owner asked for
    /// another one although the two are friends again.
    FriendAwaitsSignature,
}

impl Defect {
    /// Every mistake; [`Defect::None`] is none.
    pub const ALL: [Self; 14] = [
        Self::ApplyWithoutEstablishedAt,
        Self::NonceBeforeSignature,
        Self::NoCompareAndSwap,
        Self::SendWithoutRecheckAfterDiscard,
        Self::LeaseWithoutExpiry,
        Self::AckBeforeCommit,
        Self::QueueWithoutVerifying,
        Self::OutcomeWithoutLease,
        Self::NoncesInMemory,
        Self::NoEnvelopeMemory,
        Self::VersionRestartsAtReset,
        Self::RegistrationKeepsVersion,
        Self::AcceptForgetsWhatItVoided,
        Self::FriendAwaitsSignature,
    ];
}
