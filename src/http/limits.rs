//! Rate limits: by client address in front of what costs the node something before it knows who asks,
//! by sending server on the inbox, and by user on what is dear. Every limited answer tells where its client stands (`RateLimit`,
//! `RateLimit-Policy`: the IETF draft's header fields).

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpRequest, web};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use vellum_actors::inbox::SenderLimit;
use vellum_protocol::Domain;
use vellum_protocol::server_request::INBOX_PATH;
use vellum_store::UserId;

use super::App;
use super::client_address::ClientAddress;
use super::error::Problem;
use crate::config::Limits;

/// The time that limits are stated for, in seconds.
const WINDOW: u32 = 60;

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

impl<K: Hash + Eq + Clone> Limit<K> {
    fn new(name: &'static str, per_minute: u32) -> Self {
        // The settings refuse 0; 1 is the least that a limit can be.
        let per_minute = NonZeroU32::new(per_minute).unwrap_or(NonZeroU32::MIN);
        let clients = RateLimiter::keyed(Quota::per_minute(per_minute)).with_middleware();
        Self { name, per_minute, clients }
    }

    /// Counts a request. The standing tells when the next one is taken if this one is not.
    fn count(&self, client: &K) -> Result<Standing, Standing> {
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
            Err(until) => Err(standing(0, until.wait_time_from(DefaultClock::default().now()).as_secs() + 1)),
        }
    }

    fn sweep(&self) {
        self.clients.retain_recent();
        self.clients.shrink_to_fit();
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

/// Who has asked how often lately. `None`: limits are switched off.
pub struct Limiters(Option<Kinds>);

struct Kinds {
    sign_in: Limit<IpAddr>,
    inbox: Limit<IpAddr>,
    senders: Senders,
    documents: Limit<IpAddr>,
    wrap_secrets: Limit<UserId>,
    wrap_secret_rotations: Limit<UserId>,
    commits: Limit<UserId>,
    flushes: Limit<UserId>,
}

impl Kinds {
    /// Which limit by address a request falls under.
    fn by_address(&self, method: &Method, path: &str) -> Option<&Limit<IpAddr>> {
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
            _ => None,
        }
    }
}

impl Limiters {
    /// Empty records, with the limits of the settings.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self(limits.enabled.then(|| Kinds {
            sign_in: Limit::new("sign-in", limits.sign_in_per_minute),
            inbox: Limit::new("inbox", limits.inbox_per_minute),
            senders: Senders::new(limits.inbox_per_server_per_minute),
            documents: Limit::new("documents", limits.documents_per_minute),
            wrap_secrets: Limit::new("wrap-secrets", limits.wrap_secrets_per_minute),
            wrap_secret_rotations: Limit::new(
                "wrap-secret-rotations",
                limits.wrap_secret_rotations_per_minute,
            ),
            commits: Limit::new("commits", limits.commits_per_minute),
            flushes: Limit::new("flushes", limits.flushes_per_minute),
        }))
    }

    /// Forgets clients that have been quiet.
    pub fn sweep(&self) {
        let Some(kinds) = &self.0 else { return };
        kinds.senders.sweep();
        for limit in [&kinds.sign_in, &kinds.inbox, &kinds.documents] {
            limit.sweep();
        }
        for limit in [&kinds.wrap_secrets, &kinds.wrap_secret_rotations, &kinds.commits, &kinds.flushes] {
            limit.sweep();
        }
    }

    /// Counts a request of a signed-in user, where it falls under a limit.
    ///
    /// # Errors
    /// 429 with `Retry-After`.
    pub fn count_user(&self, request: &HttpRequest, user: &UserId) -> Result<(), Problem> {
        let limit = self.0.as_ref().and_then(|kinds| kinds.by_user(request.match_pattern()?.as_str()));
        limit.map_or(Ok(()), |limit| note(request, limit.count(user)))
    }

    fn count_address(&self, request: &HttpRequest) -> Result<(), Problem> {
        // As the router reads it: percent signs do not make another path of it.
        let path = request.match_info().as_str();
        let limit = self.0.as_ref().and_then(|kinds| kinds.by_address(request.method(), path));
        let client = one_client(ClientAddress::of(request).counted());
        limit.map_or(Ok(()), |limit| note(request, limit.count(&client)))
    }
}

/// What each sending server has sent, and until when those wait that have sent too much.
struct Senders {
    limit: Limit<String>,
    waiting: Mutex<HashMap<String, Instant>>,
}

impl Senders {
    fn new(per_minute: u32) -> Self {
        Self { limit: Limit::new("inbox-server", per_minute), waiting: Mutex::default() }
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

impl SenderLimit for Limiters {
    fn check(&self, server: &Domain) -> Result<(), Duration> {
        let Some(kinds) = &self.0 else { return Ok(()) };
        let until = kinds.senders.waiting().get(&server.folded()).copied();
        let left = until.and_then(|until| until.checked_duration_since(Instant::now()));
        left.map_or(Ok(()), Err)
    }

    fn count(&self, server: &Domain) -> Result<(), Duration> {
        let Some(kinds) = &self.0 else { return Ok(()) };
        kinds.senders.limit.count(&server.folded()).map(drop).map_err(|standing| {
            let wait = Duration::from_secs(standing.wait_seconds);
            kinds.senders.waiting().insert(server.folded(), Instant::now() + wait);
            wait
        })
    }
}

/// Keeps the standing with the request, for the headers of its answer.
fn note(request: &HttpRequest, counted: Result<Standing, Standing>) -> Result<(), Problem> {
    let (Ok(standing) | Err(standing)) = counted;
    request.extensions_mut().insert(standing);
    counted.map(drop).map_err(|standing| Problem::too_many(standing.wait_seconds))
}

/// What is counted as one client: an IPv4 address, or the /64 network of an IPv6 address. Whoever has one
/// address of such a network has all of them.
pub(super) fn one_client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
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
    let standing = answer.request().extensions().get::<Standing>().copied();
    if let Some(standing) = standing {
        standing.write(answer.headers_mut());
    }
    Ok(answer)
}
