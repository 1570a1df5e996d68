//! The document's part on `/admin/peers`.

use super::operation::Operation;
use super::shape::{Shape, list as list_of, number, object, signing_key, success, text, time, truth, word};

const TAG: &str = "Administration";
const READ: &str = "system:read";
const WRITE: &str = "system:write";

fn standing() -> Shape {
    word(&["neutral", "blocked", "allowed"])
}

fn peer() -> Shape {
    object(vec![
        ("domain", text("peer.example")),
        ("publicKey", signing_key().or_null()),
        (
            "offeredKey",
            signing_key().here_null().described("another key that it shows now: nothing is exchanged"),
        ),
        ("standing", standing()),
        ("paused", truth(false)),
        ("breaker", word(&["closed", "half_open", "open"])),
        ("failures", number(0).from(0)),
        ("lastError", text("not reachable").here_null()),
        ("lastFailureAt", time().here_null()),
        (
            "lastDeliveryAt",
            time().or_null().described("RFC 3339, in UTC; of several within ten seconds, one"),
        ),
        ("nextProbeAt", time().here_null()),
        ("revocationWindowSeconds", number(604_800).or_null()),
    ])
    .named("PeerNode")
}

fn one(operation: Operation, permission: &'static str) -> Operation {
    operation
        .permitted(permission)
        .path("domain", "the node", text("peer.example").at_least(1))
        .refused(404, &["not_found"])
}

pub fn list() -> Operation {
    Operation::new(TAG, "listPeers", "The nodes that this one has met", "By domain.")
        .permitted(READ)
        .paged()
        .answer(
            200,
            "A page.",
            object(vec![
                ("data", list_of(peer())),
                ("total", number(7).from(0)),
                ("page", number(1).from(1)),
                ("limit", number(25).from(1).to(100)),
            ]),
        )
}

pub fn show() -> Operation {
    one(
        Operation::new(TAG, "showPeer", "One node", "Its pinned key, and how reaching it has gone lately."),
        READ,
    )
    .answer(200, "The node.", peer())
    .refused(404, &["unknown_peer"])
}

pub fn repin() -> Operation {
    one(
        Operation::new(
            TAG,
            "repinPeer",
            "Trust another key of a node",
            "The one that it shows instead of the pinned one. Compare it first with the node's operator, by another way.",
        ),
        WRITE,
    )
    .body(object(vec![("key", signing_key())]))
    .answer(200, "It is pinned.", success())
    .refused(400, &["invalid_key"])
    .refused(409, &["key_not_offered"])
}

fn decision(operation: Operation) -> Operation {
    one(operation, WRITE).answer(200, "It is so.", success().and(vec![("standing", standing())]))
}

pub fn block() -> Operation {
    decision(Operation::new(
        TAG,
        "blockPeer",
        "Exchange nothing with a node",
        "Met or not. Its requests are refused before anything is verified.",
    ))
}

pub fn allow() -> Operation {
    decision(Operation::new(
        TAG,
        "allowPeer",
        "Allow a node",
        "Takes it off the block list, and puts it on the allow list.",
    ))
}
