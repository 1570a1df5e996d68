//! The node as people meet it: command line, configuration, HTTP.
//!
//! What a node *does* is in `vellum-actors`, what it remembers in `vellum-store`, what its bytes mean in
//! `vellum-protocol`. Here the parts are put together ([`node`]), told what to do ([`config`], [`cli`]),
//! and given ways in and out: [`http`], [`outbound`], [`mail`].

pub mod bench;
pub mod cli;
pub mod config;
pub mod data_dir;
pub mod demo;
pub mod doctor;
pub mod http;
pub mod mail;
pub mod node;
pub mod outbound;
mod peer_addresses;
mod process;
mod restore_guard;
pub mod shown;
mod start_check;
pub mod telemetry;
