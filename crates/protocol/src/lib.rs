//! The federation protocol as pure functions of bytes, keys and times.
//!
//! - [`handle`]: aliases, domains, handles.
//! - [`keys`], [`base64`], [`nonce`]: keys, signatures, nonces, and how they are written.
//! - [`text`]: characters that no text from outside may have.
//! - [`json`], [`canonical`]: the JSON that is signed and hashed.
//! - [`envelope`], [`legacy`]: what users sign, version 2 and version 1.
//! - [`received`]: what a receiver checks, in order.
//! - [`server_request`]: what servers sign.
//! - [`manifest`], [`user_document`]: what servers show.
//! - [`prf`]: what passkeys are asked to evaluate.
//! - [`timestamp`]: times as texts and as numbers.
//!
//! No I/O, no clock, no source of randomness: the same arguments give the same results. The sections that
//! comments name are those of `docs/wire-protocol.md`.

pub mod base64;
pub mod canonical;
pub mod envelope;
pub mod handle;
pub mod json;
pub mod keys;
pub mod legacy;
pub mod manifest;
pub mod nonce;
pub mod prf;
pub mod received;
pub mod server_request;
pub mod text;
pub mod timestamp;
pub mod user_document;

pub use envelope::{Envelope, EnvelopeContent, MessageType};
pub use handle::{Alias, Domain, Handle, HandleError};
pub use json::{Json, JsonError, JsonObject};
pub use keys::{
    EncryptionKey, InvalidSignature, Judgement, KeyError, KmVersion, Signature, SigningKey, SigningSecret,
};
pub use legacy::legacy_signable;
pub use manifest::Manifest;
pub use nonce::{MalformedNonce, Nonce};
pub use prf::PRF_SALT;
pub use received::{MessageError, ReceivedMessage};
pub use server_request::ServerRequest;
pub use timestamp::{Timestamp, UnixMillis};
pub use user_document::UserDocument;
