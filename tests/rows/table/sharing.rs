//! `/sharing`: what is shared with friends, and by them.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reqwest::Method;
use serde_json::json;

use crate::rows::row::{Field, Given, Row, row, short, text};
use crate::rows::scene::Stage;

const READ: &str = "sharing:read";
const WRITE: &str = "sharing:write";
const OUTGOING: [&str; 13] = [
    "id",
    "userId",
    "resourceType",
    "resourceId",
    "encryptedData",
    "nonce",
    "role",
    "status",
    "createdAt",
    "acceptedAt",
    "expiresAt",
    "recipientHandle",
    "recipientUserId",
];
const INCOMING: [&str; 13] = [
    "id",
    "userId",
    "resourceType",
    "resourceId",
    "encryptedData",
    "nonce",
    "role",
    "status",
    "createdAt",
    "acceptedAt",
    "expiresAt",
    "senderHandle",
    "keyChanged",
];
const TARGET: [Field; 3] = [text("recipientHandle"), text("resourceType"), short("resourceId", 200)];
const FEDERATION: [Field; 3] = [
    text("federationSignature").optional(),
    text("federationNonce").optional(),
    text("federationTimestamp").optional(),
];
/// Sealed for the friend; with its envelope it has to fit into a peer's inbox.
const PAYLOAD: [Field; 2] = [short("encryptedData", 48 * 1024), text("nonce")];

pub fn rows() -> Vec<Row> {
    [of_sharer(), of_one_share(), of_recipient()].into_iter().flatten().collect()
}

fn of_sharer() -> Vec<Row> {
    let payload = PAYLOAD.map(Field::optional);
    vec![
        refuses_targets(row(Method::POST, "/sharing"))
            .may(WRITE)
            .given(|stage| {
                async move {
                    let to = stage.friend().await.handle();
                    let body =
                        json!({ "recipientHandle": to, "resourceType": "collection", "resourceId": "c1" });
                    Given::default().body(body)
                }
                .boxed()
            })
            .body(&[&TARGET[..], &payload[..], &[text("role").optional()], &FEDERATION[..]].concat())
            .refuses_field("role", json!("owner"), 422, "validation_failed")
            .answers(200, &OUTGOING),
        refuses_targets(row(Method::PUT, "/sharing/envelope"))
            .may(WRITE)
            .given(|stage| {
                async move {
                    let friend = stage.friend().await;
                    stage.share(&stage.me, &friend).await;
                    let to = friend.handle();
                    let body = json!({
                        "recipientHandle": to, "resourceType": "collection", "resourceId": "c1",
                        "encryptedData": "AgE=", "nonce": "bm9uY2U=",
                    });
                    Given::default().body(body)
                }
                .boxed()
            })
            .body(&[&TARGET[..], &PAYLOAD[..], &FEDERATION[..]].concat())
            .refuses_field("resourceId", json!("c2"), 404, "share_not_found")
            .answers(200, &OUTGOING),
        row(Method::GET, "/sharing/outgoing")
            .may(READ)
            .given(shared)
            .answers(200, &["shares", "total"])
            .shows("/shares/0", &OUTGOING),
        row(Method::GET, "/sharing/outgoing/{type}/{id}")
            .may(READ)
            .given(|stage| {
                async move {
                    shared(stage).await;
                    Given::default().path("type", "collection").path("id", "c1")
                }
                .boxed()
            })
            .answers(200, &["shares", "total"])
            .shows("/shares/0", &OUTGOING),
    ]
}

fn refuses_targets(row: Row) -> Row {
    row.refuses_field("recipientHandle", json!("no handle"), 400, "invalid_handle")
        .refuses_field("resourceType", json!("spaceship"), 422, "validation_failed")
        .refuses_field("resourceId", json!(""), 422, "validation_failed")
}

/// A share of mine, by its id.
fn shared(stage: &Stage) -> BoxFuture<'_, Given> {
    async move {
        let friend = stage.friend().await;
        Given::default().path("id", stage.share(&stage.me, &friend).await)
    }
    .boxed()
}

/// A share with me, by its id.
fn shared_with_me(stage: &Stage) -> BoxFuture<'_, Given> {
    async move { Given::default().path("id", stage.incoming_share().await) }.boxed()
}

fn of_one_share() -> Vec<Row> {
    let mine = |row: Row| row.may(WRITE).given(shared).refuses_path("id", "unknown", 404, "share_not_found");
    vec![
        row(Method::PATCH, "/sharing/{id}")
            .may(WRITE)
            .given(|stage| async move { shared(stage).await.body(json!({ "role": "editor" })) }.boxed())
            .body(&[&[text("role")], &FEDERATION[..]].concat())
            .refuses_path("id", "unknown", 404, "share_not_found")
            .refuses_field("role", json!("owner"), 422, "validation_failed")
            .answers(200, &OUTGOING),
        mine(row(Method::DELETE, "/sharing/{id}")).answers(200, &["success"]),
        mine(row(Method::POST, "/sharing/{id}/revoke")).answers(200, &["success"]),
    ]
}

fn of_recipient() -> Vec<Row> {
    let with_me =
        |row: Row| row.may(WRITE).given(shared_with_me).refuses_path("id", "unknown", 404, "share_not_found");
    vec![
        row(Method::GET, "/sharing/incoming")
            .may(READ)
            .given(shared_with_me)
            .answers(200, &["shares", "total"])
            .shows("/shares/0", &INCOMING),
        row(Method::GET, "/sharing/incoming/pending").may(READ).answers(200, &["shares", "total"]),
        // A share on one node is accepted from the start.
        with_me(row(Method::POST, "/sharing/incoming/{id}/accept")).answers(200, &INCOMING).changes(false),
        with_me(row(Method::POST, "/sharing/incoming/{id}/reject")).answers(200, &["success"]),
        with_me(row(Method::DELETE, "/sharing/incoming/{id}")).answers(200, &["success"]),
    ]
}
