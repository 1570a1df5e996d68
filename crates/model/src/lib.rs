//! A model of the life of a revocation between two nodes: from the reset that makes it necessary, over its
//! signature and its delivery, to the friendship that may begin anew meanwhile. It lives here so that every
//! order of these events, with every crash and every repetition in between, is looked at, which no test of
//! the running code can do. What is not here: any code of the node. The model says what the node's rules
//! achieve if the node keeps them; that it keeps them is for the tests of the other crates. `docs/model.md`
//! says what is covered, what is not, and how large it is.
//!
//! ```text
//!   devices ── sign, reset, commit, discard ──▶ sender (node A) ──▶ network ──▶ receiver (node B)
//! ```
//!
//! A rule that the model keeps can be taken away ([`Defect`]); the tests do so with each, and see a promise
//! ([`properties`]) broken.

#![forbid(unsafe_code)]

pub mod action;
pub mod bounds;
pub mod defect;
pub mod envelope;
mod friendship;
pub mod identity;
pub mod network;
pub mod properties;
pub mod receiver;
pub mod sender;
pub mod state;

use stateright::{Model, Property};

pub use action::Action;
pub use bounds::Bounds;
pub use defect::Defect;
pub use state::State;

/// A moment, in ticks of the one clock.
pub type Time = u8;

/// A key of the user, by the number of the change that brought it. 0 is the first.
pub type Key = u8;

/// The model: how much happens, and which rule is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// How much happens.
    pub bounds: Bounds,
    /// Which rule is left out.
    pub defect: Defect,
}

impl Model for Revocation {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let Bounds { envelopes, attempts, .. } = self.bounds;
        assert!(
            usize::from(envelopes) <= Bounds::MOST_ENVELOPES,
            "there is no room for {envelopes} envelopes"
        );
        assert!(usize::from(attempts) <= Bounds::MOST_ATTEMPTS, "there is no room for {attempts} attempts");
        vec![State::first()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.candidates(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = *last;
        self.take(&mut next, action)?;
        // A step that changes nothing, such as a replay that is refused, leads nowhere new.
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::properties(self)
    }
}
