//! `/openapi.json`, and `/docs`: the same for people.
//!
//! The page is Swagger UI, out of the binary, with a small script of ours that starts it and shows the
//! code samples. It needs nothing from another host, and its answers' policy would not let it.

use std::sync::{Arc, LazyLock};

use actix_web::HttpResponse;
use actix_web::http::header::{self, ContentEncoding};
use actix_web::web::{self, Bytes};
use utoipa_swagger_ui::Config;

use super::endpoint::Endpoint;
use super::error::Problem;
use super::openapi::documentation as docs;

/// The page's own files.
const PAGE: &str = include_str!("documentation/index.html");
const SCRIPT: &str = include_str!("documentation/docs.js");
const STYLE: &str = include_str!("documentation/docs.css");
/// What the page takes of Swagger UI.
const SWAGGER_FILES: [&str; 2] = ["swagger-ui.css", "swagger-ui-bundle.js"];
/// Files change with the binary only.
const MAX_AGE: &str = "public, max-age=3600";
/// What the page may load: its own files, styles that Swagger UI sets on elements, and pictures inside them.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; font-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| super::openapi_document().unwrap_or_default().into());

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::at("/openapi.json").get(docs::document(), document),
        Endpoint::at("/docs").get(docs::page(), page),
        Endpoint::at("/docs/{file}").get(docs::asset(), asset),
    ]
}

async fn document() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "public, max-age=60"))
        .content_type("application/json")
        .body(DOCUMENT.clone())
}

async fn page() -> HttpResponse {
    file("text/html; charset=utf-8", PAGE)
}

async fn asset(name: web::Path<String>) -> Result<HttpResponse, Problem> {
    match name.as_str() {
        "docs.js" => return Ok(file("text/javascript; charset=utf-8", SCRIPT)),
        "docs.css" => return Ok(file("text/css; charset=utf-8", STYLE)),
        name if SWAGGER_FILES.contains(&name) => {}
        _ => return Err(Problem::not_found("There is no such file.")),
    }
    let found = utoipa_swagger_ui::serve(&name, Arc::new(Config::default())).ok().flatten();
    let found = found.ok_or_else(|| Problem::not_found("There is no such file."))?;
    let mut answer = HttpResponse::Ok();
    if found.gzpipped {
        answer.insert_header(ContentEncoding::Gzip);
    }
    answer.insert_header((header::CACHE_CONTROL, MAX_AGE)).content_type(found.content_type);
    Ok(answer.body(found.bytes.into_owned()))
}

fn file(content_type: &'static str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, MAX_AGE))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .content_type(content_type)
        .body(text)
}
