//! Reading a node's answer: bounded, and told apart into success and refusal.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::error::{ClientError, Problem};

/// The longest answer that is read. Nothing that a node answers here comes near it.
const LONGEST_ANSWER: usize = 16 * 1024 * 1024;

/// A whole answer, whatever it says.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) async fn read(mut response: Response) -> Result<Self, ClientError> {
        let status = response.status();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(ClientError::from_transport)? {
            if body.len() + chunk.len() > LONGEST_ANSWER {
                return Err(unexpected(status, format!("it has more than {LONGEST_ANSWER} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Self { status, retry_after, body })
    }

    /// The answer, unless it is a refusal. Redirects are refusals too: a node has no reason to send a
    /// client with its token to another place.
    pub(crate) fn accepted(self) -> Result<Self, ClientError> {
        if self.status.is_success() {
            return Ok(self);
        }
        Err(ClientError::Refused(Box::new(Problem::read(self.status, self.retry_after, &self.body))))
    }

    /// The body as JSON of this shape.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|error| unexpected(self.status, describe(&error)))
    }

    /// The body as JSON in the protocol's own strict reading, handed to a parser of the protocol.
    pub(crate) fn protocol_json<T, E: std::fmt::Display>(
        &self,
        parse: impl FnOnce(&vellum_protocol::Json) -> Result<T, E>,
    ) -> Result<T, ClientError> {
        let json = vellum_protocol::Json::parse(&self.body)
            .map_err(|error| unexpected(self.status, error.to_string()))?;
        parse(&json).map_err(|error| unexpected(self.status, error.to_string()))
    }
}

fn unexpected(status: StatusCode, reason: String) -> ClientError {
    ClientError::UnexpectedAnswer { status: status.as_u16(), reason }
}

/// The words of serde may repeat what they found, which may be a token; only where nothing was found they
/// are safe.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("missing field") {
        return text;
    }
    let what = match error.classify() {
        Category::Data => "a value is not of the type it should be",
        Category::Eof => "it ends too early",
        Category::Syntax | Category::Io => "it is not JSON",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}
