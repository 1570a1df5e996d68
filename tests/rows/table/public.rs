//! What anybody may call.

use futures_util::FutureExt;
use reqwest::Method;

use crate::rows::row::{Given, Row, row};

pub fn rows() -> Vec<Row> {
    let manifest = [
        "server_id",
        "public_key",
        "protocol_versions",
        "minimum_protocol_version",
        "capabilities",
        "key_transparency_anchor",
        "revocation_window_seconds",
    ];
    vec![
        // Clients poll it: nobody is signed in, and that is no error.
        row(Method::GET, "/auth/sessions/current").number(1).anyone().answers(204, &[]),
        row(Method::GET, "/health/live").anyone().answers(200, &["status"]),
        row(Method::GET, "/health/ready").anyone().answers(200, &["status"]),
        row(Method::GET, "/.well-known/parchment-server").anyone().answers(200, &manifest),
        row(Method::GET, "/.well-known/user/{alias}")
            .anyone()
            .given(|stage| async move { Given::default().path("alias", stage.me.handle().alias()) }.boxed())
            .refuses_path("alias", "nobody_here", 404, "not_found")
            .refuses_path("alias", "no%20alias", 404, "not_found")
            .refuses_path("alias", "%FF", 404, "not_found")
            .answers(200, &["handle", "signingKey", "encryptionKey", "inbox", "name"]),
    ]
}
