//! The document's part on `/library/collections`.

use super::super::library_collections::LONGEST_METADATA;
use super::operation::Operation;
use super::shape::{Shape, handle, id, km_version, list, null, number, object, text, time, truth, word};

const TAG: &str = "Collections";
const WRITE: &str = "library:write";

fn members() -> Vec<(&'static str, Shape)> {
    vec![
        ("id", collection_id()),
        ("userId", id()),
        ("isPublic", truth(false)),
        ("isSensitive", truth(false)),
        ("scheme", word(&["user-e2ee", "server-key"])),
        ("resharingPolicy", word(&["owner-only", "editors-can-share"])),
        ("publicToken", text("").here_null()),
        ("publicRole", text("").here_null()),
        ("metadataEncrypted", text("AgEv…").or_null()),
        ("metadataKeyVersion", number(1).from(1)),
        ("kmVersion", km_version()),
        ("createdAt", time()),
        ("updatedAt", time()),
    ]
}

fn collection() -> Shape {
    object(members()).named("Collection")
}

fn collection_id() -> Shape {
    text("c3k9w0a7x2m5q8r1t4v6y0zb")
}

fn one(operation: Operation) -> Operation {
    operation
        .permitted(WRITE)
        .path("id", "the collection", collection_id())
        .refused(404, &["collection_not_found"])
}

fn change() -> Vec<(&'static str, Shape)> {
    vec![
        ("metadataKeyVersion", number(1).from(1).to(i64::MAX).optional()),
        ("isPublic", truth(false).optional()),
    ]
}

pub fn list_collections() -> Operation {
    Operation::new(
        TAG,
        "listCollections",
        "Your collections",
        "Every account has one from the start, with null metadata.",
    )
    .permitted(WRITE)
    .answer_bare_list("The collections.", collection())
}

/// A collection of somebody else's, with what the caller needs to open it.
fn shared() -> Vec<(&'static str, Shape)> {
    let envelope =
        object(vec![("encryptedData", text("AgEv…").or_null()), ("nonce", text("bm9uY2U=").or_null())]);
    vec![
        ("shareEnvelope", envelope.described("what the owner has sealed for you")),
        ("senderHandle", handle("bob@node.example")),
        (
            "keyChanged",
            truth(false).described("the owner's key has changed, and you have not confirmed the new one"),
        ),
    ]
}

pub fn shared_with_me() -> Operation {
    let row = object(members()).and(vec![("role", word(&["viewer", "editor"]))]).and(shared());
    Operation::new(
        TAG,
        "sharedCollections",
        "Collections that are shared with you",
        "Those of people on this node, in the order in which they were shared. `metadataEncrypted`, which opens for the owner alone, is null here. What friends on other nodes share is in `/sharing/incoming`.",
    )
    .permitted(WRITE)
    .answer_bare_list("The collections.", row.named("SharedCollection"))
}

pub fn create() -> Operation {
    Operation::new(
        TAG,
        "createCollection",
        "Make a collection",
        "The metadata may be the empty text: a client seals it with the id, which it knows only then.",
    )
    .permitted(WRITE)
    .body(object(vec![("metadataEncrypted", text("").up_to(LONGEST_METADATA))]).and(change()))
    .answer(200, "The collection.", collection())
    .refused(409, &["stale_km_version"])
    .refused(413, &["quota_exceeded"])
}

pub fn read() -> Operation {
    let role = word(&["owner", "viewer", "editor"]);
    let row = object(members()).and(vec![("role", role), ("bookmarks", list(null()).of_at_most(0))]);
    let of_others = shared().into_iter().map(|(name, member)| (name, member.at_times())).collect();
    one(Operation::new(
        TAG,
        "readCollection",
        "Read a collection",
        "With your role in it: one of your own, or one that its owner on this node has shared with you, which comes with `shareEnvelope`, `senderHandle` and `keyChanged`.",
    ))
    .answer(200, "The collection.", row.and(of_others).named("ReadableCollection"))
}

pub fn update() -> Operation {
    one(Operation::new(TAG, "updateCollection", "Change a collection", "What is left out stays."))
        .body(
            object(vec![("metadataEncrypted", text("AgEv…").up_to(LONGEST_METADATA).optional())])
                .and(change()),
        )
        .answer(200, "The collection.", collection())
        .refused(409, &["stale_km_version"])
        .refused(413, &["quota_exceeded"])
}

pub fn delete() -> Operation {
    one(Operation::new(TAG, "deleteCollection", "Delete a collection", "Shares of it end."))
        .empty_answer(204, "It is gone.")
        .refused(409, &["stale_km_version"])
}
