//! The document's part on `/users/me/revocations`.

use super::operation::Operation;
use super::shape::{Shape, handle, id, list, number, object, success, text, time, truth, word};
use super::signed::signed;

const TAG: &str = "Revocations";

fn state() -> Shape {
    word(&["queued", "awaiting_signature", "delivering", "rejected"])
}

pub fn pending() -> Operation {
    let row = object(vec![
        ("id", id()),
        ("peerHandle", handle("bob@peer.example")),
        ("createdAt", time()),
        ("state", state()),
        ("attempts", number(2).from(0)),
        ("lastError", text("not reachable").or_null()),
        ("lastAttemptAt", time().or_null()),
        ("nextAttemptAt", time().or_null()),
        ("expiresAt", time().or_null()),
    ]);
    Operation::new(
        TAG,
        "pendingRevocations",
        "Whom you have yet to tell",
        "Relationships that have ended, and whose other side has not confirmed it. Oldest first.",
    )
    .signed_in()
    .answer_list("The revocations.", "revocations", row.named("PendingRevocation"))
}

pub fn flush() -> Operation {
    let item = object(vec![("peerHandle", text("bob@peer.example").up_to(4096))]).and(signed());
    let result = object(vec![
        ("peerHandle", text("bob@peer.example")),
        ("delivered", truth(true)),
        ("error", text("not reachable").here_null()),
        ("code", text("not_pending").here_null()),
        ("state", state().here_null()),
        ("attempts", number(1).from(0).or_null()),
        ("nextAttemptAt", time().here_null()),
    ]);
    Operation::new(
        TAG,
        "flushRevocations",
        "Send signed revocations",
        "Each item is a `RELATIONSHIP_REVOKE` that your client has signed. Those whose signature verifies are stored before the first attempt; the call waits a while for outcomes and answers for every item, in order: delivered, or queued with a reason, or refused with a `code`.",
    )
    .signed_in()
    .body(object(vec![("items", list(item).of_at_most(1000))]))
    .answer(200, "What became of each.", object(vec![("results", list(result.named("FlushResult")))]))
    .refused(400, &["identity_incomplete"])
    .limited()
}

pub fn discard() -> Operation {
    Operation::new(
        TAG,
        "discardRevocation",
        "Drop a revocation",
        "In any state. Once this is answered, no attempt starts any more.",
    )
    .signed_in()
    .path("peerHandle", "whom it is for", text("bob@peer.example").at_least(1))
    .answer(200, "It is gone.", success())
    .refused(404, &["not_pending"])
}
