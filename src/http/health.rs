//! `/health/live` and `/health/ready`: is the process up, and can it work.

use actix_web::HttpResponse;
use actix_web::web;
use serde_json::json;
use vellum_actors::Error;
use vellum_store::{Store, StoreError};

use super::App;
use super::endpoint::Endpoint;
use super::error::Problem;
use super::openapi::health as docs;

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::at("/health/live").get(docs::live(), live),
        Endpoint::at("/health/ready").get(docs::ready(), ready),
    ]
}

async fn live() -> HttpResponse {
    super::private(&json!({ "status": "ok" }))
}

/// Ready: the database answers, has taken the last change, and the node is not about to stop.
async fn ready(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    if *app.stopping.borrow() {
        return Err(Error::Stopping.into());
    }
    let store = &app.node.store;
    can_work(store).await.map_err(|error| Problem::not_ready(&error))?;
    Ok(super::private(&json!({ "status": "ok" })))
}

async fn can_work(store: &Store) -> Result<(), StoreError> {
    store.check_readable().await?;
    store.check_writable().await
}
