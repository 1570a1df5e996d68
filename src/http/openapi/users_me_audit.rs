//! The document's part on `/users/me/audit`.

use super::operation::Operation;
use super::shape::{id, object, text, time};
use super::users::page_of;

pub fn list() -> Operation {
    let entry = object(vec![
        ("id", id()),
        ("at", time()),
        ("event", text("keys_registered").described("what was changed")),
        ("sessionId", id().or_null()),
        ("ip", text("192.0.2.7").or_null()),
    ]);
    Operation::new(
        "Identity",
        "auditTrail",
        "Who changed what of your identity",
        "Alias, keys, rotations, resets, slots, sessions ended, passkeys: when, from which session and address. Newest first; a reset keeps it.",
    )
    .signed_in()
    .paged()
    .answer(200, "A page.", page_of(entry.named("AuditEntry")))
}
