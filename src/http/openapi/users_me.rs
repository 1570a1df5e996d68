//! The document's part on `/users/me/…`.

use super::operation::Operation;
use super::shape::{
    Shape, encryption_key, handle, km_version, number, object, signing_key, success, text, time, word,
};

const TAG: &str = "Identity";

/// An operation that shows the version of the keys, and takes what the client knows of it.
pub fn with_known_version(operation: Operation) -> Operation {
    operation
        .header(
            "X-Known-Km-Version",
            "the latest version of the keys that the client knows: a node that was put back from an older backup refuses instead of showing an older one",
            text("3"),
        )
        .refused(409, &["server_rolled_back"])
}

pub fn identity() -> Operation {
    let operation = Operation::new(TAG, "identity", "Who you are to the network", "What is not set is null.");
    with_known_version(operation.signed_in()).answer(
        200,
        "Your identity.",
        object(vec![
            ("alias", text("alice").or_null()),
            ("handle", handle("alice@node.example").or_null()),
            ("signingKey", signing_key().or_null()),
            ("encryptionKey", encryption_key().or_null()),
            ("domain", text("node.example")),
            ("kmVersion", km_version()),
        ])
        .named("Identity"),
    )
}

pub fn reset() -> Operation {
    Operation::new(
        TAG,
        "resetIdentity",
        "Erase everything that the old seed has sealed",
        "For somebody who has lost their seed. One transaction: blobs, collections, slots, wrap secrets, shares, friendships and invitations go, the keys are cleared, and for everybody who has to be told a revocation waits for its signature. Alias, sessions, passkeys, roles and preferences stay.",
    )
    .signed_in()
    .body(object(vec![("confirm", word(&["erase-all-my-data"]))]))
    .answer(
        200,
        "It is done.",
        success().and(vec![("pendingRevocations", number(3).from(0).described("how many have to be told"))]),
    )
}

pub fn set_alias() -> Operation {
    Operation::new(
        TAG,
        "setAlias",
        "Choose an alias",
        "Compared without case. It can be changed as long as nobody knows you by it.",
    )
    .signed_in()
    .body(object(vec![("alias", text("alice").matching("^[A-Za-z0-9_]{3,30}$"))]))
    .answer(
        200,
        "It is yours.",
        object(vec![("alias", text("alice")), ("handle", handle("alice@node.example"))]),
    )
    .refused(400, &["invalid_alias"])
    .refused(409, &["alias_taken", "alias_in_use"])
}

pub fn register_keys() -> Operation {
    Operation::new(
        TAG,
        "registerKeys",
        "Register your public keys",
        "The same pair again changes nothing. Once anything is sealed under the present keys, `expectedKmVersion` is needed, and the change raises the version: a stale device must not overwrite newer keys.",
    )
    .signed_in()
    .body(keys().and(vec![("expectedKmVersion", km_version().optional())]))
    .answer(200, "They are registered.", success().and(vec![("kmVersion", km_version())]))
    .refused(400, &["invalid_key"])
    .refused(409, &["rotation_required", "rotation_conflict", "server_rolled_back"])
}

/// The two keys of a body.
pub fn keys() -> Shape {
    object(vec![("signingKey", signing_key()), ("encryptionKey", encryption_key())])
}

pub fn change_profile() -> Operation {
    let name = |example| text(example).up_to(200);
    let picture = text("https://people.example/alice.png").up_to(2000).optional();
    Operation::new(
        TAG,
        "changeProfile",
        "Change your name and picture",
        "Left out: unchanged. Null: cleared. A picture is an https URL, or the path of your own avatar (`/users/{id}/avatar`).",
    )
    .signed_in()
    .body(object(vec![
        ("firstName", name("Alice").optional()),
        ("lastName", name("Example").optional()),
        ("picture", picture),
    ]))
    .answer(
        200,
        "Your names.",
        success().and(vec![("firstName", text("Alice").or_null()), ("lastName", text("Example").or_null())]),
    )
}

pub fn complete_onboarding() -> Operation {
    Operation::new(
        TAG,
        "completeOnboarding",
        "Note that you are through a client's first steps",
        "The first time stays, however often this is asked for. Clients show their first steps until it is set.",
    )
    .signed_in()
    .answer(200, "When that was first noted.", object(vec![("onboardingCompletedAt", time())]))
}
