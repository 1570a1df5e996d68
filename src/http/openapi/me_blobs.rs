//! The document's part on `/me/blobs`.

use super::operation::Operation;
use super::shape::{Shape, km_version, object, success, text, time};

const TAG: &str = "Blobs";

/// The type of a blob.
pub fn blob_type() -> Shape {
    text("search-history").matching("^[a-zA-Z0-9._:-]{1,64}$")
}

fn one(operation: Operation, permission: &'static str) -> Operation {
    operation
        .permitted(permission)
        .path("type", "which blob", blob_type())
        .refused(400, &["invalid_blob_type"])
}

fn conditional(operation: Operation) -> Operation {
    operation
        .header(
            "If-Match",
            "only if the blob has one of these ETags, weak or not; `*`: only if there is one",
            text("\"7\""),
        )
        .header("If-None-Match", "only if it has none of these ETags; `*`: only if there is none", text("*"))
        .refused(400, &["invalid_precondition"])
        .refused(412, &["blob_changed"])
}

pub fn list_blobs() -> Operation {
    let info = object(vec![
        ("blobType", text("search-history")),
        ("kmVersion", km_version()),
        ("updatedAt", time()),
    ]);
    Operation::new(
        TAG,
        "listBlobs",
        "Your blobs",
        "Which there are, and the version of the keys that each was sealed under.",
    )
    .permitted("library:read")
    .answer_list("The blobs.", "blobs", info.named("BlobInfo"))
}

pub fn read() -> Operation {
    one(
        Operation::new(TAG, "readBlob", "Read a blob", "Ciphertext, as a client has written it."),
        "library:read",
    )
    .answer(
        200,
        "The blob.",
        object(vec![
            ("encryptedBlob", text("AgEv…")),
            ("nonce", text("")),
            ("kmVersion", km_version()),
            ("updatedAt", time()),
        ])
        .named("Blob"),
    )
    .answer_header("ETag", "the blob's revision")
    .empty_answer(204, "There is none of this type.")
}

pub fn write() -> Operation {
    conditional(one(
        Operation::new(
            TAG,
            "writeBlob",
            "Write a blob",
            "Anew or again. With `If-Match`, two devices do not overwrite each other unknowingly.",
        ),
        "library:write",
    ))
    .body(object(vec![
        ("encryptedBlob", text("AgEv…")),
        ("nonce", text("").up_to(100).optional()),
        ("kmVersion", km_version().optional()),
    ]))
    .answer(200, "It is stored.", success())
    .answer_header("ETag", "the blob's new revision")
    .refused(400, &["invalid_km_version"])
    .refused(409, &["server_rolled_back", "stale_km_version"])
    .refused(413, &["quota_exceeded"])
}

pub fn delete() -> Operation {
    conditional(one(
        Operation::new(TAG, "deleteBlob", "Delete a blob", "It may be gone already."),
        "library:write",
    ))
    .answer(200, "It is gone.", success())
    .refused(409, &["stale_km_version"])
}
