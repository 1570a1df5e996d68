//! The proxies in front of the node: whether each is trusted to say who its clients are.

use std::net::IpAddr;

use vellum_actors::Clock;
use vellum_store::{Store, StoreError, node_facts};

use super::Finding;
use crate::config::Settings;

/// How long a peer that was noted counts, in milliseconds. A running node notes one every day.
const COUNTS: i64 = 7 * 24 * 3_600_000;

pub async fn check(store: &Store, settings: &Settings, clock: &Clock) -> Finding {
    match examine(store, settings, clock).await {
        Ok(finding) => finding,
        Err(error) => Finding::broken("proxies", error.to_string(), "see the database"),
    }
}

async fn examine(store: &Store, settings: &Settings, clock: &Clock) -> Result<Finding, StoreError> {
    let noted = node_facts::untrusted_proxy(&mut *store.read().await?).await?;
    let trusted = &settings.http.trusted_proxies;
    let is_trusted = |address: &str| {
        let address: Option<IpAddr> = address.parse().ok();
        address.is_some_and(|address| trusted.iter().any(|network| network.contains(&address)))
    };
    let untrusted = noted.filter(|(address, at)| clock.now().since(*at) < COUNTS && !is_trusted(address));
    Ok(match untrusted {
        None => Finding::well("proxies", "nobody forwards requests who is not trusted to"),
        Some((address, at)) => Finding::doubtful(
            "proxies",
            format!(
                "{address} sent forwarding headers at {}, which were ignored: it is not in http.trusted_proxies",
                at.to_rfc3339()
            ),
            "if it is your proxy, add it to http.trusted_proxies, or all of its clients share one rate limit; \
             if it is not, there is nothing to do",
        ),
    })
}
