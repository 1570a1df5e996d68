//! The span around each request, tied to the trace that its client is in (W3C Trace Context).

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::{Error, HttpMessage, web};
use rand::RngExt;
use tracing::Span;
use tracing::field::Empty;
use tracing_actix_web::{DefaultRootSpanBuilder, RequestId, RootSpanBuilder};
use vellum_actors::trace::{self, TraceParent};

use super::client_address::ClientAddress;
use super::{App, untrusted_proxy};

/// Makes the span of a request, and leaves with the request its client's address and its place in
/// the trace: what is sent to other nodes for it goes on from there.
pub struct RequestSpan;

impl RootSpanBuilder for RequestSpan {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let app = request.app_data::<web::Data<App>>();
        let trusted = app.map_or(&[][..], |app| &app.trusted_proxies);
        let peer = request.peer_addr().map(|address| address.ip());
        let client = ClientAddress::find(peer, request.headers(), trusted);
        request.extensions_mut().insert(client);
        let span = new_span(request, client);
        // Whether a trace is exported is decided here: a stranger's flag would fill the collector.
        let sampled = rand::rng().random_bool(app.map_or(0.0, |app| app.trace_sample_ratio));
        let header = request.headers().get(trace::HEADER).and_then(|value| value.to_str().ok());
        let cause = header.and_then(TraceParent::parse).map(|cause| cause.with_sampled(sampled));
        let place = trace::tie(&span, cause);
        request.extensions_mut().insert(place);
        if let (Some(app), Some(peer)) = (app, client.untrusted_proxy()) {
            span.in_scope(|| untrusted_proxy::report(app, peer));
        }
        span
    }

    fn on_request_end<B: MessageBody>(span: Span, outcome: &Result<ServiceResponse<B>, Error>) {
        DefaultRootSpanBuilder::on_request_end(span, outcome);
    }
}

/// The fields of `DefaultRootSpanBuilder`, but without what it takes from forwarding headers of
/// anybody.
fn new_span(request: &ServiceRequest, client: ClientAddress) -> Span {
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let method = request.method().as_str();
    let route = request.match_pattern().unwrap_or_else(|| "default".to_owned());
    let version = format!("{:?}", request.version());
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let id = request.extensions().get::<RequestId>().map(ToString::to_string).unwrap_or_default();
    tracing::info_span!(
        "HTTP request",
        http.method = %method,
        http.route = %route,
        http.flavor = %version.trim_start_matches("HTTP/"),
        http.host = %text(header::HOST),
        http.client_ip = %client,
        http.user_agent = %text(header::USER_AGENT),
        http.target = %target,
        http.status_code = Empty,
        otel.name = %format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        trace_id = Empty,
        request_id = %id,
        exception.message = Empty,
        exception.details = Empty,
    )
}
