//! The document's part on `/users/me/wrapped-keys`.

use super::operation::Operation;
use super::shape::{Shape, km_version, object, success, text, time};

const TAG: &str = "Passkey slots";

fn short(example: &str) -> Shape {
    text(example).at_least(1).up_to(1500)
}

/// What a client puts into a slot.
pub fn slot_members() -> Vec<(&'static str, Shape)> {
    vec![
        ("credentialId", short("kDq3Zk1x")),
        ("wrappedKm", text("AgEv…").up_to(4096)),
        ("slotSignature", short("pH0y…")),
        ("wrapAlgo", short("aes-256-gcm-prf-v1").optional()),
    ]
}

fn credential_id(operation: Operation) -> Operation {
    operation.signed_in().path("credentialId", "the passkey", text("kDq3Zk1x").at_least(1))
}

pub fn list_slots() -> Operation {
    let slot = object(vec![
        ("credentialId", text("kDq3Zk1x")),
        ("wrappedKm", text("AgEv…")),
        ("wrapAlgo", text("aes-256-gcm-prf-v1")),
        ("slotSignature", text("pH0y…")),
        ("kmVersion", km_version()),
        ("createdAt", time()),
        ("lastUsedAt", time().or_null()),
    ]);
    Operation::new(
        TAG,
        "listSlots",
        "Your slots",
        "The seed, sealed for each of your passkeys. Oldest first.",
    )
    .signed_in()
    .answer_list("The slots.", "slots", slot.named("Slot"))
}

pub fn put() -> Operation {
    Operation::new(
        TAG,
        "fillSlot",
        "Fill the slot of a passkey",
        "Anew or again; the credential must be a passkey of yours.",
    )
    .signed_in()
    .body(object(slot_members()))
    .answer(201, "It is filled.", success())
    .refused(400, &["unknown_credential"])
    .refused(409, &["stale_km_version"])
    .refused(413, &["quota_exceeded"])
}

pub fn delete() -> Operation {
    credential_id(Operation::new(TAG, "emptySlot", "Empty a slot", "It may be empty already."))
        .answer(200, "It is empty.", success())
        .refused(409, &["stale_km_version"])
}

pub fn used() -> Operation {
    credential_id(Operation::new(
        TAG,
        "slotUsed",
        "Say that a slot was opened",
        "Sets `lastUsedAt`, if there is such a slot.",
    ))
    .answer(200, "It is noted.", success())
}
