//! Everything that can happen, as one step each. Which of them is possible in a state is decided where the
//! step is made; here is only what they are called and what they lead to.

use crate::network::Nonce;
use crate::{Revocation, State};

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Time passes.
    Tick,
    /// A device of A's user resets the identity.
    Reset {
        /// Which one.
        device: usize,
    },
    /// A device looks at the identity.
    Read {
        /// Which one.
        device: usize,
    },
    /// A device registers or rotates keys, from what it has read.
    Commit {
        /// Which one.
        device: usize,
    },
    /// A device writes a blob, sealed under what it has read.
    Seal {
        /// Which one.
        device: usize,
    },
    /// A's user signs a revocation on a device.
    Sign,
    /// The signature reaches A's node.
    Flush,
    /// Somebody without the key flushes a forgery.
    FlushForgery,
    /// A's user drops the pending revocation.
    Discard,
    /// That is answered.
    AnswerDiscard,
    /// A change that was answered is written. Only [`crate::Defect::AckBeforeCommit`] has such.
    WriteAtLast,
    /// A's user invites B's.
    Invite,
    /// B's user accepts.
    Accept,
    /// A hears of it.
    AcceptArrives,
    /// A does not hear of it in time.
    AcceptLapses,
    /// B's user invites A's.
    InviteBack,
    /// A's user accepts.
    AcceptBack,
    /// B hears of it.
    AcceptBackArrives,
    /// A hears that B has heard.
    AcceptBackConfirmed,
    /// A does not hear that in time.
    AcceptBackLapses,
    /// A's node takes a lease on the row.
    Lease,
    /// A's node sends the envelope.
    Send,
    /// A's node hears the confirmation.
    Hear,
    /// An attempt fails.
    Fail,
    /// An attempt ends and its outcome is not recorded.
    ForgetOutcome,
    /// A lease is over.
    EndLease,
    /// The row's window has closed.
    CloseWindow,
    /// A's node crashes and starts again.
    CrashSender,
    /// A request reaches B's node, for the first time or again.
    Arrive {
        /// Which one.
        nonce: Nonce,
    },
    /// A request reaches B's node, which crashes over it and starts again.
    ArriveAndCrash {
        /// Which one.
        nonce: Nonce,
    },
    /// A stranger sends B a request with a nonce of A's.
    ForgeRequest {
        /// Which one.
        nonce: Nonce,
    },
}

impl Revocation {
    /// Whatever might be possible in a state.
    pub(crate) fn candidates(&self, state: &State, actions: &mut Vec<Action>) {
        use Action::*;
        actions.extend([Tick, Sign, Flush, FlushForgery, Discard, AnswerDiscard, WriteAtLast]);
        actions.extend([Invite, Accept, AcceptArrives, AcceptLapses]);
        actions.extend([InviteBack, AcceptBack, AcceptBackArrives, AcceptBackConfirmed, AcceptBackLapses]);
        actions.extend([Lease, Send, Hear, Fail, ForgetOutcome, EndLease, CloseWindow, CrashSender]);
        for device in 0..usize::from(self.bounds.devices) {
            actions.extend([Reset { device }, Read { device }, Commit { device }, Seal { device }]);
        }
        for nonce in 0..state.used.attempts {
            actions.extend([Arrive { nonce }, ArriveAndCrash { nonce }, ForgeRequest { nonce }]);
        }
    }

    /// Makes the step; `None` if it is not possible.
    pub(crate) fn take(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Tick => state.tick(self),
            Action::Reset { device } => state.reset(self, device),
            Action::Read { device } => state.read(device),
            Action::Commit { device } => state.commit(self, device),
            Action::Seal { device } => state.seal(self, device),
            Action::Sign => state.sign(self),
            Action::Flush => state.flush(self),
            Action::FlushForgery => state.flush_forgery(self),
            Action::Discard => state.discard(self),
            Action::AnswerDiscard => state.answer_discard(self),
            Action::WriteAtLast => state.write_at_last(self),
            Action::Invite => state.invite(self),
            Action::Accept => state.accept(),
            Action::AcceptArrives => state.accept_arrives(self),
            Action::AcceptLapses => state.accept_lapses(),
            Action::InviteBack => state.invite_back(self),
            Action::AcceptBack => state.accept_back(self),
            Action::AcceptBackArrives => state.accept_back_arrives(),
            Action::AcceptBackConfirmed => state.accept_back_confirmed(),
            Action::AcceptBackLapses => state.accept_back_lapses(),
            Action::Lease => state.lease(self),
            Action::Send => state.send(),
            Action::Hear => state.hear(self),
            Action::Fail => state.fail(),
            Action::ForgetOutcome => state.forget_outcome(self),
            Action::EndLease => state.end_lease(self),
            Action::CloseWindow => state.close_window(self),
            Action::CrashSender => state.crash(self),
            Action::Arrive { nonce } => state.arrive(self, nonce, false),
            Action::ArriveAndCrash { nonce } => state.arrive(self, nonce, true),
            Action::ForgeRequest { nonce } => state.forge_request(self, nonce),
        }
    }
}
