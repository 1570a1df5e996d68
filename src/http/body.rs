//! The body of a request, up to its limit.

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::{StatusCode, header};
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpMessage, HttpRequest};

use super::error::Problem;

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
        let bytes = Bytes::from_request(request, payload);
        Box::pin(async move {
            bytes.await.map(Self).map_err(|error| match error.as_error::<PayloadError>() {
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

fn not_json() -> Problem {
    let detail = "The body must be application/json.";
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
}
