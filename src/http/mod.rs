//! The node's HTTP side: one file a resource, named after its path.
//!
//! A handler authenticates, reads the body, sends one message, and maps one reply. It holds no rule and
//! no SQL; those are in `vellum-actors` and `vellum-store`. Refusals become answers in [`error`].

mod admin_peers;
mod admin_queue;
pub(crate) mod bodies_in_flight;
mod body;
mod caller;
mod client_address;
mod device_transfer;
mod documentation;
mod endpoint;
pub mod error;
mod federation;
mod fields;
mod friends;
mod health;
mod hygiene;
mod legacy_client;
mod library_collections;
pub(crate) mod limits;
mod me_blobs;
pub(crate) mod metrics;
pub(crate) mod openapi;
mod paging;
mod passkeys;
mod request_span;
mod sessions;
mod sharing;
mod signed_fields;
mod untrusted_proxy;
mod users;
mod users_me;
mod users_me_audit;
mod users_me_devices;
mod users_me_km_version;
mod users_me_preferences;
mod users_me_revocations;
mod users_me_revocations_events;
mod users_me_usage;
mod users_me_wrapped_keys;
mod well_known;

use std::path::PathBuf;
use std::sync::Arc;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::{Compress, from_fn};
use actix_web::{HttpResponse, ResponseError, web};
use serde::Serialize;
use tokio::sync::watch;
use tracing_actix_web::TracingLogger;
use vellum_actors::Node;
use vellum_protocol::UnixMillis;

use crate::config::{Origin, Settings};
use crate::peer_addresses::PeerAddresses;
use bodies_in_flight::BodiesInFlight;
use endpoint::Endpoint;
use error::Problem;
use ipnet::IpNet;
use request_span::RequestSpan;
use untrusted_proxy::UntrustedProxies;
use users_me_revocations_events::OpenStreams;

/// The longest body of an ordinary request.
pub const LONGEST_BODY: usize = 64 * 1024;

/// What every handler has at hand.
pub struct App {
    /// The actors and the store.
    pub node: Arc<Node>,
    /// The node's public origin.
    pub origin: Origin,
    /// Origins of web clients.
    pub client_origins: Vec<Origin>,
    /// Networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// When a peer was reported that forwards requests and is not trusted.
    pub untrusted_proxies: UntrustedProxies,
    /// Whether clients on other sites get cookies that their pages can use.
    pub cross_site_cookies: bool,
    /// Whether paths that only existing clients ask for are there.
    pub legacy_client_stubs: bool,
    /// The share of requests whose trace is exported; 0 where nothing is exported.
    pub trace_sample_ratio: f64,
    /// The data folder, whose disk is measured.
    pub data_dir: PathBuf,
    /// Networks that `/metrics` is for without a session.
    pub metrics_networks: Vec<IpNet>,
    /// The longest body of a rotation and of a blob.
    pub longest_upload: usize,
    /// Bodies that are being read or worked on.
    pub bodies: BodiesInFlight,
    /// Streams of events that users have open.
    pub event_streams: OpenStreams,
    /// Becomes true when the node is stopping: what would run on for long ends then.
    pub stopping: watch::Sender<bool>,
    /// Who has asked how often lately.
    pub limiters: limits::Limiters,
}

impl App {
    /// Puts together what handlers need.
    #[must_use]
    pub(crate) fn new(
        node: Arc<Node>,
        origin: Origin,
        settings: &Settings,
        peer_addresses: Arc<PeerAddresses>,
    ) -> Self {
        let http = &settings.http;
        Self {
            node,
            origin,
            client_origins: http.client_origins.clone(),
            trusted_proxies: http.trusted_proxies.clone(),
            untrusted_proxies: UntrustedProxies::default(),
            cross_site_cookies: http.cross_site_cookies,
            legacy_client_stubs: http.legacy_client_stubs,
            trace_sample_ratio: settings.telemetry.exported_ratio(),
            data_dir: settings.data_dir.clone(),
            metrics_networks: http.metrics_networks.clone(),
            longest_upload: http.longest_upload,
            bodies: BodiesInFlight::new(http.bodies_in_flight),
            event_streams: OpenStreams::default(),
            stopping: watch::Sender::new(false),
            limiters: limits::Limiters::new(settings.limits, peer_addresses),
        }
    }
}

/// The node's actix application: every path, and what is done around all of them.
pub fn application(
    app: web::Data<App>,
) -> actix_web::App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let mut endpoints = all_endpoints(app.longest_upload);
    if app.legacy_client_stubs {
        endpoints.extend(legacy_client::endpoints());
    }
    let cors = hygiene::cross_origin(&app.client_origins, &endpoints);
    actix_web::App::new()
        .app_data(app)
        .app_data(paging::query_config())
        .app_data(
            web::PathConfig::default()
                .error_handler(|_, _| Problem::not_found("There is nothing here.").into()),
        )
        .configure(|config| {
            for endpoint in endpoints {
                endpoint.register(config);
            }
        })
        .default_service(web::to(|| async {
            Err::<HttpResponse, _>(Problem::not_found("There is nothing here."))
        }))
        .wrap(from_fn(hygiene::path_and_query))
        .wrap(from_fn(limits::limit))
        .wrap(Compress::default())
        .wrap(cors)
        .wrap(from_fn(hygiene::headers))
        .wrap(from_fn(metrics::count))
        .wrap(TracingLogger::<RequestSpan>::new())
}

/// Reads the body of a rotation (`POST /users/me/km-version/commit`).
///
/// # Errors
/// The status that says what is wrong with it.
pub fn read_rotation(body: &[u8]) -> Result<vellum_actors::user::RotateKeys, u16> {
    users_me_km_version::read_commit(body).map_err(|problem| problem.status_code().as_u16())
}

/// Every path of a node whose uploads may have so many bytes, but those that only existing clients
/// ask for.
fn all_endpoints(longest_upload: usize) -> Vec<Endpoint> {
    // They are tried in this order, one after the other: first what is asked for most.
    let by_resource = [
        users_me::endpoints(),
        well_known::endpoints(),
        federation::endpoints(),
        users_me_km_version::endpoints(longest_upload),
        health::endpoints(),
        metrics::endpoints(),
        documentation::endpoints(),
        sessions::endpoints(),
        passkeys::endpoints(),
        device_transfer::endpoints(),
        users::endpoints(),
        users_me_audit::endpoints(),
        users_me_devices::endpoints(),
        users_me_usage::endpoints(),
        users_me_preferences::endpoints(),
        users_me_wrapped_keys::endpoints(),
        me_blobs::endpoints(longest_upload),
        library_collections::endpoints(),
        users_me_revocations::endpoints(),
        users_me_revocations_events::endpoints(),
        friends::endpoints(),
        sharing::endpoints(),
        admin_queue::endpoints(),
        admin_peers::endpoints(),
    ];
    by_resource.into_iter().flatten().collect()
}

/// The OpenAPI document of this version.
///
/// # Errors
/// Never in practice: all of it can be written as JSON.
pub fn openapi_document() -> Result<String, serde_json::Error> {
    openapi::text(&endpoints())
}

/// Every path, for the document, in which the longest upload is not a matter.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    let mut endpoints = all_endpoints(LONGEST_BODY);
    endpoints.extend(legacy_client::endpoints());
    endpoints
}

/// 200 with a body that only the caller may keep.
fn private<T: Serialize>(body: &T) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(body)
}

/// 200 with a body that holds a secret. Never compressed: the length of a compressed answer would tell
/// something of what is in it.
fn secret<T: Serialize>(body: &T) -> HttpResponse {
    let mut answer = HttpResponse::Ok();
    answer
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(header::ContentEncoding::Identity);
    answer.json(body)
}

/// A time as every answer shows it: RFC 3339 in UTC with milliseconds.
fn shown(at: UnixMillis) -> String {
    at.to_rfc3339()
}
