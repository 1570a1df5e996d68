//! `/me/blobs`: personal blobs.
//!
//! A blob's revision is its `ETag`. A client that sends `If-Match` or `If-None-Match` is refused
//! with 412 when the blob is not what it believes; one that sends neither writes as it always did.
//! Proxies that pack answers make tags weak (`W/"7"`); such a tag still names the revision, so it
//! counts as the tag itself.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, ETag, EntityTag, Header, IfMatch, IfNoneMatch};
use actix_web::web;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::FutureExt;
use serde_json::{Value, json};
use vellum_actors::user::{DeleteBlob, Expectation, PutBlob};
use vellum_store::blobs::{self, BlobInfo};

use super::body::Body;
use super::caller::Caller;
use super::endpoint::Endpoint;
use super::error::Problem;
use super::fields::Fields;
use super::openapi::me_blobs as docs;
use super::paging::Slice;
use super::{App, shown};

const READ: &str = "library:read";
const WRITE: &str = "library:write";
/// The longest nonce beside a blob.
const LONGEST_NONCE: usize = 100;

/// Paths of this file.
pub fn endpoints(longest_upload: usize) -> Vec<Endpoint> {
    vec![
        Endpoint::at("/me/blobs").get(docs::list_blobs(), list),
        Endpoint::at("/me/blobs/{type}")
            .get(docs::read(), read)
            .put(docs::write(), write)
            .delete(docs::delete(), delete)
            .longest_body(longest_upload),
    ]
}

/// Whether a text is a type of blob (wire protocol, section 7).
pub(super) fn is_blob_type(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-'))
}

fn parse_type(text: String) -> Result<String, Problem> {
    if is_blob_type(&text) {
        return Ok(text);
    }
    let detail = "A blob's type has 1 to 64 characters out of A-Z, a-z, 0-9, . _ : and -.";
    Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_blob_type", detail))
}

async fn list(app: web::Data<App>, caller: Caller, slice: Slice) -> Result<HttpResponse, Problem> {
    caller.require(READ)?;
    let mut conn = app.node.store.read().await?;
    let found = blobs::list(&mut conn, caller.user()).await?;
    Ok(slice.answer("blobs", &found, info_view))
}

/// 204 when there is none.
async fn read(
    app: web::Data<App>,
    caller: Caller,
    blob_type: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.require(READ)?;
    let blob_type = parse_type(blob_type.into_inner())?;
    let user = caller.user().clone();
    let read = app
        .node
        .store
        .read_blocking(move |conn| async move { blobs::find(conn, &user, &blob_type).await }.boxed());
    let found = read.await?;
    let Some(blob) = found else { return Ok(HttpResponse::NoContent().finish()) };
    let mut answer = HttpResponse::Ok();
    answer.insert_header((header::CACHE_CONTROL, "no-store")).insert_header(tag(blob.info.revision));
    Ok(answer.json(json!({
        "encryptedBlob": blob.encrypted_blob,
        "nonce": blob.nonce,
        "kmVersion": blob.info.km_version,
        "updatedAt": shown(blob.info.updated_at),
    })))
}

async fn write(
    app: web::Data<App>,
    caller: Caller,
    blob_type: web::Path<String>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    let blob_type = parse_type(blob_type.into_inner())?;
    let mut fields = Fields::of_body(&body)?;
    let encrypted_blob = fields.ciphertext("encryptedBlob");
    let nonce = fields.optional_base64("nonce").unwrap_or_default();
    if nonce.len() > LONGEST_NONCE {
        fields.wrong("nonce", format!("must have at most {LONGEST_NONCE} characters"));
    }
    let sealed_under = fields.optional_km_version("kmVersion");
    fields.finish()?;
    let expected = expectation(&request)?;
    let put = PutBlob { blob_type, encrypted_blob, nonce, sealed_under, expected };
    let revision = app.node.ask(&caller, put).await?;
    let mut answer = super::private(&json!({ "success": true }));
    if let Ok(value) = EntityTag::new_strong(revision.to_string()).to_string().parse() {
        answer.headers_mut().insert(header::ETAG, value);
    }
    Ok(answer)
}

async fn delete(
    app: web::Data<App>,
    caller: Caller,
    blob_type: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    let blob_type = parse_type(blob_type.into_inner())?;
    let expected = expectation(&request)?;
    app.node.ask(&caller, DeleteBlob { blob_type, expected }).await?;
    Ok(super::private(&json!({ "success": true })))
}

fn tag(revision: i64) -> ETag {
    ETag(EntityTag::new_strong(revision.to_string()))
}

/// What the client says it believes to be stored (RFC 9110, section 13.1).
fn expectation(request: &HttpRequest) -> Result<Expectation, Problem> {
    let headers = request.headers();
    match (headers.contains_key(header::IF_MATCH), headers.contains_key(header::IF_NONE_MATCH)) {
        (false, false) => Ok(Expectation::Anything),
        (true, false) => match IfMatch::parse(request).map_err(|_| bad_precondition())? {
            IfMatch::Any => Ok(Expectation::Present),
            IfMatch::Items(tags) => Ok(match revisions(&tags)?.as_slice() {
                [revision] => Expectation::Revision(*revision),
                revisions => Expectation::OneOf(revisions.to_vec()),
            }),
        },
        (false, true) => match IfNoneMatch::parse(request).map_err(|_| bad_precondition())? {
            IfNoneMatch::Any => Ok(Expectation::Absent),
            IfNoneMatch::Items(tags) => Ok(Expectation::NoneOf(revisions(&tags)?)),
        },
        (true, true) => Err(bad_precondition()),
    }
}

/// The revisions that a list of tags names. A tag that is not of a blob names none, and so is never
/// what is stored.
fn revisions(tags: &[EntityTag]) -> Result<Vec<i64>, Problem> {
    if tags.is_empty() {
        return Err(bad_precondition());
    }
    Ok(tags.iter().filter_map(|tag| tag.tag().parse().ok()).collect())
}

fn bad_precondition() -> Problem {
    let detail = "Send either If-Match or If-None-Match, with ETags such as \"7\" between commas, or with *.";
    Problem::new(StatusCode::BAD_REQUEST, "invalid_precondition", detail)
}

fn info_view(info: &BlobInfo) -> Value {
    json!({ "blobType": info.blob_type, "kmVersion": info.km_version, "updatedAt": shown(info.updated_at) })
}
