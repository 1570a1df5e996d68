//! All that is the case at one moment: both nodes, the network, the user's devices, the clock, and the model's
//! own records, which no node can see. The steps from one state to the next are with the part that makes
//! them; here is only the clock.

use crate::envelope::{Envelopes, Standing};
use crate::identity::{Device, Identity, Version};
use crate::network::Network;
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::{Defect, Key, Revocation, Time};

/// How many devices there can be.
const MOST_DEVICES: usize = 2;

/// How often what has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Used {
    /// Attempts to deliver.
    pub attempts: u8,
    /// Resets.
    pub resets: u8,
    /// Changes of keys.
    pub commits: u8,
    /// Blobs sealed outside of a rotation.
    pub seals: u8,
    /// Invitations.
    pub invitations: u8,
    /// Discards.
    pub discards: u8,
    /// Crashes and lost outcomes.
    pub faults: u8,
}

/// Broken promises that cannot be read off a later state. One that is broken stays so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Breaches {
    /// Keys were replaced by a device that had not seen them.
    pub overwritten_unseen: bool,
    /// A revocation has ended what is newer than itself.
    pub newer_ended: bool,
    /// An envelope was sent after its discard was answered.
    pub sent_after_discard: bool,
    /// An envelope was sent that its user had not signed.
    pub sent_unsigned: bool,
    /// Two requests with one nonce were accepted.
    pub accepted_twice: bool,
    /// An honest request was refused for a nonce under which none was accepted.
    pub proven_refused: bool,
    /// An envelope was carried out twice.
    pub carried_out_twice: bool,
}

/// All that is the case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// The time, the same at both nodes.
    pub now: Time,
    /// Node A.
    pub a: Sender,
    /// Node B.
    pub b: Receiver,
    /// What is between them.
    pub network: Network,
    /// The devices of A's user.
    pub devices: [Device; MOST_DEVICES],
    /// Every revocation that was signed.
    pub envelopes: Envelopes,
    /// The version and the key that A's user was told last.
    pub told: (Version, Option<Key>),
    /// What is used up of the bounds.
    pub used: Used,
    /// Broken promises.
    pub breaches: Breaches,
}

impl State {
    /// Two friends, and nothing under way.
    pub(crate) fn first() -> Self {
        Self {
            now: 0,
            a: Sender::FIRST,
            b: Receiver::FIRST,
            network: Network::default(),
            devices: [Identity::FIRST.seen(); MOST_DEVICES],
            envelopes: Envelopes::default(),
            told: (Identity::FIRST.version, Identity::FIRST.key),
            used: Used::default(),
            breaches: Breaches::default(),
        }
    }

    /// Time passes, but not over a lease that is over: the node's timer comes first.
    pub(crate) fn tick(&mut self, model: &Revocation) -> Option<()> {
        let waits = self.a.lease_is_over(self.now) && model.defect != Defect::LeaseWithoutExpiry;
        (self.now < model.bounds.ticks && !waits).then_some(())?;
        self.now += 1;
        if let Some(draft) = self.envelopes.draft() {
            // A flush takes fresh signatures only.
            self.envelopes.stand(draft, Standing::Void);
        }
        Some(())
    }

    /// Uses up one fault, if there is one left.
    pub(crate) fn fault(&mut self, model: &Revocation) -> Option<()> {
        (self.used.faults < model.bounds.faults).then(|| self.used.faults += 1)
    }
}
