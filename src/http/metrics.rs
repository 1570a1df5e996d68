//! `/metrics`: what the node counts and times, in the text form of Prometheus.
//!
//! It is for the networks of the settings, this machine's own unless said otherwise, and for those
//! who may see the node's state. A request counts as from far away when a proxy that is not trusted
//! has passed it on, and when a trusted one does not say for whom.

use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{HttpRequest, HttpResponse, web};
use metrics::{counter, histogram};
use vellum_actors::measure;

use super::App;
use super::caller::MaybeCaller;
use super::client_address::ClientAddress;
use super::endpoint::Endpoint;
use super::error::Problem;
use super::openapi::metrics as docs;
use crate::telemetry;

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::at("/metrics").get(docs::scrape(), scrape)]
}

async fn scrape(
    app: web::Data<App>,
    request: HttpRequest,
    MaybeCaller(caller): MaybeCaller,
) -> Result<HttpResponse, Problem> {
    if !ClientAddress::of(&request).is_near(&app.metrics_networks) {
        caller.ok_or_else(Problem::unauthorized)?.require("system:read")?;
    }
    measure::look(&app.node).await?;
    let text = telemetry::metrics().render();
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}

/// Counts and times every request, by the pattern of its path.
///
/// # Errors
/// Only what the handler fails with.
pub async fn count(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let started = Instant::now();
    let answer = next.call(request).await?;
    let route = answer.request().match_pattern().unwrap_or_else(|| "none".to_owned());
    let method = match answer.request().method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let status = answer.status().as_u16().to_string();
    counter!("vellum_http_requests_total", "method" => method, "route" => route.clone(), "status" => status)
        .increment(1);
    histogram!("vellum_http_request_seconds", "route" => route).record(started.elapsed());
    Ok(answer)
}
