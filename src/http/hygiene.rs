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
use vellum_protocol::text::{has_control_characters, without_control_characters};

use super::App;
use super::caller::{COOKIE, RenewedCookie};
use super::endpoint::Endpoint;
use super::error::{FieldError, Problem};
use super::fields::NO_CONTROL_CHARACTERS;
use super::openapi::Operation;
use crate::config::Origin;

/// How long a browser may keep a preflight's answer, in seconds.
const PREFLIGHT_AGE: usize = 600;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Lets the configured clients' pages read answers and send cookies, and nobody else's. They may
/// send and read every header field that the OpenAPI document names.
pub fn cross_origin(clients: &[Origin], endpoints: &[Endpoint]) -> Cors {
    let operations = || endpoints.iter().flat_map(Endpoint::operations).map(|(_, operation)| operation);
    let cors = Cors::default()
        .allowed_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        // Part of every request with a session or a body, which the document says in other words;
        // and what goes along with `traceparent`.
        .allowed_headers(["authorization", "content-type", "tracestate"])
        .allowed_headers(operations().flat_map(Operation::request_headers))
        .expose_headers([header::RETRY_AFTER, REQUEST_ID])
        .expose_headers(["ratelimit", "ratelimit-policy"])
        .expose_headers(operations().flat_map(Operation::answer_headers))
        .supports_credentials()
        // A page that is not known gets an answer without leave to read it; the handlers refuse its cookies.
        .block_on_origin_mismatch(false)
        .max_age(PREFLIGHT_AGE);
    clients.iter().fold(cors, |cors, client| cors.allowed_origin(client.as_str()))
}

/// Refuses a path or a query with control characters, on every path alike. In a path such a name is
/// nobody's: 404. Names of blobs are judged by their own rule, which refuses more.
///
/// # Errors
/// Only what the handler fails with; a refusal is an answer.
pub async fn path_and_query(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    // As the router reads it, without percent signs.
    let path = request.match_info().as_str();
    let refusal = if has_control_characters(path) && !path.starts_with("/me/blobs/") {
        Some(Problem::not_found("There is nothing here."))
    } else {
        query_refusal(request.query_string())
    };
    if let Some(refusal) = refusal {
        return Ok(request.error_response(refusal).map_into_right_body());
    }
    Ok(next.call(request).await?.map_into_left_body())
}

/// A query that cannot be read at all is for the handler to refuse.
fn query_refusal(query: &str) -> Option<Problem> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query).ok()?.into_inner();
    let wrong =
        pairs.iter().filter(|(name, value)| has_control_characters(name) || has_control_characters(value));
    let errors: Vec<FieldError> = wrong
        .map(|(name, _)| FieldError {
            field: without_control_characters(name),
            message: NO_CONTROL_CHARACTERS.into(),
        })
        .collect();
    if errors.is_empty() { None } else { Some(Problem::validation(errors)) }
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
    renew_cookie(&mut answer);
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CROSS_ORIGIN_OPENER_POLICY, "same-origin"),
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

/// Sets the cookie of a session that this request has prolonged, unless the handler sets one
/// itself.
fn renew_cookie<B>(answer: &mut ServiceResponse<B>) {
    let Some(RenewedCookie(cookie)) = answer.request().extensions_mut().remove() else { return };
    if answer.response().cookies().any(|set| set.name() == COOKIE) {
        return;
    }
    // Only a broken name or value could be refused; a token is hexadecimal.
    let _ = answer.response_mut().add_cookie(&cookie);
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
