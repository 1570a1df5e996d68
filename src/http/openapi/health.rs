//! The document's part on `/health`.

use super::operation::Operation;
use super::shape::{Shape, object, word};

const TAG: &str = "Health";

fn ok() -> Shape {
    object(vec![("status", word(&["ok"]))])
}

pub fn live() -> Operation {
    Operation::new(TAG, "live", "Is the process up", "Asks nothing else.").answer(200, "It is.", ok())
}

pub fn ready() -> Operation {
    Operation::new(TAG, "ready", "Can it work", "Asks the database, and says how the last change to it ended; where that was more than 30 s ago, it makes a small one.").answer(200, "It can.", ok())
}
