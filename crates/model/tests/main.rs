//! The model explored: as it is, and with one rule left out at a time.

#![allow(
    clippy::print_stdout,
    reason = "how much was looked at, and by which steps a promise breaks, is what one wants to read"
)]

mod correct;
mod defects;
