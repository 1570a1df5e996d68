//! Tests of the actors: real actors on real arbiters, real SQLite files, real signatures. Two nodes in one
//! process are joined by a wire that can be cut (`support/wire.rs`). One binary: it links once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

/// Like the standard library's; without a message it shows the two expressions beside their values.
macro_rules! assert_eq {
    ($left:expr, $right:expr $(,)?) => {
        ::std::assert_eq!($left, $right, "{} == {}", stringify!($left), stringify!($right))
    };
    ($($all:tt)+) => { ::std::assert_eq!($($all)+) };
}

mod declining;
mod device_transfer;
mod discarding;
mod flushing;
mod friendship;
mod friendship_dates;
mod identity;
mod invitations;
mod known_keys;
mod order;
mod overtaking;
mod passkeys;
mod repetitions;
mod revocations;
mod rewriting;
mod rounds;
mod sealed;
mod sessions;
mod sharing;
mod sign_in;
mod support;
mod wrong_clock;
