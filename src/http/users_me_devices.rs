//! `/users/me/devices/{deviceId}/wrap-secret` and `/users/me/device-wrap-secrets/rotate`.

use actix_web::HttpResponse;
use actix_web::web;
use serde_json::json;
use vellum_actors::user::{RotateWrapSecrets, WrapSecret};
use vellum_protocol::base64;

use super::App;
use super::caller::Caller;
use super::endpoint::Endpoint;
use super::error::{FieldError, Problem};
use super::openapi::users_me_devices as docs;

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::at("/users/me/devices/{deviceId}/wrap-secret").get(docs::wrap_secret(), wrap_secret),
        Endpoint::at("/users/me/device-wrap-secrets/rotate").post(docs::rotate(), rotate),
    ]
}

async fn wrap_secret(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let device_id = id.into_inner();
    let valid = (8..=64).contains(&device_id.len())
        && device_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !valid {
        let message = "must have 8 to 64 letters, digits and hyphens".into();
        return Err(Problem::validation(vec![FieldError { field: "deviceId".into(), message }]));
    }
    let secret = app.node.ask(&caller, WrapSecret { device_id }).await?;
    Ok(super::secret(&json!({ "secret": base64::encode(secret.as_slice()) })))
}

async fn rotate(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    let rotated = app.node.ask(&caller, RotateWrapSecrets).await?;
    // Existing clients read `ok`.
    Ok(super::private(&json!({ "success": true, "ok": true, "rotated": rotated })))
}
