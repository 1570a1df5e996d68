//! Rate limits: by client address in front of what costs the node something before it knows who asks,
//! by sending server on the inbox, and by user on what is dear. Every limited answer tells where its client stands (`RateLimit`,
//! `RateLimit-Policy`: the IETF draft's header fields).
//!
//! The log has a line for each source and limit that a request was refused by, once a minute:
//! whatever the limit is, its answer is a 429.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpRequest, web};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ipnet::Ipv6Net;
use vellum_actors::inbox::SenderLimit;
use vellum_protocol::Domain;
use vellum_protocol::server_request::INBOX_PATH;
use vellum_store::UserId;

use super::App;
use super::caller;
use super::client_address::ClientAddress;
use super::error::Problem;
use crate::config::Limits;
use crate::peer_addresses::PeerAddresses;

/// The time that limits are stated for, in seconds.
const WINDOW: u32 = 60;
/// Sources that the log names in a minute. Beyond that a flood from everywhere fills no disk.
const MOST_REPORTED: usize = 10_000;
/// How many times what one peer may fetch all of them may fetch together.
const PEERS_TOGETHER: u32 = 10;
/// The name of the limit on signing in, which the fail2ban filter knows.
const SIGN_IN_LIMIT: &str = "sign-in";
/// The name of the limit by sending server.
const SENDER_LIMIT: &str = "inbox-server";

/// One limit, with a record of each of its clients.
struct Limit<K: Hash + Eq + Clone> {
    name: &'static str,
    per_minute: NonZeroU32,
    clients: RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock, StateInformationMiddleware>,
}

/// Where a client stands after a request.
#[derive(Debug, Clone, Copy)]
struct Standing {
    name: &'static str,
    per_minute: u32,
    remaining: u32,
    wait_seconds: u64,
}

/// A request that a limit has refused.
#[derive(Debug, Clone)]
struct Refused {
    limit: &'static str,
    /// What it counts under: an address, a network, a user or a server.
    source: String,
    peer: Option<String>,
}

impl<K: Hash + Eq + Clone + ToString> Limit<K> {
    fn new(name: &'static str, per_minute: u32) -> Self {
        // The settings refuse 0; 1 is the least that a limit can be.
        let per_minute = NonZeroU32::new(per_minute).unwrap_or(NonZeroU32::MIN);
        let clients = RateLimiter::keyed(Quota::per_minute(per_minute)).with_middleware();
        Self { name, per_minute, clients }
    }

    /// Counts a request. The standing tells when the next one is taken if this one is not.
    fn count(&self, client: &K) -> Result<Standing, (Standing, Refused)> {
        let standing = |remaining, wait_seconds| Standing {
            name: self.name,
            per_minute: self.per_minute.get(),
            remaining,
            wait_seconds,
        };
        match self.clients.check_key(client) {
            Ok(snapshot) => {
                Ok(standing(remaining(&snapshot), u64::from(WINDOW / self.per_minute.get().min(WINDOW))))
            }
            Err(until) => {
                let wait = until.wait_time_from(DefaultClock::default().now()).as_secs() + 1;
                let refused = Refused { limit: self.name, source: client.to_string(), peer: None };
                Err((standing(0, wait), refused))
            }
        }
    }

    fn sweep(&self) {
        self.clients.retain_recent();
        self.clients.shrink_to_fit();
    }
}

/// A limit by client address. An IPv6 address counts in three networks around it, since whoever has
/// one address of such a network often has all of them; the larger ones take more requests.
struct AddressLimit([(u8, Limit<IpAddr>); 3]);

impl AddressLimit {
    fn new(name: &'static str, per_minute: u32) -> Self {
        let limit = |prefix, times| (prefix, Limit::new(name, per_minute.saturating_mul(times)));
        Self([limit(64, 1), limit(56, 4), limit(48, 16)])
    }

    /// Counts a request in each network, the smallest first. One that is refused there is not
    /// counted in the larger ones, so a single network does not use up what others of a larger one
    /// have.
    fn count(&self, address: IpAddr) -> Result<Standing, (Standing, Refused)> {
        let [(smallest, limit), larger @ ..] = &self.0;
        let address = address.to_canonical();
        let standing = limit.count(&one_client(address, *smallest))?;
        if address.is_ipv6() {
            for (prefix, limit) in larger {
                limit.count(&one_client(address, *prefix))?;
            }
        }
        Ok(standing)
    }

    fn sweep(&self) {
        self.0.iter().for_each(|(_, limit)| limit.sweep());
    }
}

fn remaining(snapshot: &StateSnapshot) -> u32 {
    snapshot.remaining_burst_capacity()
}

impl Standing {
    fn write(self, headers: &mut HeaderMap) {
        let Self { name, per_minute, remaining, wait_seconds } = self;
        let policy = format!("\"{name}\";q={per_minute};w={WINDOW}");
        let now = format!("\"{name}\";r={remaining};t={wait_seconds}");
        for (header, value) in [("ratelimit-policy", policy), ("ratelimit", now)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(header), value);
            }
        }
    }
}

/// Who has asked how often lately.
pub struct Limiters {
    /// `None`: limits are switched off.
    kinds: Option<Kinds>,
    /// Which sources the log has named in the last minute for the limit on signing in, and for which
    /// others.
    reported_at_sign_in: DefaultKeyedRateLimiter<String>,
    reported: DefaultKeyedRateLimiter<String>,
}

struct Kinds {
    sign_in: AddressLimit,
    inbox: AddressLimit,
    senders: Senders,
    documents: AddressLimit,
    peer_documents: PeerDocuments,
    wrap_secrets: Limit<UserId>,
    wrap_secret_rotations: Limit<UserId>,
    commits: Limit<UserId>,
    flushes: Limit<UserId>,
    resolves: Limit<UserId>,
    invites: Limit<UserId>,
    key_syncs: Limit<UserId>,
}

impl Kinds {
    /// Which limit by address a request falls under.
    fn by_address(&self, method: &Method, path: &str) -> Option<&AddressLimit> {
        match path {
            INBOX_PATH => Some(&self.inbox),
            "/auth/verify"
            | "/auth/sessions"
            | "/auth/passkeys/authenticate/options"
            | "/auth/passkeys/authenticate/verify"
                if method == Method::POST =>
            {
                Some(&self.sign_in)
            }
            _ if path.starts_with("/.well-known/") => Some(&self.documents),
            _ => None,
        }
    }

    /// Which limit by user a request falls under.
    fn by_user(&self, pattern: &str) -> Option<&Limit<UserId>> {
        match pattern {
            "/users/me/devices/{deviceId}/wrap-secret" => Some(&self.wrap_secrets),
            "/users/me/device-wrap-secrets/rotate" => Some(&self.wrap_secret_rotations),
            "/users/me/km-version/commit" => Some(&self.commits),
            "/users/me/revocations/flush" => Some(&self.flushes),
            "/friends/resolve/{handle}" => Some(&self.resolves),
            "/friends/invite" => Some(&self.invites),
            "/friends/sync-keys" => Some(&self.key_syncs),
            _ => None,
        }
    }
}

impl Limiters {
    /// Empty records, with the limits of the settings.
    #[must_use]
    pub(crate) fn new(limits: Limits, peer_addresses: Arc<PeerAddresses>) -> Self {
        let kinds = limits.enabled.then(|| Kinds {
            sign_in: AddressLimit::new(SIGN_IN_LIMIT, limits.sign_in_per_minute),
            inbox: AddressLimit::new("inbox", limits.inbox_per_minute),
            senders: Senders::new(limits.inbox_per_server_per_minute),
            documents: AddressLimit::new("documents", limits.documents_per_minute),
            peer_documents: PeerDocuments::new(limits.documents_per_peer_per_minute, peer_addresses),
            wrap_secrets: Limit::new("wrap-secrets", limits.wrap_secrets_per_minute),
            wrap_secret_rotations: Limit::new(
                "wrap-secret-rotations",
                limits.wrap_secret_rotations_per_minute,
            ),
            commits: Limit::new("commits", limits.commits_per_minute),
            flushes: Limit::new("flushes", limits.flushes_per_minute),
            resolves: Limit::new("resolves", limits.resolves_per_minute),
            invites: Limit::new("invites", limits.invites_per_minute),
            key_syncs: Limit::new("key-syncs", limits.key_syncs_per_minute),
        });
        let reported = || RateLimiter::keyed(Quota::per_minute(NonZeroU32::MIN));
        Self { kinds, reported_at_sign_in: reported(), reported: reported() }
    }

    /// Forgets clients that have been quiet.
    pub fn sweep(&self) {
        for reported in [&self.reported_at_sign_in, &self.reported] {
            reported.retain_recent();
            reported.shrink_to_fit();
        }
        let Some(kinds) = &self.kinds else { return };
        kinds.senders.sweep();
        kinds.peer_documents.sweep();
        for limit in [&kinds.sign_in, &kinds.inbox, &kinds.documents] {
            limit.sweep();
        }
        for limit in [
            &kinds.wrap_secrets,
            &kinds.wrap_secret_rotations,
            &kinds.commits,
            &kinds.flushes,
            &kinds.resolves,
            &kinds.invites,
            &kinds.key_syncs,
        ] {
            limit.sweep();
        }
    }

    /// Counts a request of a signed-in user, where it falls under a limit.
    ///
    /// # Errors
    /// 429 with `Retry-After`.
    pub fn count_user(&self, request: &HttpRequest, user: &UserId) -> Result<(), Problem> {
        let limit = self.kinds.as_ref().and_then(|kinds| kinds.by_user(request.match_pattern()?.as_str()));
        limit.map_or(Ok(()), |limit| note(request, limit.count(user)))
    }

    /// Counts a request that makes wrap secrets anew only where its body says so.
    ///
    /// # Errors
    /// 429 with `Retry-After`.
    pub fn count_rotation(&self, request: &HttpRequest, user: &UserId) -> Result<(), Problem> {
        let kinds = self.kinds.as_ref();
        kinds.map_or(Ok(()), |kinds| note(request, kinds.wrap_secret_rotations.count(user)))
    }

    fn count_address(&self, request: &HttpRequest) -> Result<(), Problem> {
        // As the router reads it: percent signs do not make another path of it.
        let path = request.match_info().as_str();
        let Some(kinds) = &self.kinds else { return Ok(()) };
        let Some(limit) = kinds.by_address(request.method(), path) else { return Ok(()) };
        let address = ClientAddress::of(request).counted();
        let mut counted = limit.count(address);
        if counted.is_err() && std::ptr::eq(limit, &raw const kinds.documents) {
            counted = kinds.peer_documents.count(address).unwrap_or(counted);
        }
        note(request, counted)
    }

    /// The limit by sending server, for a request from this address.
    pub fn of_request(&self, request: &HttpRequest) -> OfRequest<'_> {
        OfRequest { limiters: self, address: ClientAddress::of(request).known() }
    }

    /// Logs a request that a limit has refused, unless its source was named for it a moment ago. A
    /// limit that is not of this file counts under its route and its client's address.
    fn report(&self, request: &HttpRequest) {
        let refused = request.extensions().get::<Refused>().cloned();
        let address = ClientAddress::of(request);
        let route = request.match_pattern().unwrap_or_default();
        let (limit, source, peer) = match &refused {
            Some(refused) => (refused.limit, refused.source.clone(), refused.peer.as_deref()),
            None => (route.as_str(), address.counted().to_string(), None),
        };
        // Filling the set elsewhere must not hide who tries codes.
        let reported = if limit == SIGN_IN_LIMIT { &self.reported_at_sign_in } else { &self.reported };
        if reported.len() >= MOST_REPORTED || reported.check_key(&format!("{limit} {source}")).is_err() {
            return;
        }
        let (client_ip, user) = (address.shown(), caller::known_user(request));
        let account_id = user.as_ref().map(UserId::as_str);
        tracing::info!(client_ip, account_id, peer, limit, "rate limited");
    }
}

/// What peers may fetch of the well-known documents beyond what everybody may: they need one or more for
/// each message that this node sends them. A peer counts for itself, wherever it asks from; and so does
/// an address, whatever peers ask from there, since anybody can run some; and all peers together have
/// [`PEERS_TOGETHER`] times as much.
struct PeerDocuments {
    addresses: Arc<PeerAddresses>,
    by_peer: Limit<String>,
    by_address: AddressLimit,
    together: Limit<&'static str>,
}

impl PeerDocuments {
    fn new(per_minute: u32, addresses: Arc<PeerAddresses>) -> Self {
        let (by_peer, by_address) =
            (Limit::new("documents-peer", per_minute), AddressLimit::new("documents-peer", per_minute));
        let together = Limit::new("documents-peers", per_minute.saturating_mul(PEERS_TOGETHER));
        Self { addresses, by_peer, by_address, together }
    }

    /// Counts a request from the address; `None` where no peer is there.
    fn count(&self, address: IpAddr) -> Option<Result<Standing, (Standing, Refused)>> {
        let peer = self.addresses.peer_at(address)?;
        let standing = self.by_address.count(address).and_then(|_| self.by_peer.count(&peer));
        Some(standing.and_then(|standing| self.together.count(&"all peers").map(|_| standing)))
    }

    fn sweep(&self) {
        self.addresses.sweep();
        self.by_peer.sweep();
        self.by_address.sweep();
        self.together.sweep();
    }
}

/// Notes that a request is refused by the limit of its sending server.
pub(super) fn note_sender(request: &HttpRequest, peer: String) {
    let source = peer.to_lowercase();
    request.extensions_mut().insert(Refused { limit: SENDER_LIMIT, source, peer: Some(peer) });
}

/// What each sending server has sent, and until when those wait that have sent too much.
struct Senders {
    limit: Limit<String>,
    waiting: Mutex<HashMap<String, Instant>>,
}

impl Senders {
    fn new(per_minute: u32) -> Self {
        Self { limit: Limit::new(SENDER_LIMIT, per_minute), waiting: Mutex::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sweep(&self) {
        let now = Instant::now();
        self.waiting().retain(|_, until| *until > now);
        self.limit.sweep();
    }
}

/// The limit by sending server, for one request.
pub struct OfRequest<'a> {
    limiters: &'a Limiters,
    address: Option<IpAddr>,
}

impl SenderLimit for OfRequest<'_> {
    fn check(&self, server: &Domain) -> Result<(), Duration> {
        let Some(kinds) = &self.limiters.kinds else { return Ok(()) };
        let until = kinds.senders.waiting().get(&server.folded()).copied();
        let left = until.and_then(|until| until.checked_duration_since(Instant::now()));
        left.map_or(Ok(()), Err)
    }

    fn count(&self, server: &Domain) -> Result<(), Duration> {
        let Some(kinds) = &self.limiters.kinds else { return Ok(()) };
        kinds.senders.limit.count(&server.folded()).map(drop).map_err(|(standing, _)| {
            let wait = Duration::from_secs(standing.wait_seconds);
            kinds.senders.waiting().insert(server.folded(), Instant::now() + wait);
            wait
        })
    }

    fn spoke(&self, server: &Domain) {
        if let Some((kinds, address)) = self.limiters.kinds.as_ref().zip(self.address) {
            kinds.peer_documents.addresses.note(address, server);
        }
    }
}

/// Keeps the standing with the request, for the headers of its answer, and a refusal for the log.
fn note(request: &HttpRequest, counted: Result<Standing, (Standing, Refused)>) -> Result<(), Problem> {
    let mut extensions = request.extensions_mut();
    match counted {
        Ok(standing) => {
            extensions.insert(standing);
            Ok(())
        }
        Err((standing, refused)) => {
            extensions.insert(standing);
            extensions.insert(refused);
            Err(Problem::too_many(standing.wait_seconds))
        }
    }
}

/// The address that a client is counted under: an IPv4 address itself, or the network of an IPv6
/// address.
pub(crate) fn one_client(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V6(address) => Ipv6Net::new_assert(address, prefix).network().into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Refuses a request whose address has asked too often, before anything is parsed; and tells in the answer
/// of every limited request where its client stands.
///
/// # Errors
/// Only what the handler fails with; a refusal is an answer.
pub async fn limit(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let counted = match request.app_data::<web::Data<App>>() {
        Some(app) => app.limiters.count_address(request.request()),
        None => Ok(()),
    };
    let mut answer = match counted {
        Ok(()) => next.call(request).await?.map_into_left_body(),
        Err(problem) => request.error_response(problem).map_into_right_body(),
    };
    if answer.status() == StatusCode::TOO_MANY_REQUESTS
        && let Some(app) = answer.request().app_data::<web::Data<App>>()
    {
        app.limiters.report(answer.request());
    }
    let standing = answer.request().extensions().get::<Standing>().copied();
    if let Some(standing) = standing {
        standing.write(answer.headers_mut());
    }
    Ok(answer)
}
