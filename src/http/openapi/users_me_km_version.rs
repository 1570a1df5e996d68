//! The document's part on `/users/me/km-version`.

use super::me_blobs::blob_type;
use super::operation::Operation;
use super::shape::{Shape, km_version, list, object, text, truth};
use super::users_me::{keys, with_known_version};
use super::users_me_wrapped_keys::slot_members;

const TAG: &str = "Key rotation";

pub fn km_version_operation() -> Operation {
    let about = "1 at first; raised by every rotation.";
    let operation = Operation::new(TAG, "kmVersion", "The version of your keys", about);
    with_known_version(operation.signed_in()).answer(
        200,
        "The version.",
        object(vec![("kmVersion", km_version())]),
    )
}

pub fn commit() -> Operation {
    let up_to = |shape: Shape| list(shape).of_at_most(10_000);
    let blob = object(vec![("blobType", blob_type()), ("encryptedBlob", text("AgEv…"))]);
    let collection = object(vec![
        ("id", text("c3k9w0a7x2m5q8r1t4v6y0zb").up_to(4096)),
        ("metadataEncrypted", text("AgEv…")),
    ]);
    let ignored = object(vec![
        ("collections", list(text("c3k9w0a7x2m5q8r1t4v6y0zb")).at_times()),
        ("slots", list(text("kDq3Zk1x")).at_times()),
    ]);
    Operation::new(
        TAG,
        "commitRotation",
        "Rotate the keys",
        "New keys, and whatever was sealed under the old ones, sealed again: one transaction. Of any number of commits with one `expectedCurrent`, exactly one succeeds. What is left out keeps its old `kmVersion`; `requireComplete` refuses that, `dropSlots` empties the slots of lost devices.",
    )
    .signed_in()
    .body(
        keys().and(vec![
            ("expectedCurrent", km_version()),
            ("blobs", up_to(blob).optional()),
            ("collections", up_to(collection).optional()),
            ("slots", up_to(object(slot_members())).optional()),
            ("dropSlots", up_to(text("a_lost_one")).optional()),
            ("requireComplete", truth(false).optional()),
        ]),
    )
    .answer(
        200,
        "The new version, and what was not yours (any more).",
        object(vec![("kmVersion", km_version()), ("ignored", ignored.at_times())]),
    )
    .refused(400, &["invalid_key"])
    .refused(409, &["rotation_conflict", "incomplete_rotation", "server_rolled_back"])
    .refused(413, &["quota_exceeded"])
    .limited()
}
