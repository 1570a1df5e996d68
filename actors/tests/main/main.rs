//! Tests of the actors: real actors on real arbiters, real SQLite files, real signatures. Two nodes in one
//! process are joined by a wire that can be cut (`support/wire.rs`). One binary: it links once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

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
mod rounds;
mod sealed;
mod sessions;
mod sharing;
mod sign_in;
mod support;
mod wrong_clock;
