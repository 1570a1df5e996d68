//! The document's part on `/sharing`.

use super::operation::Operation;
use super::shape::{Shape, handle, id, null, object, success, text, time, truth, word};
use super::signed::REFUSALS;

const TAG: &str = "Sharing";
const READ: &str = "sharing:read";
const WRITE: &str = "sharing:write";

fn members() -> Vec<(&'static str, Shape)> {
    vec![
        ("id", id()),
        ("userId", id()),
        ("resourceType", text("collection")),
        ("resourceId", text("c3k9w0a7x2m5q8r1t4v6y0zb")),
        ("encryptedData", text("AgEv…").or_null()),
        ("nonce", text("bm9uY2U=").or_null()),
        ("role", role()),
        ("status", word(&["accepted", "pending"])),
        ("createdAt", time()),
        ("acceptedAt", time().or_null()),
        ("expiresAt", null()),
    ]
}

fn outgoing_members() -> Shape {
    let more = vec![("recipientHandle", handle("bob@peer.example")), ("recipientUserId", id().here_null())];
    object(members()).and(more)
}

fn outgoing_share() -> Shape {
    outgoing_members().named("OutgoingShare")
}

fn incoming_share() -> Shape {
    let key_changed = truth(false)
        .described("it was signed with a key of the sender that you have not confirmed since it changed");
    let more = vec![("senderHandle", handle("bob@peer.example")), ("keyChanged", key_changed)];
    object(members()).and(more).named("IncomingShare")
}

fn role() -> Shape {
    word(&["viewer", "editor"])
}

fn target() -> Shape {
    object(vec![
        ("recipientHandle", text("bob@peer.example").up_to(4096)),
        ("resourceType", word(&["collection", "route", "map", "layer"])),
        ("resourceId", text("c3k9w0a7x2m5q8r1t4v6y0zb").at_least(1).up_to(200)),
    ])
}

fn payload() -> Vec<(&'static str, Shape)> {
    vec![
        ("encryptedData", text("AgEv…").up_to(48 * 1024).optional()),
        ("nonce", text("bm9uY2U=").up_to(4096).optional()),
    ]
}

/// A share's new payload, which has to be there.
fn new_payload() -> Vec<(&'static str, Shape)> {
    vec![("encryptedData", text("AgEv…").up_to(48 * 1024)), ("nonce", text("bm9uY2U=").up_to(4096))]
}

fn federation() -> Vec<(&'static str, Shape)> {
    vec![
        (
            "federationSignature",
            text("pH0y…")
                .up_to(4096)
                .optional()
                .described("of the `RESOURCE_SHARE`, for a recipient on another node"),
        ),
        ("federationNonce", text("Y2hvc2VuIGJ5IHlvdQ==").up_to(4096).optional()),
        ("federationTimestamp", text("2026-11-23T10:00:00.000Z").up_to(4096).optional()),
    ]
}

/// A share after a change.
fn changed_share() -> Shape {
    let delivery = word(&["unsigned"])
        .described("only where the friend is on another node and is not told, for want of a signature")
        .at_times();
    outgoing_members().and(vec![("delivery", delivery)]).named("ChangedShare")
}

fn sharing(operation: Operation, share: Shape) -> Operation {
    operation
        .permitted(WRITE)
        .answer(200, "The share.", share)
        .refused(409, &["stale_km_version"])
        .refused(413, &["quota_exceeded"])
        .refused(
            400,
            &[
                "invalid_handle",
                "self",
                "not_a_friend",
                "payload_required",
                "share_refused",
                "user_not_found",
            ],
        )
        .refused(400, &REFUSALS)
}

fn of_share(operation: Operation) -> Operation {
    operation.permitted(WRITE).path("id", "the share", id()).refused(404, &["share_not_found"])
}

pub fn share() -> Operation {
    sharing(Operation::new(
        TAG,
        "share",
        "Share something with a friend",
        "Sealed for the friend by your client. On one node it is accepted at once; for another node the signed envelope is sent on as it is. Sharing again replaces the share.",
    ), outgoing_share())
    .body(target().and(payload()).and(vec![("role", role().optional())]).and(federation()))
}

pub fn replace() -> Operation {
    sharing(Operation::new(
        TAG,
        "replaceShare",
        "Replace what is shared",
        "The sealed payload of a share that stands. Without a signed envelope a friend on another node is not told: your side changes, and the answer says so.",
    ), changed_share())
    .body(target().and(new_payload()).and(federation()))
    .refused(404, &["share_not_found"])
}

pub fn change_role() -> Operation {
    sharing(Operation::new(
        TAG,
        "changeShareRole",
        "Change a share's role",
        "With a signed envelope a friend on another node is told. Without one your side alone changes, and the answer says so.",
    ), changed_share())
    .path("id", "the share", id())
    .body(object(vec![("role", role())]).and(federation()))
    .refused(404, &["share_not_found"])
}

pub fn end() -> Operation {
    of_share(Operation::new(TAG, "endShare", "Stop sharing", "The recipient's row on this node goes too."))
        .answer(200, "It has ended.", success())
}

pub fn outgoing() -> Operation {
    Operation::new(TAG, "outgoingShares", "What you share", "With whom, and as what.")
        .permitted(READ)
        .answer_list("The shares.", "shares", outgoing_share())
}

pub fn outgoing_of_resource() -> Operation {
    Operation::new(
        TAG,
        "outgoingSharesOfResource",
        "With whom you share one thing",
        "An empty list when with nobody.",
    )
    .permitted(READ)
    .path("type", "what kind of thing", text("collection").at_least(1))
    .path("id", "which one", text("c3k9w0a7x2m5q8r1t4v6y0zb").at_least(1))
    .answer_list("The shares.", "shares", outgoing_share())
}

pub fn incoming() -> Operation {
    Operation::new(TAG, "incomingShares", "What is shared with you", "Accepted or not.")
        .permitted(READ)
        .answer_list("The shares.", "shares", incoming_share())
}

pub fn incoming_pending() -> Operation {
    Operation::new(
        TAG,
        "pendingShares",
        "What you have not accepted yet",
        "Shares from other nodes wait for your word.",
    )
    .permitted(READ)
    .answer_list("The shares.", "shares", incoming_share())
}

pub fn accept() -> Operation {
    of_share(Operation::new(TAG, "acceptShare", "Accept a share", "One that is shared with you.")).answer(
        200,
        "The share.",
        incoming_share(),
    )
}

pub fn drop_incoming() -> Operation {
    of_share(Operation::new(
        TAG,
        "dropShare",
        "Drop a share",
        "One that is shared with you. Its owner is not told.",
    ))
    .answer(200, "It is gone.", success())
}
