//! What can go wrong with a request, and the node's own words about it. No error here carries a token.

use std::fmt;
use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Why a request did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The node's address is none.
    #[error("a node's address is http:// or https://, a host and perhaps a port, and nothing more")]
    BadOrigin,
    /// The HTTP client could not be made, as when the system has no certificates.
    #[error("the HTTP client could not be set up")]
    Setup(#[source] reqwest::Error),
    /// No connection, or it broke. Whether the node has done what was asked is not known.
    #[error("the node could not be reached")]
    Unreachable(#[source] reqwest::Error),
    /// No whole answer in time. Whether the node has done what was asked is not known.
    #[error("the node did not answer in time")]
    TimedOut,
    /// The node says no.
    #[error("the node refuses: {0}")]
    Refused(Box<Problem>),
    /// The node says yes in a way that is not understood here.
    #[error("the node's answer ({status}) is not understood: {reason}")]
    UnexpectedAnswer {
        /// The HTTP status.
        status: u16,
        /// What is wrong with it.
        reason: String,
    },
}

impl ClientError {
    /// The node's refusal, if that is what it is.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            _ => None,
        }
    }

    /// The word of the node's refusal, such as `alias_taken`.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.problem().and_then(|problem| problem.code.as_deref())
    }

    /// Whether the node was put back from a backup that is older than what this device knows. The device keeps its
    /// seed and changes nothing; the node's operator, or a rotation that the user asks for, puts it right.
    #[must_use]
    pub fn is_rolled_back(&self) -> bool {
        self.code() == Some("server_rolled_back")
    }

    /// Whether the keys were changed since this device read them. It reads the identity again
    /// before it writes anything that is sealed.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.code() == Some("stale_km_version")
    }

    pub(crate) fn from_transport(error: reqwest::Error) -> Self {
        if error.is_timeout() { Self::TimedOut } else { Self::Unreachable(error.without_url()) }
    }
}

/// A wrong field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FieldError {
    /// Which field.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// A refusal in the node's words (RFC 9457). Everything but the status may be missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The word a program can switch on.
    pub code: Option<String>,
    /// The sentence for people.
    pub message: Option<String>,
    /// The same sentence under its standard name.
    pub detail: Option<String>,
    /// The wrong fields, all of them.
    pub errors: Vec<FieldError>,
    /// When to try again, from the header `Retry-After`.
    pub retry_after: Option<Duration>,
    /// The whole document, for members that only some refusals have, such as `currentKmVersion`.
    pub members: Map<String, Value>,
}

impl Problem {
    /// Reads a refusal. What is not JSON gives a problem with the status alone: a proxy on the way
    /// answers in its own words.
    pub(crate) fn read(status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let members: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_owned);
        let errors = members.get("errors").cloned().unwrap_or_default();
        Self {
            status: status.as_u16(),
            code: text("code"),
            message: text("message"),
            detail: text("detail"),
            errors: serde_json::from_value(errors).unwrap_or_default(),
            retry_after,
            members,
        }
    }

    /// Whether the node's word for it is this one.
    #[must_use]
    pub fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        if let Some(sentence) = self.message.as_ref().or(self.detail.as_ref()) {
            write!(f, ": {sentence}")?;
        }
        for FieldError { field, message } in &self.errors {
            write!(f, "; {field}: {message}")?;
        }
        Ok(())
    }
}
