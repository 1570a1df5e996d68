//! A typed client of a node's endpoints: one file per resource, each an `impl` block of [`NodeClient`], with
//! the bodies and answers exactly as the node's API names them. Deciding *what* to send (signing, sealing)
//! is the business of the other modules of this crate.

mod answer;
mod collections;
mod devices;
mod documents;
mod error;
mod friends;
mod identity;
mod node_client;
mod path;
mod revocations;
mod sessions;
mod token;
mod usage;

pub use collections::{ShareEnvelope, SharedCollection};
pub use devices::Device;
pub use error::{ClientError, FieldError, Problem};
pub use friends::{Delivery, Direction, Friend, Invitation, InvitationDelivery, KeySync};
pub use identity::{Identity, Name, NameChange, ProfileChange, ProfileNames};
pub use node_client::{DEFAULT_TIMEOUT, NodeClient};
pub use reqwest::Method;
pub use revocations::{FlushItem, FlushResult, PendingRevocation, RevocationState};
pub use sessions::{CurrentSession, Role, Session, SignedIn, Subscription, User};
pub use token::{BadToken, SessionToken};
pub use usage::{Quota, Usage};
