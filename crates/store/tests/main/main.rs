//! Tests of the store on real SQLite files. One binary: it links once, and its modules share `support`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

/// Like the standard library's; without a message it shows the two expressions beside their values.
macro_rules! assert_eq {
    ($left:expr, $right:expr $(,)?) => {
        ::std::assert_eq!($left, $right, "{} == {}", stringify!($left), stringify!($right))
    };
    ($($all:tt)+) => { ::std::assert_eq!($($all)+) };
}

mod backup;
mod database;
mod fresh_reads;
mod groups;
mod key_generations;
mod mail_queue;
mod outbox;
mod outbox_correcting;
mod outbox_leasing;
mod passkeys;
mod peers;
mod relationships;
mod sign_in;
mod statements;
mod support;
mod transactions;
mod usage;
mod users;
mod writer;
