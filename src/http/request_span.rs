//! The span around each request, tied to the trace that its client is in (W3C Trace Context).

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::{Error, HttpMessage};
use tracing::Span;
use tracing_actix_web::{DefaultRootSpanBuilder, RootSpanBuilder};
use vellum_actors::trace::{self, TraceParent};

/// Makes the span of a request, and leaves its place in the trace with the request: what is sent to other
/// nodes for it goes on from there.
pub struct RequestSpan;

impl RootSpanBuilder for RequestSpan {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let span = DefaultRootSpanBuilder::on_request_start(request);
        let header = request.headers().get(trace::HEADER).and_then(|value| value.to_str().ok());
        let place = trace::tie(&span, header.and_then(TraceParent::parse));
        request.extensions_mut().insert(place);
        span
    }

    fn on_request_end<B: MessageBody>(span: Span, outcome: &Result<ServiceResponse<B>, Error>) {
        DefaultRootSpanBuilder::on_request_end(span, outcome);
    }
}
