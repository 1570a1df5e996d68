//! What a node remembers: SQL behind typed functions, a module per table.
//!
//! Here live the connections, the one writer that makes groups of changes durable together, the
//! migrations and every SQL text. What is *allowed* is not decided here (that is the actors' business),
//! except where the database itself is the guard: unique keys and compare-and-swap updates whose result
//! tells whether they happened. Nothing here knows an actor or HTTP.
//!
//! Reading functions take `&mut Conn`, changing ones `&mut Tx`: what may be done is in the type one
//! holds. A [`Tx`] exists only inside [`Store::write`].

mod conn;
mod connect;
mod counters;
mod defects;
mod error;
mod ids;
mod pool;
mod pooling;
mod postgres;
mod postgres_checks;
mod row;
mod sqlite;
mod statement;
mod store;
mod tables;
mod write_status;
mod writer;

pub mod applied_envelopes;
pub mod audit;
pub mod backup;
pub mod blobs;
pub mod bound_to_keys;
pub mod code_emails;
pub mod collections;
pub mod copy;
pub mod device_transfers;
pub mod displaced_leases;
pub mod friendships;
pub mod inspection;
pub mod invitations;
pub mod known_sources;
pub mod mail_queue;
pub mod node_facts;
pub mod node_state;
pub mod outbox;
pub mod passkey_ceremonies;
pub mod passkeys;
pub mod peers;
pub mod preferences;
pub mod relations;
pub mod roles;
pub mod runs;
pub mod schema;
pub mod scratch;
pub mod sessions;
pub mod shares;
pub mod sign_in_codes;
pub mod signals;
pub mod slots;
pub mod transport_nonces;
pub mod usage;
pub mod users;
pub mod wrap_secrets;
pub mod wrong_codes;

pub use conn::{Conn, Reader, Tx};
pub use error::{StoreError, TxError, WriteFault};
pub use ids::{
    AuditId, CollectionId, FriendshipId, InvitationId, OutboxId, SessionId, ShareId, TransferId, UserId,
};
pub use store::Store;

/// A future that borrows the transaction it works on; what the closure given to [`Store::write`] returns.
pub type TxFuture<'t, T, E> = futures_util::future::BoxFuture<'t, Result<T, E>>;
