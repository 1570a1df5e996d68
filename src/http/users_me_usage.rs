//! `/users/me/usage`: what the caller stores, and how much they may.

use actix_web::HttpResponse;
use actix_web::web;
use serde_json::json;
use vellum_store::usage;

use super::App;
use super::caller::Caller;
use super::endpoint::Endpoint;
use super::error::Problem;
use super::openapi::users_me_usage as docs;

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::at("/users/me/usage").get(docs::usage(), read)]
}

async fn read(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    let used = usage::of_user(&mut *app.node.store.read().await?, caller.user()).await?;
    let limits = app.node.settings.quotas;
    let one = |used: u64, limit: u64| json!({ "used": used, "limit": limit });
    Ok(super::private(&json!({
        "bytes": one(used.bytes, limits.bytes),
        "blobs": one(used.blobs, limits.blobs),
        "collections": one(used.collections, limits.collections),
        "slots": one(used.slots, limits.slots),
        "shares": one(used.shares, limits.shares),
    })))
}
