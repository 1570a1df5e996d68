//! Black-box tests of real nodes: real processes, real ports, real database files, real signatures.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

/// Like the standard library's; without a message it shows the two expressions beside their values.
macro_rules! assert_eq {
    ($left:expr, $right:expr $(,)?) => {
        ::std::assert_eq!($left, $right, "{} == {}", stringify!($left), stringify!($right))
    };
    ($($all:tt)+) => { ::std::assert_eq!($($all)+) };
}

mod support;

mod administration;
mod attacks;
mod bench;
mod browsers;
mod ciphertext;
mod client_walk;
mod clocks;
mod database_failures;
mod dates;
mod device_transfer;
mod devices;
mod discards;
mod drain;
mod events;
mod existing_clients;
mod faults;
mod friends;
mod hygiene;
mod identity;
mod inbox;
mod keys;
mod lists;
mod lookups;
mod mail;
mod mail_settings;
mod metrics;
mod moving_house;
mod operations;
mod operator_log;
mod operators;
mod order;
mod outcomes;
mod passkeys;
mod pauses;
mod pgbouncer;
mod power_loss;
mod proxies;
mod queue_load;
mod real_peers;
mod replicas;
mod revocations;
mod rotation;
mod rows;
mod settings;
mod sharing;
mod sign_in;
mod starts;
mod story;
mod traces;
mod undone;
