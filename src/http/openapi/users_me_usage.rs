//! The document's part on `/users/me/usage`.

use super::operation::Operation;
use super::shape::{Shape, number, object};

const TAG: &str = "Account";

fn quota(used: i64, limit: i64) -> Shape {
    object(vec![("used", number(used).from(0)), ("limit", number(limit).from(1))]).named("Quota")
}

pub fn usage() -> Operation {
    Operation::new(
        TAG,
        "usage",
        "What you store, and how much you may",
        "`bytes` is the length of all sealed data: blobs, metadata of collections, slots, and what you share. A write that would exceed one of the limits is answered 413 `quota_exceeded`, with `quota`, `used` and `limit`. A rotation that adds no item is not: its ciphertexts may be somewhat longer than before.",
    )
    .signed_in()
    .answer(
        200,
        "What is used of each quota.",
        object(vec![
            ("bytes", quota(18_230, 67_108_864)),
            ("blobs", quota(3, 200)),
            ("collections", quota(12, 1000)),
            ("slots", quota(1, 100)),
            ("shares", quota(4, 2000)),
        ])
        .named("Usage"),
    )
}
