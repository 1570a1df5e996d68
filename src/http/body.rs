//! The body of a request: up to its limit, within its time, and as it was sent.
//!
//! Packed bodies (`Content-Encoding`) are refused and not unpacked: actix would unpack what has arrived before it
//! looks at the limit, and a few kilobytes can be a thousand times as many in memory.

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::{StatusCode, header};
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpMessage, HttpRequest};

use super::LONGEST_BODY;
use super::error::Problem;

/// How long any body may take, besides the time for its length.
const PATIENCE: Duration = Duration::from_secs(20);
/// The slowest line that a body may come by, in bytes a second.
const SLOWEST: usize = 16 * 1024;

/// A body of any type. As a parameter of a handler it makes 413 the answer to one that is too long.
pub struct AnyBody(Bytes);

/// A JSON body, or none. Beside 413 it makes 415 the answer to a body that says it is something else; one
/// that does not say what it is counts as JSON. (A form of another site can send what it likes with a
/// visitor's cookies, but only as types that are refused here.)
pub struct Body(Bytes);

impl Deref for AnyBody {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Body {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl FromRequest for AnyBody {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        if is_packed(request) {
            return Box::pin(async { Err(packed()) });
        }
        let bytes = tokio::time::timeout(time_for(request), Bytes::from_request(request, payload));
        Box::pin(async move {
            let Ok(read) = bytes.await else { return Err(too_slow()) };
            read.map(Self).map_err(|error| match error.as_error::<PayloadError>() {
                Some(PayloadError::Overflow) => Problem::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "body_too_large",
                    "The body is too long for this path.",
                ),
                _ => Problem::new(
                    StatusCode::BAD_REQUEST,
                    "body_broken",
                    "The body could not be read to its end.",
                ),
            })
        })
    }
}

impl FromRequest for Body {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let is_json = is_json(request);
        let body = AnyBody::from_request(request, payload);
        Box::pin(async move {
            let AnyBody(bytes) = body.await?;
            if is_json || bytes.is_empty() { Ok(Self(bytes)) } else { Err(not_json()) }
        })
    }
}

fn is_json(request: &HttpRequest) -> bool {
    let kind = request.content_type().to_ascii_lowercase();
    !request.headers().contains_key(header::CONTENT_TYPE)
        || kind == "application/json"
        || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// Whether the body is anything else than what its type says.
fn is_packed(request: &HttpRequest) -> bool {
    let is_plain = |value: &header::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    !request.headers().get_all(header::CONTENT_ENCODING).all(is_plain)
}

/// How long the body may take: whoever sends byte by byte holds a connection no longer than that. A length that is
/// longer than allowed has been refused before anything is waited for.
fn time_for(request: &HttpRequest) -> Duration {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length: usize = length.and_then(|text| text.parse().ok()).unwrap_or(LONGEST_BODY);
    PATIENCE + Duration::from_secs(u64::try_from(length / SLOWEST).unwrap_or(u64::MAX / 2))
}

fn packed() -> Problem {
    let detail = "The body must not be packed: no Content-Encoding is taken.";
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
}

fn too_slow() -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", "The body did not come in time.")
}

fn not_json() -> Problem {
    let detail = "The body must be application/json.";
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
}
