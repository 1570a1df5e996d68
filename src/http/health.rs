//! `/health/live` and `/health/ready`: is the process up, and can it work.

use actix_web::HttpResponse;
use actix_web::web::{self, ServiceConfig};
use serde_json::json;
use vellum_store::users;

use super::App;
use super::endpoint::Endpoint;
use super::error::Problem;

/// Paths of this file.
pub fn paths(config: &mut ServiceConfig) {
    Endpoint::at("/health/live").get(live).register(config);
    Endpoint::at("/health/ready").get(ready).register(config);
}

async fn live() -> HttpResponse {
    super::private(&json!({ "status": "ok" }))
}

/// Ready: the database answers.
async fn ready(app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let mut conn = app.node.store.read().await?;
    users::any(&mut conn).await?;
    Ok(super::private(&json!({ "status": "ok" })))
}
