//! The gauges: what has no event of its own and is read for each scrape.

use std::time::Duration;

use futures_util::FutureExt;
use metrics::gauge;
use vellum_protocol::UnixMillis;
use vellum_store::outbox::{State, overview};
use vellum_store::{Conn, StoreError, node_state, peers, sessions, users};

use crate::measure::{number, seconds};
use crate::node::Node;

/// Reads what has no event of its own: first what is in memory, then what is in the database. That
/// keeps its last values where the database does not answer within `limit`. `vellum_database_up` is
/// 1 if it answers the first small question by then: counts of long tables may take longer.
pub async fn refresh(node: &Node, limit: Duration) {
    refresh_from_memory(node);
    let mut is_up = false;
    let refreshed = tokio::time::timeout(limit, refresh_from_database(node, &mut is_up)).await;
    match &refreshed {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "metrics not read from the database"),
        Err(_) => tracing::debug!("metrics not read from the database in time"),
    }
    gauge!("vellum_database_up").set(f64::from(u8::from(is_up)));
}

fn refresh_from_memory(node: &Node) {
    let (users, peers) = (node.directory.len(), node.peers.len());
    gauge!("vellum_actors", "kind" => "user").set(number(u64::try_from(users).unwrap_or(u64::MAX)));
    gauge!("vellum_actors", "kind" => "peer").set(number(u64::try_from(peers).unwrap_or(u64::MAX)));
    let waiting = u64::try_from(node.directory.waiting()).unwrap_or(u64::MAX);
    gauge!("vellum_user_commands_waiting").set(number(waiting));
    let waiting = u64::try_from(node.peers.deliveries_waiting()).unwrap_or(u64::MAX);
    gauge!("vellum_peer_deliveries_waiting").set(number(waiting));
    gauge!("vellum_database_connections").set(f64::from(node.store.connections()));
}

async fn refresh_from_database(node: &Node, is_up: &mut bool) -> Result<(), StoreError> {
    let now = node.clock.now();
    let paused = node_state::deliveries_paused(&mut *node.store.read().await?).await?;
    gauge!("vellum_queue_paused").set(f64::from(u8::from(paused)));
    *is_up = true;
    node.store.read_blocking(move |conn| count(conn, now).boxed()).await
}

async fn count(conn: &mut Conn, now: UnixMillis) -> Result<(), StoreError> {
    let depths = overview::depths(conn).await?;
    for state in [State::AwaitingSignature, State::Queued, State::Delivering, State::Rejected] {
        let depth = depths.iter().find(|depth| depth.state == state);
        let age = depth.map_or(0, |depth| now.since(depth.oldest));
        let rows = depth.map_or(0, |depth| depth.rows);
        gauge!("vellum_queue_rows", "state" => state.as_str()).set(number(rows));
        gauge!("vellum_queue_oldest_seconds", "state" => state.as_str()).set(seconds(age));
    }
    let census = peers::census(conn).await?;
    for (breaker, peers) in
        [("closed", census.closed), ("half_open", census.half_open), ("open", census.open)]
    {
        gauge!("vellum_peers", "breaker" => breaker).set(number(peers));
    }
    gauge!("vellum_peers_with_changed_key").set(number(census.changed_key));
    gauge!("vellum_users").set(number(users::count(conn).await?));
    gauge!("vellum_sessions").set(number(sessions::count(conn, now).await?));
    Ok(())
}
