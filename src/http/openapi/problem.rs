//! The one shape of every refusal (RFC 9457), as the document shows it.

use actix_web::http::StatusCode;
use serde_json::{Value, json};

use super::shape::{Shape, list, number, object, text};

/// Every refusal's shape.
pub fn shape() -> Shape {
    let field = object(vec![
        ("field", text("email").described("the field, with indices: `items[3].nonce`")),
        ("message", text("is required")),
    ]);
    object(vec![
        ("type", text("about:blank")),
        ("title", text("Conflict")),
        ("status", number(409)),
        ("detail", text("this alias is taken").described("a sentence for people")),
        ("message", text("this alias is taken").described("the same as `detail`")),
        ("error", text("this alias is taken").described("the same again, for clients of collections")),
        ("code", text("alias_taken").described("a stable word for programs")),
        ("errors", list(field).described("with `validation_failed`: every wrong field").at_times()),
    ])
    .named("Problem")
}

/// What a status is called.
pub fn title(status: u16) -> &'static str {
    let named = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    // The HTTP types of this version have no name for 425.
    named.unwrap_or("Too Early")
}

/// A problem with this status and code.
pub fn example(status: u16, code: &str) -> Value {
    let detail = format!("Why it is refused: {}.", code.replace('_', " "));
    let mut problem = json!({
        "type": "about:blank", "title": title(status), "status": status,
        "detail": detail, "message": detail, "error": detail, "code": code,
    });
    if code == "validation_failed" {
        problem["errors"] = json!([{ "field": "email", "message": "is required" }]);
    }
    problem
}
