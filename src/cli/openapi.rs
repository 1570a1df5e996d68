//! `vellum openapi`: the document of the HTTP API, for tools that do not ask a running node.

use crate::http;

/// Prints the document.
pub fn run() -> anyhow::Result<()> {
    super::print(http::openapi_document()?.trim_end());
    Ok(())
}
