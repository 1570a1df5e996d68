//! The actors of a node: every state change goes through here.
//!
//! ```text
//!   HTTP handler ── message ──▶ Directory ──▶ UserActor(user) ──▶ one transaction ──▶ reply
//!                                                  │
//!                                                  └─ after commit, where something was queued: wake
//!                                                          ▼
//!             outbox ◀── lease, outcome ── PeerActor(node) ◀── serve ── RevocationDelivery
//! ```
//!
//! - [`user`]: one [`UserActor`](user::UserActor) per user handles one message at a time; a file per message.
//! - [`directory`]: finds or starts them, and lets idle ones go.
//! - [`delivery`]: which peers are served, and when.
//! - [`peer`]: one [`PeerActor`](peer::PeerActor) per peer node: manifest, pin, send loop.
//! - [`housekeeping`]: forgetting what is over its time.
//! - [`inbox`]: the checks that an inbound envelope passes before it becomes a message to a user.
//! - [`friends`]: what needs another node's answer before the user's actor can be asked.
//! - [`invitations`]: how many may be open, and for how long.
//! - [`mail_queue`]: sending the emails that wait.
//! - [`measure`]: what is counted and timed; [`gauges`]: what is read for each scrape.
//! - [`operators`]: what operators decide about the queue and about peers.
//! - [`passkeys`]: WebAuthn ceremonies.
//! - [`revocations`]: a flush from beginning to end.
//! - [`sharing`]: a share from beginning to end.
//! - [`sign_in`]: one-time codes and sessions, which exist before it is known who the user is.
//!
//! Nothing here knows HTTP: requests to other nodes go through [`peer::Transport`], emails through
//! [`mailer::Mailer`], both given from outside.

pub mod accounts;
#[cfg(test)]
mod alone;
mod asker;
pub mod clock;
pub mod delivery;
pub mod directory;
mod error;
pub mod friends;
pub mod gauges;
pub mod housekeeping;
pub mod inbox;
pub mod invitations;
mod key_checks;
mod local_delivery;
pub mod mail_queue;
pub mod mailer;
pub mod measure;
pub mod node;
pub mod operators;
pub mod passkeys;
pub mod peer;
mod refusal;
mod relationships;
pub mod replicas;
pub mod revocations;
pub mod sharing;
pub mod sign_in;
pub mod trace;
pub mod user;
mod waiters;
pub mod wrapping;

pub use asker::{Asker, Held, Origin};
pub use clock::{BootTime, Clock};
pub use error::{Error, Missing};
pub use node::{Node, NodeParts, NodeSettings};
pub use waiters::{OutcomeReceiver, OutcomeWaiters};
