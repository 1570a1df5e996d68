//! The body of a request, up to its limit.

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpRequest};

use super::error::Problem;

/// A request's body. As a parameter of a handler it makes 413 the answer to one that is too long.
pub struct Body(Bytes);

impl Deref for Body {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl FromRequest for Body {
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
