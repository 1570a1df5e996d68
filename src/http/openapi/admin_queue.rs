//! The document's part on `/admin/queue`.

use super::operation::Operation;
use super::shape::{Shape, handle, id, list as list_of, number, object, success, text, time, truth, word};

const TAG: &str = "Administration";
const READ: &str = "system:read";
const WRITE: &str = "system:write";

fn state() -> Shape {
    word(&["queued", "awaiting_signature", "delivering", "rejected"])
}

fn queue_row() -> Shape {
    object(vec![
        ("id", id()),
        ("userId", id()),
        ("peerHandle", handle("bob@peer.example")),
        ("messageType", text("RELATIONSHIP_REVOKE")),
        ("state", state()),
        ("attempts", number(3).from(0)),
        ("lastError", text("not reachable").or_null()),
        ("createdAt", time()),
        ("lastAttemptAt", time().or_null()),
        ("nextAttemptAt", time().or_null()),
        ("expiresAt", time().or_null()),
    ])
    .named("QueueRow")
}

fn peer() -> Shape {
    object(vec![("peer", text("peer.example").matching("^[A-Za-z0-9][A-Za-z0-9.-]*[A-Za-z0-9]$").optional())])
}

fn one(operation: Operation, permission: &'static str) -> Operation {
    operation.permitted(permission).path("id", "the row", id()).refused(404, &["not_queued"])
}

pub fn list() -> Operation {
    let depth = object(vec![("state", state()), ("rows", number(7).from(0)), ("oldest", time())]);
    Operation::new(
        TAG,
        "listQueue",
        "What is on its way to other nodes",
        "Oldest first, with the depth of each state.",
    )
    .permitted(READ)
    .paged()
    .query("peer", "only for this node", text("peer.example"))
    .query("state", "only in this state", state())
    .answer(
        200,
        "A page.",
        object(vec![
            ("data", list_of(queue_row())),
            ("total", number(7).from(0)),
            ("depths", list_of(depth)),
            ("paused", truth(false)),
            ("page", number(1).from(1)),
            ("limit", number(25).from(1).to(100)),
        ]),
    )
}

pub fn show() -> Operation {
    one(Operation::new(TAG, "showQueueRow", "One row of the queue", "Without its envelope."), READ).answer(
        200,
        "The row.",
        queue_row(),
    )
}

pub fn retry() -> Operation {
    one(
        Operation::new(
            TAG,
            "retryQueueRow",
            "Try a row at once",
            "And its peer, whatever it has done lately.",
        ),
        WRITE,
    )
    .answer(200, "It is due.", success().and(vec![("rows", number(1).from(0))]))
}

pub fn retry_all() -> Operation {
    Operation::new(TAG, "retryQueue", "Try queued rows at once", "All, or those for one node.")
        .permitted(WRITE)
        .optional_body(peer())
        .answer(200, "They are due.", success().and(vec![("rows", number(7).from(0))]))
}

pub fn pause() -> Operation {
    Operation::new(
        TAG,
        "pauseQueue",
        "Let deliveries wait",
        "All, or those to one node. Windows close as always.",
    )
    .permitted(WRITE)
    .optional_body(peer())
    .answer(200, "They wait.", success())
    .refused(404, &["unknown_peer"])
}

pub fn resume() -> Operation {
    Operation::new(TAG, "resumeQueue", "Let deliveries go on", "All, or those to one node.")
        .permitted(WRITE)
        .optional_body(peer())
        .answer(200, "They go on.", success())
        .refused(404, &["unknown_peer"])
}

pub fn drop_row() -> Operation {
    one(
        Operation::new(
            TAG,
            "dropQueueRow",
            "Remove a row for good",
            "Its owner is not told. Once this is answered, no attempt starts.",
        ),
        WRITE,
    )
    .answer(200, "It is gone.", success())
}
