//! Random histories of several real nodes with faults, and an oracle that knows what must have come of them; see
//! docs/harness.md.
//!
//! ```text
//!   plan ──▶ run ──▶ acts ──▶ person ──▶ node processes (world) ◀──▶ network ──▶ ledger
//!   (seed)    │        └──▶ chronicle                                              │
//!             └──▶ judge ◀──────┴──────────────────────────────────────────────────┘
//!   campaign: many of them; when one fails, a shorter one that fails, too
//! ```
//!
//! Nothing here looks into a node: what is known of it comes over HTTP, by the command line or from the network.

pub mod acts;
pub mod campaign;
pub mod chronicle;
pub mod fate;
pub mod judge;
pub mod ledger;
pub mod letters;
pub mod network;
pub mod person;
pub mod plan;
pub mod run;
pub mod wire;
pub mod world;
