//! What a user's device does: everything that needs the user's secrets, and a typed client of a node.
//!
//! ```text
//!   MasterSeed ──┬── SigningSecret ──── Signer ──── what a node sends in the user's name
//!                ├── EncryptionSecret ─ friend_share, collection_share
//!                └── SealingKey ─────── sealing ─── what a node keeps without being able to read it
//!                                                      ▲
//!   slot, device_wrap, transfer: the seed itself, ─────┘  sealed for another place
//! ```
//!
//! - [`seed`]: the 32 bytes from which every other secret of the user follows.
//! - [`encryption_secret`]: X25519 key agreement.
//! - [`sealing`], [`binding`]: ciphertext that opens only with the right key and in the right place.
//! - [`slot`], [`device_wrap`], [`transfer`]: how the seed reaches a passkey, a device's storage, a new device.
//! - [`friend_share`], [`collection_share`]: what a friend can read.
//! - [`signer`]: the signed messages between people.
//! - [`safety`]: the number two people compare.
//! - [`http`]: the node's endpoints.
//!
//! Random numbers and times are parameters: nothing here reads a clock or asks the system for randomness
//! by itself, so a test can repeat everything. A node needs none of this to do its work: it sees public
//! keys, ciphertext and signatures only (wire protocol, section 8).

pub mod binding;
pub mod collection_share;
mod derivation;
pub mod device_wrap;
pub mod encryption_secret;
pub mod friend_share;
pub mod http;
pub mod safety;
mod seal_error;
pub mod sealing;
pub mod seed;
mod signed_text;
pub mod signer;
pub mod slot;
pub mod transfer;

pub use binding::Binding;
pub use encryption_secret::EncryptionSecret;
pub use http::{ClientError, NodeClient, Problem, SessionToken};
pub use safety::safety_number;
pub use sealing::{SealedData, SealingKey};
pub use seed::MasterSeed;
pub use signer::{SignedFields, Signer};
