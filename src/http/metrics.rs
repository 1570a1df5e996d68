//! `/metrics`: what the node counts and times, in the text form of Prometheus.
//!
//! It is for the networks of the settings, this machine's own unless said otherwise, and for those
//! who may see the node's state. A request counts as from far away when a proxy that is not trusted
//! has passed it on, and when a trusted one does not say for whom.
//!
//! It answers without the database: what comes from there keeps its last values then.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use vellum_actors::gauges;

use super::App;
use super::caller::MaybeCaller;
use super::client_address::ClientAddress;
use super::endpoint::Endpoint;
use super::error::Problem;
use super::openapi::metrics as docs;
use crate::{process, telemetry};

/// How long a scrape waits for the database. Prometheus waits 10 s for the whole answer, unless it
/// is told otherwise.
const DATABASE_WAIT: Duration = Duration::from_secs(2);
/// How long it waits for the file system.
const DISK_WAIT: Duration = Duration::from_secs(1);

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::at("/metrics").get(docs::scrape(), scrape)]
}

/// Describes the metrics of the HTTP side, and starts each at 0.
pub fn start() {
    process::started_at();
    describe_gauge!("vellum_build_info", "Always 1; the label has the version of this node.");
    gauge!("vellum_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    describe_gauge!("vellum_disk_free_bytes", "Free space where the data folder is, for the node's user.");
    gauge!("vellum_disk_free_bytes").set(f64::NAN);
    describe_counter!("vellum_http_requests_total", "HTTP requests, by method, route and status.");
    counter!("vellum_http_requests_total", "method" => "GET", "route" => "/metrics", "status" => "200")
        .increment(0);
    describe_histogram!(
        "vellum_http_request_seconds",
        Unit::Seconds,
        "Time until an HTTP request was answered."
    );
    drop(histogram!("vellum_http_request_seconds", "route" => "/metrics"));
}

async fn scrape(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    if !ClientAddress::of(&request).is_near(&app.metrics_networks) {
        // Not a parameter of this handler: finding the session needs the database.
        let MaybeCaller(caller) = MaybeCaller::extract(&request).await?;
        caller.ok_or_else(Problem::unauthorized)?.require("system:read")?;
    }
    gauges::refresh(&app.node, DATABASE_WAIT).await;
    measure_disk(&app.data_dir, free_space).await;
    let text = telemetry::metrics().render() + &process::metrics();
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}

/// Not a number where the file system does not tell, or not in time: no alert fires on that.
async fn measure_disk(folder: &Path, measure: fn(PathBuf) -> f64) {
    static IS_MEASURING: AtomicBool = AtomicBool::new(false);
    let gauge = gauge!("vellum_disk_free_bytes");
    // A file system of the network may never answer. Then one thread waits for it, and keeps
    // neither a scrape nor the end of the process waiting.
    if IS_MEASURING.swap(true, Ordering::AcqRel) {
        gauge.set(f64::NAN);
        return;
    }
    let (sender, measured) = tokio::sync::oneshot::channel();
    let folder = folder.to_owned();
    let started = std::thread::Builder::new().name("disk".to_owned()).spawn(move || {
        let free = measure(folder);
        IS_MEASURING.store(false, Ordering::Release);
        // Nobody waits for it any more if it took too long.
        let _ = sender.send(free);
    });
    if started.is_err() {
        IS_MEASURING.store(false, Ordering::Release);
    }
    let free = tokio::time::timeout(DISK_WAIT, measured).await;
    gauge.set(free.ok().and_then(Result::ok).unwrap_or(f64::NAN));
}

fn free_space(folder: PathBuf) -> f64 {
    let free = rustix::fs::statvfs(folder).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    free.map_or(f64::NAN, |bytes| bytes as f64)
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

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[tokio::test]
    async fn a_file_system_that_does_not_answer_keeps_no_scrape_waiting() {
        static ANSWERS: Barrier = Barrier::new(2);
        static IS_WAITING: AtomicBool = AtomicBool::new(false);
        fn stuck(_: PathBuf) -> f64 {
            assert!(!IS_WAITING.swap(true, Ordering::AcqRel), "one thread waits for it, not two");
            ANSWERS.wait();
            1.0
        }
        for _ in 0..3 {
            measure_disk(Path::new("/"), stuck).await;
        }
        assert!(IS_WAITING.load(Ordering::Acquire));
        ANSWERS.wait();
    }
}
