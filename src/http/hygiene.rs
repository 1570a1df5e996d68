//! What every answer gets, whatever handler it comes from: headers that keep browsers from guessing and
//! framing, the request's id, and leave for the configured clients' origins.

use actix_cors::Cors;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{ConnectionType, Method};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, web};
use tracing_actix_web::RequestId;

use super::App;
use super::error::Problem;
use super::paging::TOTAL_COUNT;
use crate::config::Origin;

/// How long a browser may keep a preflight's answer, in seconds.
const PREFLIGHT_AGE: usize = 600;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Lets the configured clients' pages read answers and send cookies, and nobody else's.
pub fn cross_origin(clients: &[Origin]) -> Cors {
    let cors = Cors::default()
        .allowed_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allowed_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
        ])
        .expose_headers([header::ETAG, header::RETRY_AFTER, REQUEST_ID, TOTAL_COUNT])
        .expose_headers(["ratelimit", "ratelimit-policy"])
        .supports_credentials()
        // A page that is not known gets an answer without leave to read it; the handlers refuse its cookies.
        .block_on_origin_mismatch(false)
        .max_age(PREFLIGHT_AGE);
    clients.iter().fold(cors, |cors, client| cors.allowed_origin(client.as_str()))
}

/// Refuses a path with a character that PostgreSQL keeps in no text: nothing is there, on either engine. Names of
/// blobs are judged by their own rule, which refuses more.
///
/// # Errors
/// Only what the handler fails with; a refusal is an answer.
pub async fn path(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    if request.path().contains("%00") && !request.path().starts_with("/me/blobs/") {
        return Ok(request
            .error_response(Problem::not_found("There is nothing here."))
            .map_into_right_body());
    }
    Ok(next.call(request).await?.map_into_left_body())
}

/// Adds the headers.
///
/// # Errors
/// Only what the handler fails with.
pub async fn headers(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let app = request.app_data::<web::Data<App>>().cloned();
    let secure = app.as_ref().is_some_and(|app| app.origin.is_https());
    let id = request.extensions().get::<RequestId>().map(ToString::to_string);
    let mut answer = next.call(request).await?;
    if app.is_some_and(|app| *app.stopping.borrow()) {
        // The next request on this connection would find nobody.
        answer.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // The page of the documentation brings a policy of its own.
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
        headers.insert(header::CONTENT_SECURITY_POLICY, nothing);
    }
    if secure {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    if let Some(id) = id.and_then(|id| HeaderValue::from_str(&id).ok()) {
        headers.insert(REQUEST_ID, id);
    }
    Ok(answer)
}
