//! The document's part on the empty answers for existing clients.

use super::operation::Operation;
use super::shape::{list as list_of, null, object, truth};

const TAG: &str = "Existing clients";
const WHY: &str = "Existing clients ask for this when they start. There is nothing of the kind on this node, and with `http.legacy_client_stubs = false` not this path either.";

pub fn list(id: &'static str) -> Operation {
    Operation::new(TAG, id, "Always empty", WHY).answer(200, "Nothing.", list_of(null()).of_at_most(0))
}

pub fn payments() -> Operation {
    Operation::new(TAG, "subscriptionConfig", "Nothing is billed", WHY).answer(
        200,
        "No.",
        object(vec![("enabled", truth(false)), ("billingEnabled", truth(false))]),
    )
}
