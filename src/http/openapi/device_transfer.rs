//! The document's part on `/device-transfer`.

use super::operation::Operation;
use super::shape::{Shape, id, object, success, text, time};

const TAG: &str = "Device transfer";

fn short(example: &str) -> Shape {
    text(example).at_least(1).up_to(200)
}

fn transfer(operation: Operation) -> Operation {
    operation
        .signed_in()
        .path("id", "the transfer's `sessionId`", id())
        .refused(404, &["transfer_not_found"])
        .refused(403, &["forbidden"])
        .refused(410, &["transfer_over"])
}

pub fn begin() -> Operation {
    Operation::new(
        TAG,
        "beginTransfer",
        "Ask for the seed on a new device",
        "The new device shows its ephemeral key. The transfer lasts a minute; a user may begin three an hour.",
    )
    .signed_in()
    .body(object(vec![("receiverEphemeralPub", short("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="))]))
    .answer(200, "The transfer has begun.", object(vec![("sessionId", id()), ("expiresAt", time())]))
    .limited()
}

pub fn upload() -> Operation {
    transfer(Operation::new(
        TAG,
        "uploadTransfer",
        "Put the sealed seed in",
        "An old device puts the seed in, sealed for the new one. Once.",
    ))
    .body(object(vec![
        ("senderEphemeralPub", short("3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=")),
        ("sealedSeed", text("AgEv…").at_least(1).up_to(4096)),
        ("senderSignature", short("pH0y…")),
    ]))
    .answer(200, "It is in.", success())
    .refused(409, &["transfer_filled"])
}

pub fn fetch() -> Operation {
    transfer(Operation::new(
        TAG,
        "fetchTransfer",
        "Take the sealed seed out",
        "Once: what was taken out is gone. 425 until the old device has put it in.",
    ))
    .answer(
        200,
        "The sealed seed.",
        object(vec![
            ("sessionId", id()),
            ("receiverEphemeralPub", text("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=")),
            ("senderEphemeralPub", text("3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=")),
            ("sealedSeed", text("AgEv…")),
            ("senderSignature", text("pH0y…")),
        ]),
    )
    .refused(425, &["transfer_empty"])
}

pub fn cancel() -> Operation {
    Operation::new(TAG, "cancelTransfer", "Give a transfer up", "It may be over already, or never have been.")
        .signed_in()
        .path("id", "the transfer's `sessionId`", id())
        .answer(200, "It is over.", success())
}
