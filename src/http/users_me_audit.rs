//! `/users/me/audit`: who changed what of the caller's identity, when, and from where.

use actix_web::HttpResponse;
use actix_web::web;
use serde_json::{Value, json};
use vellum_store::audit::{self, Entry};

use super::caller::Caller;
use super::endpoint::Endpoint;
use super::error::Problem;
use super::openapi::users_me_audit as docs;
use super::paging::Paging;
use super::{App, shown};

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::at("/users/me/audit").get(docs::list(), list)]
}

async fn list(app: web::Data<App>, caller: Caller, page: Paging) -> Result<HttpResponse, Problem> {
    let mut conn = app.node.store.read().await?;
    let found = audit::page(&mut conn, caller.user(), page.limit, page.offset()).await?;
    let total = audit::count(&mut conn, caller.user()).await?;
    let found: Vec<Value> = found.iter().map(entry_view).collect();
    Ok(super::private(&json!({ "data": found, "total": total, "page": page.page, "limit": page.limit })))
}

fn entry_view(entry: &Entry) -> Value {
    json!({
        "id": entry.id,
        "at": shown(entry.at),
        "event": entry.event,
        "sessionId": entry.session_id,
        "ip": entry.ip,
    })
}
