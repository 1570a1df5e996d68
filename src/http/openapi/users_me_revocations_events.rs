//! The document's part on `/users/me/revocations/events`.

use super::operation::Operation;
use super::shape::text;

pub fn events() -> Operation {
    Operation::new(
        "Revocations",
        "revocationEvents",
        "Follow your pending revocations",
        "Server-sent events: `pending` first, with all of them as the list shows them; then `changed` with one that has changed, and `gone` with the id and peer of one that was delivered or dropped. At most five streams a user; each ends with its session.",
    )
    .signed_in()
    .answer_in(200, "The events.", "text/event-stream", text("event: pending\ndata: {\"revocations\":[]}\n\n"))
    .refused(409, &["too_many_streams"])
}
