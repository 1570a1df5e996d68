//! How another node is spoken to: the actors say what, an implementation outside this crate says how.

use std::time::Duration;

use futures_util::future::BoxFuture;
use vellum_protocol::{Domain, UnixMillis};

/// What a peer answered, whatever it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, at most as long as the transport reads.
    pub body: Vec<u8>,
    /// The pause that the peer asks for.
    pub retry_after: Option<Duration>,
    /// For how long the peer lets the answer be kept (`Cache-Control: max-age`).
    pub max_age: Option<Duration>,
    /// The peer's own clock, where it told the time.
    pub date: Option<UnixMillis>,
}

/// Why there is no answer. Each says what a person should know to act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// No connection could be made: nothing was sent.
    #[error("not reachable: {0}")]
    Unreachable(String),
    /// The connection broke before there was an answer.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// No connection could be made in time: nothing was sent.
    #[error("not reachable: no connection within {} s", .0.as_secs())]
    ConnectTimedOut(Duration),
    /// No answer in time.
    #[error("timed out after {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The peer's certificate or its TLS is at fault.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// This node does not connect to such an address.
    #[error("refused to connect: {0}")]
    Forbidden(String),
    /// This node has as many requests under way as it makes at once: nothing was sent.
    #[error("this node has too many requests under way")]
    Busy,
    /// The answer is longer than this node reads.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// The answer has a content encoding that this node does not read, or not in full.
    #[error("the answer cannot be unpacked: {0}")]
    Packed(String),
}

impl TransportError {
    /// What a user of this node is told. The name is theirs to choose, so this does not tell
    /// whether it has an address, which one, and what happens at a port of it: that would be a
    /// probe of the networks that this node can reach.
    #[must_use]
    pub fn for_users(&self) -> String {
        match self {
            Self::Unreachable(_) | Self::ConnectTimedOut(_) | Self::Forbidden(_) => "not reachable".into(),
            other => other.to_string(),
        }
    }
}

/// Speaks to other nodes. It follows no redirect, bounds time and length, and connects only where the
/// node's settings allow.
pub trait Transport: Send + Sync + 'static {
    /// Whether a request to this domain is made at all, as far as its text tells: nothing is looked
    /// up.
    ///
    /// # Errors
    /// [`TransportError::Forbidden`].
    fn permits(&self, domain: &Domain) -> Result<(), TransportError> {
        domain.port().map(drop).map_err(|error| TransportError::Forbidden(error.to_string()))
    }

    /// Fetches a document: `path` begins with `/.well-known/`.
    fn get<'a>(&'a self, domain: &'a Domain, path: &'a str) -> BoxFuture<'a, Result<Answer, TransportError>>;

    /// Posts a JSON body to the peer's inbox, with these headers.
    fn post<'a>(
        &'a self,
        domain: &'a Domain,
        path: &'a str,
        headers: Vec<(&'static str, String)>,
        body: String,
    ) -> BoxFuture<'a, Result<Answer, TransportError>>;
}
