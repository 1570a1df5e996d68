//! The crate against cases made with another implementation, against the rules that the protocol states,
//! and against properties.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod documents;
mod outside;
mod properties;
mod refusal;
mod rules;
mod signatures;
mod values;
mod vectors;
