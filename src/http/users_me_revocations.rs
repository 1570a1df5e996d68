//! `/users/me/revocations/…`: what the caller has yet to tell others, and telling them.

use actix_web::HttpResponse;
use actix_web::web;
use serde_json::{Value, json};
use vellum_actors::Error;
use vellum_actors::revocations::{self, Flushed};
use vellum_actors::user::{DiscardRevocation, FlushItem};
use vellum_protocol::Handle;
use vellum_store::outbox::{self, PendingRevocation};

use super::body::Body;
use super::caller::Caller;
use super::endpoint::Endpoint;
use super::error::Problem;
use super::fields::Fields;
use super::openapi::users_me_revocations as docs;
use super::paging::Slice;
use super::{App, shown, signed_fields};

/// Items that one flush may have.
const MOST_ITEMS: usize = 1000;
/// The longest body of a flush: its thousand items, with room.
const LONGEST_FLUSH: usize = 1024 * 1024;

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::at("/users/me/revocations/pending").get(docs::pending(), pending),
        Endpoint::at("/users/me/revocations/flush").post(docs::flush(), flush).longest_body(LONGEST_FLUSH),
        Endpoint::at("/users/me/revocations/pending/{peerHandle}").delete(docs::discard(), discard),
    ]
}

async fn pending(app: web::Data<App>, caller: Caller, slice: Slice) -> Result<HttpResponse, Problem> {
    let mut conn = app.node.store.read().await?;
    let rows = outbox::pending_of_user(&mut conn, caller.user()).await?;
    Ok(slice.answer("revocations", &rows, pending_view))
}

async fn flush(app: web::Data<App>, caller: Caller, body: Body) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::of_body(&body)?;
    let items = fields.objects("items", 0..=MOST_ITEMS, |item| FlushItem {
        peer_handle: item.text("peerHandle"),
        signed: signed_fields::required(item),
    });
    fields.finish()?;
    let results = revocations::flush(&app.node, &caller, items).await?;
    let results: Vec<Value> = results.iter().map(flushed_view).collect();
    Ok(super::private(&json!({ "results": results })))
}

async fn discard(
    app: web::Data<App>,
    caller: Caller,
    handle: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    // A text that is no handle is not pending either.
    let peer = Handle::parse(&handle).map_err(|_| Error::NotPending)?;
    app.node.ask(&caller, DiscardRevocation { peer }).await?;
    Ok(super::private(&json!({ "success": true })))
}

pub(super) fn pending_view(row: &PendingRevocation) -> Value {
    json!({
        "id": row.id,
        "peerHandle": row.peer_handle,
        "createdAt": shown(row.created_at),
        "state": row.state.as_str(),
        "attempts": row.attempts,
        "lastError": row.last_error,
        "lastAttemptAt": row.last_attempt_at.map(shown),
        "nextAttemptAt": row.next_attempt_at.map(shown),
        "expiresAt": row.expires_at.map(shown),
    })
}

fn flushed_view(flushed: &Flushed) -> Value {
    json!({
        "peerHandle": flushed.peer_handle,
        "delivered": flushed.delivered,
        "error": flushed.error,
        "code": flushed.code,
        "state": flushed.state.map(|state| state.as_str()),
        "attempts": flushed.attempts,
        "nextAttemptAt": flushed.next_attempt_at.map(shown),
    })
}
