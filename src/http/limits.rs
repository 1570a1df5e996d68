//! Rate limits by client address, in front of what costs the node something before it knows who asks.

use std::net::IpAddr;
use std::num::NonZeroU32;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use actix_web::{HttpRequest, web};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ipnet::IpNet;
use vellum_protocol::server_request::INBOX_PATH;

use super::App;
use super::error::Problem;
use crate::config::Limits;

type ByAddress = DefaultKeyedRateLimiter<IpAddr>;

/// Who has asked how often lately. `None`: limits are switched off.
pub struct Limiters(Option<Kinds>);

struct Kinds {
    sign_in: ByAddress,
    inbox: ByAddress,
    documents: ByAddress,
}

impl Limiters {
    /// Empty records, with the limits of the settings.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let by_address = |per_minute: u32| {
            // The settings refuse 0; 1 is the least that a limit can be.
            RateLimiter::keyed(Quota::per_minute(NonZeroU32::new(per_minute).unwrap_or(NonZeroU32::MIN)))
        };
        Self(limits.enabled.then(|| Kinds {
            sign_in: by_address(limits.sign_in_per_minute),
            inbox: by_address(limits.inbox_per_minute),
            documents: by_address(limits.documents_per_minute),
        }))
    }

    /// Forgets addresses that have been quiet.
    pub fn sweep(&self) {
        if let Some(kinds) = &self.0 {
            for limiter in [&kinds.sign_in, &kinds.inbox, &kinds.documents] {
                limiter.retain_recent();
                limiter.shrink_to_fit();
            }
        }
    }
}

/// The client's address. What `X-Forwarded-For` says counts only when the connection comes from a
/// configured proxy, and then its last entry that is not such a proxy: the others anybody can write.
#[must_use]
pub fn client_address(request: &HttpRequest, trusted: &[IpNet]) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip().to_canonical();
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(&peer) {
        return Some(peer);
    }
    let forwarded = request.headers().get_all("x-forwarded-for").filter_map(|value| value.to_str().ok());
    let mut hops: Vec<IpAddr> =
        forwarded.flat_map(|line| line.split(',')).map_while(|hop| hop.trim().parse().ok()).collect();
    hops.reverse();
    Some(hops.into_iter().find(|hop| !is_trusted(hop)).unwrap_or(peer))
}

/// Refuses a request whose address has asked too often. It runs before anything is parsed.
///
/// # Errors
/// 429 with `Retry-After`.
pub async fn limit(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    check(&request)?;
    next.call(request).await
}

fn check(request: &ServiceRequest) -> Result<(), Problem> {
    let Some(app) = request.app_data::<web::Data<App>>() else {
        return Ok(());
    };
    let Some(kinds) = &app.limiters.0 else {
        return Ok(());
    };
    let Some(limiter) = kinds.of(request.method(), request.path()) else {
        return Ok(());
    };
    let Some(address) = client_address(request.request(), &app.trusted_proxies) else {
        return Ok(());
    };
    limiter.check_key(&address).map_err(|until| {
        let wait = until.wait_time_from(DefaultClock::default().now());
        Problem::too_many(wait.as_secs() + 1)
    })
}

impl Kinds {
    /// Which limit a request falls under.
    fn of(&self, method: &Method, path: &str) -> Option<&ByAddress> {
        match path {
            INBOX_PATH => Some(&self.inbox),
            "/auth/verify" | "/auth/sessions" if method == Method::POST => Some(&self.sign_in),
            _ if path.starts_with("/.well-known/") => Some(&self.documents),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn address(peer: &str, forwarded: &str, trusted: &[&str]) -> String {
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let request = TestRequest::default()
            .peer_addr(format!("{peer}:1").parse().unwrap())
            .insert_header(("x-forwarded-for", forwarded))
            .to_http_request();
        client_address(&request, &trusted).unwrap().to_string()
    }

    #[test]
    fn a_forwarded_address_counts_only_from_a_trusted_proxy() {
        assert_eq!(address("9.9.9.9", "1.2.3.4", &[]), "9.9.9.9");
        assert_eq!(address("10.0.0.1", "1.2.3.4", &["10.0.0.0/8"]), "1.2.3.4");
        assert_eq!(
            address("10.0.0.1", "6.6.6.6, 1.2.3.4", &["10.0.0.0/8"]),
            "1.2.3.4",
            "the first is the client's word"
        );
        assert_eq!(address("10.0.0.1", "1.2.3.4, 10.0.0.2", &["10.0.0.0/8"]), "1.2.3.4");
        assert_eq!(address("10.0.0.1", "nonsense", &["10.0.0.0/8"]), "10.0.0.1");
    }
}
