//! The tests of the client crate, in one binary: the vectors that another implementation made, the way
//! there and back for everything that is sealed or signed, and the HTTP client against a small server.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod http;
mod parsers;
mod scripted_node;
mod sealing;
mod secrets;
mod signing;
mod transport;
mod vectors;
