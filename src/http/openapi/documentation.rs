//! The document's part on itself.

use serde_json::json;

use super::operation::Operation;
use super::shape::{foreign_object, text};

const TAG: &str = "Documentation";

pub fn document() -> Operation {
    let example = json!({ "openapi": "3.1.0", "info": { "title": "Vellum" }, "paths": {} });
    Operation::new(TAG, "openapi", "This document", "OpenAPI 3.1.").answer(
        200,
        "The document.",
        foreign_object(example),
    )
}

pub fn page() -> Operation {
    Operation::new(TAG, "docs", "This document, for people", "A page that needs nothing from another host.")
        .answer_in(200, "The page.", "text/html", text("<!doctype html>"))
}

pub fn asset() -> Operation {
    Operation::new(TAG, "docsAsset", "A part of the page", "Scripts and styles.")
        .path("file", "its name", text("docs.js").at_least(1))
        .answer_in(200, "The part.", "*/*", text("…"))
        .refused(404, &["not_found"])
}
