//! Peers: whom the node cannot reach and why, whose key has changed, and whether their clocks agree with ours.

use vellum_actors::Clock;
use vellum_actors::peer::Transport;
use vellum_protocol::Domain;
use vellum_store::Store;
use vellum_store::peers::{self, Peer};

use super::Finding;
use crate::config::Settings;
use crate::outbound::HttpTransport;

/// Peers that are looked at, and those of them whose clock is asked for.
const MOST: u32 = 10_000;
const CLOCKS: usize = 5;
/// A difference that makes messages stale soon: they are fresh for 300 s.
const SKEW_MILLIS: i64 = 60_000;

pub async fn check(store: &Store, settings: &Settings, clock: &Clock) -> Vec<Finding> {
    let found = match store.read().await {
        Ok(mut conn) => peers::list(&mut conn, MOST, 0).await,
        Err(error) => Err(error),
    };
    match found {
        Ok(found) => {
            let mut findings = standing(&found);
            findings.extend(clocks(settings, clock, &found).await);
            findings
        }
        Err(error) => vec![Finding::broken("peers", error.to_string(), "see the database")],
    }
}

fn standing(found: &[Peer]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for peer in found.iter().filter(|peer| peer.offered_key.is_some()) {
        let says =
            format!("{} shows another key than the pinned one; nothing is exchanged with it", peer.domain);
        let advice =
            format!("ask its operator by another way; then vellum peer repin {} --key …", peer.domain);
        findings.push(Finding::broken("peers", says, advice));
    }
    let failing: Vec<&Peer> = found.iter().filter(|peer| peer.failures > 0).collect();
    let reasons: Vec<String> = failing
        .iter()
        .take(10)
        .map(|peer| format!("{} ({})", peer.domain, peer.last_error.as_deref().unwrap_or("no reason")))
        .collect();
    findings.push(if failing.is_empty() {
        Finding::well("peers", format!("{} are known, none is failing", found.len()))
    } else {
        let says = format!("{} of {} cannot be reached: {}", failing.len(), found.len(), reasons.join(", "));
        Finding::doubtful(
            "peers",
            says,
            "vellum peer list; if it is most of them, look at this node's way out",
        )
    });
    findings
}

async fn clocks(settings: &Settings, clock: &Clock, found: &[Peer]) -> Option<Finding> {
    let transport = HttpTransport::new(settings.federation.allow_private_peers).ok()?;
    let mut asked = 0;
    let mut off = Vec::new();
    for peer in found.iter().filter(|peer| peer.failures == 0 && peer.public_key.is_some()).take(CLOCKS) {
        let Ok(domain) = Domain::parse(&peer.domain) else { continue };
        let Ok(answer) = transport.get(&domain, "/.well-known/parchment-server").await else { continue };
        let Some(date) = answer.date else { continue };
        asked += 1;
        let ahead = date.since(clock.now());
        if ahead.abs() >= SKEW_MILLIS {
            off.push(format!("{domain} by {} s", ahead / 1000));
        }
    }
    if asked == 0 {
        return None;
    }
    Some(if off.len() * 2 > asked {
        let says = format!("most peers' clocks differ from this one: {}", off.join(", "));
        Finding::broken("clock", says, "this machine's clock is wrong: set it by NTP")
    } else if off.is_empty() {
        Finding::well("clock", format!("{asked} peers agree with it"))
    } else {
        let says = format!("differs from {}", off.join(", "));
        Finding::doubtful("clock", says, "their clock is wrong, or yours: messages are fresh for 300 s")
    })
}
