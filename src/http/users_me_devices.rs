//! `/users/me/devices`: devices and their wrap secrets; and `/users/me/device-wrap-secrets/rotate`.

use actix_web::HttpResponse;
use actix_web::web;
use serde_json::{Value, json};
use vellum_actors::user::{RemoveDevice, RotateWrapSecrets, WrapSecret};
use vellum_protocol::base64;
use vellum_store::wrap_secrets::{self, Device};

use super::caller::Caller;
use super::endpoint::Endpoint;
use super::error::{FieldError, Problem};
use super::openapi::users_me_devices as docs;
use super::paging::Slice;
use super::{App, shown};

/// What a device's name has to be.
pub(super) const DEVICE_ID_RULE: &str = "must have 8 to 64 letters, digits and hyphens";

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::at("/users/me/devices").get(docs::list_devices(), list),
        Endpoint::at("/users/me/devices/{deviceId}").delete(docs::remove_device(), remove),
        Endpoint::at("/users/me/devices/{deviceId}/wrap-secret")
            .get_with_effects(docs::wrap_secret(), wrap_secret),
        Endpoint::at("/users/me/device-wrap-secrets/rotate").post(docs::rotate(), rotate),
    ]
}

/// Whether a text can be a device's name.
pub(super) fn is_device_id(text: &str) -> bool {
    (8..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

async fn list(app: web::Data<App>, caller: Caller, slice: Slice) -> Result<HttpResponse, Problem> {
    let mut conn = app.node.store.read().await?;
    let found = wrap_secrets::devices_of(&mut conn, caller.user()).await?;
    let own = caller.session().device_id.as_deref();
    Ok(slice.answer("devices", &found, |device| device_view(device, own)))
}

fn device_view(device: &Device, own: Option<&str>) -> Value {
    json!({
        "deviceId": device.id,
        "createdAt": shown(device.created_at),
        "lastUsedAt": device.last_used_at.map(shown),
        "current": own == Some(device.id.as_str()),
    })
}

async fn remove(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    app.node.ask(&caller, RemoveDevice { device_id: id.into_inner() }).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn wrap_secret(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let device_id = id.into_inner();
    if !is_device_id(&device_id) {
        let message = DEVICE_ID_RULE.into();
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
