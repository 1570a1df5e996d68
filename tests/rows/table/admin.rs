//! `/admin`: the queue and the peers.

use futures_util::FutureExt;
use reqwest::Method;
use serde_json::json;

use crate::rows::row::{Given, Row, row, text};

const READ: &str = "system:read";
const WRITE: &str = "system:write";
const QUEUE_ROW: [&str; 11] = [
    "id",
    "userId",
    "peerHandle",
    "messageType",
    "state",
    "attempts",
    "lastError",
    "createdAt",
    "lastAttemptAt",
    "nextAttemptAt",
    "expiresAt",
];
const PEER: [&str; 12] = [
    "domain",
    "publicKey",
    "offeredKey",
    "standing",
    "paused",
    "breaker",
    "failures",
    "lastError",
    "lastFailureAt",
    "lastDeliveryAt",
    "nextProbeAt",
    "revocationWindowSeconds",
];
const KEY: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

pub fn rows() -> Vec<Row> {
    [of_queue(), of_peers()].into_iter().flatten().collect()
}

fn of_queue() -> Vec<Row> {
    let waiting = |method, path| {
        row(method, path)
            .may(WRITE)
            .given(|stage| async move { Given::default().path("id", stage.queued_row().await) }.boxed())
            .refuses_path("id", "unknown", 404, "not_queued")
    };
    let steering = |path| {
        row(Method::POST, path).may(WRITE).optional_body(&[text("peer").optional()]).refuses_field(
            "peer",
            json!("no domain"),
            422,
            "validation_failed",
        )
    };
    vec![
        row(Method::GET, "/admin/queue")
            .may(READ)
            .refuses_query("state=lost")
            .refuses_query("page=0")
            .answers(200, &["data", "total", "depths", "paused", "page", "limit"]),
        waiting(Method::GET, "/admin/queue/{id}").may(READ).answers(200, &QUEUE_ROW),
        waiting(Method::DELETE, "/admin/queue/{id}").answers(200, &["success"]),
        row(Method::POST, "/admin/queue/{id}/retry")
            .may(WRITE)
            .given(|stage| async move { Given::default().path("id", stage.queued_row().await) }.boxed())
            .refuses_path("id", "unknown", 404, "not_queued")
            .answers(200, &["success", "rows"]),
        steering("/admin/queue/retry").answers(200, &["success", "rows"]),
        steering("/admin/queue/pause")
            .refuses_field("peer", json!("stranger.example"), 404, "unknown_peer")
            .answers(200, &["success"]),
        steering("/admin/queue/resume")
            .refuses_field("peer", json!("stranger.example"), 404, "unknown_peer")
            .answers(200, &["success"]),
    ]
}

fn of_peers() -> Vec<Row> {
    let of_peer = |method, path| {
        row(method, path)
            .may(WRITE)
            .given(|_| async { Given::default().path("domain", "other.example") }.boxed())
            .refuses_path("domain", "no domain", 404, "not_found")
    };
    vec![
        row(Method::GET, "/admin/peers")
            .may(READ)
            .refuses_query("limit=0")
            .answers(200, &["data", "total", "page", "limit"]),
        row(Method::GET, "/admin/peers/{domain}")
            .may(READ)
            .given(|stage| async move { Given::default().path("domain", stage.known_peer().await) }.boxed())
            .refuses_path("domain", "no domain", 404, "not_found")
            .refuses_path("domain", "stranger.example", 404, "unknown_peer")
            .answers(200, &PEER),
        row(Method::POST, "/admin/peers/{domain}/repin")
            .may(WRITE)
            .given(|stage| {
                async move {
                    let domain = stage.known_peer().await;
                    stage.scene.database.offer_key(&domain, KEY).await;
                    Given::default().path("domain", domain).body(json!({ "key": KEY }))
                }
                .boxed()
            })
            .body(&[text("key")])
            .refuses_path("domain", "stranger.example", 409, "key_not_offered")
            .refuses_field("key", json!("no key"), 400, "invalid_key")
            .answers(200, &["success"]),
        of_peer(Method::POST, "/admin/peers/{domain}/block").answers(200, &["success", "standing"]),
        of_peer(Method::POST, "/admin/peers/{domain}/allow").answers(200, &["success", "standing"]),
    ]
}
