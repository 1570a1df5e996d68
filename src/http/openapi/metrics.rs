//! The document's part on `/metrics`.

use super::operation::Operation;
use super::shape::text;

pub fn scrape() -> Operation {
    Operation::new(
        "Health",
        "metrics",
        "What the node counts and times",
        "The text form of Prometheus. For the networks of the settings without a session; for others with one that has the permission `system:read`.",
    )
    .perhaps_signed_in()
    .answer_in(200, "The metrics.", "text/plain", text("vellum_queue_rows{state=\"queued\"} 0"))
    .refused(401, &["unauthorized"])
    .refused(403, &["forbidden"])
}
