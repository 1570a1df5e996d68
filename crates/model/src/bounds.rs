//! How often each thing may happen: what makes the model finite. A bound is a number of events, never a
//! length of a path, so everything that is possible within the numbers is looked at. What the events are
//! stands in `action`.

use crate::Time;

/// Numbers of events. A number of 0 takes the event out of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Ticks of the clock. One tick is longer than an envelope stays fresh, and as long as a lease.
    pub ticks: Time,
    /// For how many ticks the receiver takes a revocation; the sender tries for one tick less.
    pub window: Time,
    /// Envelopes that are signed, or forged. At most [`Bounds::MOST_ENVELOPES`].
    pub envelopes: u8,
    /// Attempts to deliver. At most [`Bounds::MOST_ATTEMPTS`].
    pub attempts: u8,
    /// Resets of the identity.
    pub resets: u8,
    /// Changes of keys that succeed: registrations and rotations.
    pub commits: u8,
    /// Devices of the user, one or two.
    pub devices: u8,
    /// Blobs that a device seals outside of a rotation.
    pub seals: u8,
    /// Invitations after the first friendship.
    pub invitations: u8,
    /// Discards of the pending revocation.
    pub discards: u8,
    /// Crashes of either node, and outcomes that could not be recorded.
    pub faults: u8,
}

impl Bounds {
    /// The state has room for so many envelopes.
    pub const MOST_ENVELOPES: usize = 3;
    /// The state has room for so many attempts.
    pub const MOST_ATTEMPTS: usize = 4;

    /// Nothing happens at all: what the others are made from.
    const STILL: Self = Self {
        ticks: 0,
        window: 2,
        envelopes: 0,
        attempts: 0,
        resets: 0,
        commits: 0,
        devices: 1,
        seals: 0,
        invitations: 0,
        discards: 0,
        faults: 0,
    };

    /// The way of a revocation from the reset to the other node, with everything that can go wrong on it.
    #[must_use]
    pub const fn delivery() -> Self {
        Self {
            ticks: 2,
            envelopes: 2,
            attempts: 2,
            resets: 1,
            commits: 1,
            invitations: 1,
            discards: 1,
            faults: 1,
            ..Self::STILL
        }
    }

    /// Two people who become friends again, and again, while a revocation is on its way.
    #[must_use]
    pub const fn friendship() -> Self {
        Self { invitations: 2, discards: 0, faults: 0, ..Self::delivery() }
    }

    /// Two devices that change one identity, and a revocation that is signed meanwhile.
    #[must_use]
    pub const fn identity() -> Self {
        Self {
            envelopes: 1,
            attempts: 1,
            resets: 2,
            commits: 4,
            devices: 2,
            seals: 3,
            faults: 1,
            ..Self::STILL
        }
    }

    /// More of everything on the way of a revocation. Minutes in a release build.
    #[must_use]
    pub const fn large_delivery() -> Self {
        Self { ticks: 3, attempts: 3, invitations: 2, faults: 2, ..Self::delivery() }
    }

    /// Two devices that change one identity while a revocation is delivered. Minutes in a
    /// release build.
    #[must_use]
    pub const fn large_identity() -> Self {
        Self { ticks: 1, envelopes: 2, attempts: 2, ..Self::identity() }
    }
}
