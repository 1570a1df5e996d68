//! The crate against cases made with another implementation, and against properties.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod properties;
mod vectors;
