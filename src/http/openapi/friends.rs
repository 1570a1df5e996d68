//! The document's part on `/friends`.

use super::operation::Operation;
use super::shape::{
    Shape, encryption_key, handle, id, list, null, object, signing_key, success, text, time, truth, word,
};
use super::signed::{REFUSALS, perhaps_signed};
use super::well_known::user_document;

const TAG: &str = "Friends";
const READ: &str = "social:read";
const WRITE: &str = "social:write";

fn invitation() -> Shape {
    object(vec![
        ("id", id()),
        ("localUserId", id()),
        ("fromHandle", handle("alice@node.example")),
        ("toHandle", handle("bob@peer.example")),
        ("direction", word(&["outgoing", "incoming"])),
        ("status", word(&["pending", "accepted"])),
        ("originServer", text("node.example")),
        ("signature", text("pH0y…").or_null()),
        ("createdAt", time()),
        ("expiresAt", time().or_null().described("null once it was accepted")),
        (
            "delivery",
            word(&["delivered", "queued", "failed"])
                .described("of one of yours; failed: invite them again, or withdraw it"),
        ),
        (
            "deliveryError",
            text("refused (400): Too many invitations")
                .here_null()
                .described("why it has not been delivered, if it was tried"),
        ),
    ])
    .named("Invitation")
}

fn of_invitation(operation: Operation) -> Operation {
    operation.permitted(WRITE).path("id", "the invitation", id()).refused(400, &["invitation_not_found"])
}

pub fn list_friends() -> Operation {
    let friend = object(vec![
        ("id", id()),
        ("userId", id()),
        ("friendHandle", handle("bob@peer.example")),
        ("friendSigningKey", signing_key()),
        ("friendEncryptionKey", encryption_key().or_null()),
        ("friendName", text("Bob").or_null()),
        ("friendPicture", text("https://peer.example/bob.png").here_null()),
        ("status", word(&["accepted"])),
        (
            "keysChangedAt",
            time()
                .here_null()
                .described("when a changed key was seen: compare safety numbers again, then confirm the key"),
        ),
        ("establishedAt", time()),
        ("revokedAt", null()),
        ("createdAt", time()),
    ]);
    Operation::new(TAG, "listFriends", "Your friends", "On this node and on others.")
        .permitted(READ)
        .answer_list("The friends.", "friends", friend.named("Friend"))
}

pub fn invitations() -> Operation {
    Operation::new(
        TAG,
        "listInvitations",
        "Pending invitations",
        "Those that you have made and those made to you.",
    )
    .permitted(READ)
    .query("direction", "only these", word(&["incoming", "outgoing"]))
    .answer_list("The invitations.", "invitations", invitation())
}

pub fn invite() -> Operation {
    Operation::new(
        TAG,
        "invite",
        "Invite somebody",
        "For somebody on another node, with the parts of the envelope that your client has signed. Invitations that cross become a friendship.",
    )
    .permitted(WRITE)
    .body(object(vec![("handle", text("bob@peer.example").up_to(4096))]).and(perhaps_signed()))
    .answer(200, "The invitation.", object(vec![("invitation", invitation())]))
    .refused(400, &["invalid_handle", "self", "already_friends", "already_invited", "user_not_found"])
    .refused(400, &["too_many_invitations"])
    .refused(400, &REFUSALS)
    .refused(403, &["peer_not_admitted"])
    .limited()
    .refused(502, &["peer_unreachable"])
}

pub fn accept() -> Operation {
    of_invitation(Operation::new(
        TAG,
        "acceptInvitation",
        "Accept an invitation",
        "The friendship stands at once; the inviter's node is told.",
    ))
    .optional_body(object(perhaps_signed()))
    .answer(200, "You are friends.", success())
    .refused(400, &REFUSALS)
    .refused(400, &["user_not_found"])
    .refused(403, &["peer_not_admitted"])
    .refused(502, &["peer_unreachable"])
}

pub fn reject() -> Operation {
    of_invitation(Operation::new(
        TAG,
        "rejectInvitation",
        "Reject an invitation",
        "The inviter's node is told, if your client has signed that.",
    ))
    .optional_body(object(perhaps_signed()))
    .answer(
        200,
        "It is rejected.",
        success().and(vec![(
            "delivery",
            word(&["unsigned"]).described("the inviter's node is not told").at_times(),
        )]),
    )
    .refused(400, &REFUSALS)
}

pub fn cancel() -> Operation {
    of_invitation(Operation::new(TAG, "cancelInvitation", "Withdraw an invitation", "One of your own."))
        .answer(200, "It is withdrawn.", success())
}

pub fn remove() -> Operation {
    let query = |operation: Operation, name, description| operation.query(name, description, text(""));
    let operation = Operation::new(
        TAG,
        "removeFriend",
        "End a friendship",
        "At once on your side. Towards another node it goes through the same queue as a flush; without a signature a revocation waits for one. The signed parts may be in the body or in the query.",
    )
    .permitted(WRITE)
    .path("handle", "the friend", text("bob@peer.example").at_least(1));
    let operation = query(operation, "signature", "see the body");
    let operation = query(operation, "revoke_signature", "the same as `signature`");
    let operation = query(operation, "nonce", "see the body");
    query(operation, "timestamp", "see the body")
        .optional_body(object(perhaps_signed()))
        .answer(
            200,
            "It has ended.",
            success().and(vec![("delivery", word(&["delivered", "queued", "local", "unsigned"]))]),
        )
        .refused(400, &["friendship_not_found"])
        .refused(400, &REFUSALS)
}

pub fn resolve() -> Operation {
    Operation::new(TAG, "resolve", "Look somebody up", "Their user document, from their own node.")
        .permitted(READ)
        .path("handle", "whom", text("bob@peer.example").at_least(1))
        .answer(200, "The user document.", user_document())
        .refused(400, &["invalid_handle"])
        .refused(404, &["not_found"])
        .refused(403, &["peer_not_admitted"])
        .limited()
        .refused(502, &["peer_unreachable"])
}

pub fn sync_keys() -> Operation {
    let result = object(vec![
        ("handle", handle("bob@peer.example")),
        ("updated", truth(false)),
        (
            "error",
            text("later").at_times().described("why not; `later`: their node is asked in the background"),
        ),
        ("confirmed", truth(true).at_times().described("you have confirmed the key")),
    ]);
    Operation::new(
        TAG,
        "syncKeys",
        "Compare friends' keys with today's",
        "A changed key is stored and marked (`keysChangedAt`), so that you can compare safety numbers again. With `handle` and `signingKey` nothing is looked up: you confirm that this key is the friend's, and what it has signed is no longer marked.",
    )
    .permitted(WRITE)
    .optional_body(object(vec![
        ("handle", text("bob@peer.example").up_to(4096).optional()),
        ("signingKey", signing_key().optional().described("the key that you have compared")),
    ]))
    .refused(400, &["invalid_handle", "invalid_key"])
    .refused(404, &["friend_not_found"])
    .refused(409, &["key_changed"])
    .answer(200, "What was found.", object(vec![("results", list(result))]))
    .limited()
}
