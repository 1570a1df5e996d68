//! The body of a request: up to its limit, within its time, and as it was sent.
//!
//! Packed bodies (`Content-Encoding`) are refused and not unpacked: actix would unpack what has arrived before it
//! looks at the limit, and a few kilobytes can be a thousand times as many in memory.

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::{StatusCode, header};
use actix_web::web::{self, BytesMut};
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::bodies_in_flight::{Place, Sender};
use super::client_address::ClientAddress;
use super::error::Problem;
use super::{App, LONGEST_BODY, caller, limits};

/// How long any body may take, besides the time for its length.
const PATIENCE: Duration = Duration::from_secs(20);
/// The slowest line that a body may come by, in bytes a second.
const SLOWEST: usize = 16 * 1024;
/// What has to come in each [`PATIENCE`] of a long body.
const LEAST_IN_PATIENCE: usize = 20 * SLOWEST;

/// How long a body may be where the path says so, in bytes.
pub struct LongestBody(pub usize);

/// A body of any type. As a parameter of a handler it makes 413 the answer to one that is too long,
/// and 503 to one for which there is no place now. It keeps its place until the handler is done,
/// and the command that the handler sends: that goes on, and has the bytes, if the client hangs up.
pub struct AnyBody {
    bytes: BytesMut,
    _places: Arc<Mutex<Vec<Place>>>,
}

/// The places of a request's body. Its caller has them, too, whichever of the two is read first.
pub fn places_of(request: &HttpRequest) -> Arc<Mutex<Vec<Place>>> {
    let mut extensions = request.extensions_mut();
    if let Some(places) = extensions.get::<Arc<Mutex<Vec<Place>>>>() {
        return Arc::clone(places);
    }
    let places = Arc::default();
    extensions.insert(Arc::clone(&places));
    places
}

/// A JSON body, or none. Beside 413 it makes 415 the answer to a body that says it is something else; one
/// that does not say what it is counts as JSON, unless a page of another site sends it. (Such a page
/// can have its visitors send what it likes, without asking first, but only as what is refused here.)
pub struct Body(AnyBody);

impl Deref for AnyBody {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
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
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            if is_packed(&request) {
                return Err(packed());
            }
            let read = tokio::time::timeout(time_for(&request), read(&request, payload));
            read.await.unwrap_or_else(|_| Err(too_slow()))
        })
    }
}

/// Reads a body up to its limit, in a place of its own.
async fn read(request: &HttpRequest, mut payload: Payload) -> Result<AnyBody, Problem> {
    let longest = request.app_data::<LongestBody>().map_or(LONGEST_BODY, |longest| longest.0);
    if declared_length(request).is_some_and(|declared| declared > longest) {
        return Err(too_long());
    }
    let app = request.app_data::<web::Data<App>>().ok_or_else(Problem::internal)?;
    let mut place = app.bodies.place(sender_of(request, app).await);
    let mut bytes = BytesMut::new();
    let (mut since, mut came) = (Instant::now(), 0);
    loop {
        let Ok(chunk) = timeout_at(since + PATIENCE, payload.next()).await else {
            // Whoever stops in the middle must not hold what has come until the time is over.
            if came < LEAST_IN_PATIENCE {
                return Err(too_slow());
            }
            (since, came) = (Instant::now(), 0);
            continue;
        };
        let Some(chunk) = chunk else { break };
        let chunk = chunk.map_err(|_| broken())?;
        came += chunk.len();
        let length = bytes.len() + chunk.len();
        if length > longest {
            return Err(too_long());
        }
        place.extend_to(length)?;
        bytes.extend_from_slice(&chunk);
    }
    let places = places_of(request);
    places.lock().unwrap_or_else(PoisonError::into_inner).push(place);
    Ok(AnyBody { bytes, _places: places })
}

async fn sender_of(request: &HttpRequest, app: &App) -> Sender {
    match caller::user_of(request, app).await {
        Some(user) => Sender::User(user),
        None => Sender::Address(limits::one_client(ClientAddress::of(request).counted(), 64)),
    }
}

impl FromRequest for Body {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let is_json = is_json(request);
        let body = AnyBody::from_request(request, payload);
        Box::pin(async move {
            let body = body.await?;
            if is_json || body.is_empty() { Ok(Self(body)) } else { Err(not_json()) }
        })
    }
}

fn is_json(request: &HttpRequest) -> bool {
    let kind = request.content_type().to_ascii_lowercase();
    let is_foreign = || {
        let app = request.app_data::<web::Data<App>>();
        app.is_none_or(|app| caller::is_from_foreign_page(request, app))
    };
    (!request.headers().contains_key(header::CONTENT_TYPE) && !is_foreign())
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
    let length = declared_length(request).unwrap_or(LONGEST_BODY);
    PATIENCE + Duration::from_secs(u64::try_from(length / SLOWEST).unwrap_or(u64::MAX / 2))
}

fn declared_length(request: &HttpRequest) -> Option<usize> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_long() -> Problem {
    let detail = "The body is too long for this path.";
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
}

fn broken() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "body_broken", "The body could not be read to its end.")
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
