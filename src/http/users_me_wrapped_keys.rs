//! `/users/me/wrapped-keys`: the slots that passkeys open.

use actix_web::HttpResponse;
use actix_web::web;
use serde_json::{Value, json};
use vellum_actors::user::{DeleteSlot, MarkSlotUsed, PutSlot};
use vellum_store::slots::{self, Slot, Wrapped};

use super::body::Body;
use super::caller::Caller;
use super::endpoint::Endpoint;
use super::error::Problem;
use super::fields::Fields;
use super::openapi::users_me_wrapped_keys as docs;
use super::paging::Slice;
use super::{App, shown};

/// What a slot is sealed with where the client does not say.
const DEFAULT_ALGORITHM: &str = "aes-256-gcm-prf-v1";
/// The longest credential id, algorithm and signature.
const LONGEST_SHORT: usize = 1500;

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::at("/users/me/wrapped-keys").get(docs::list_slots(), list).post(docs::put(), put),
        Endpoint::at("/users/me/wrapped-keys/{credentialId}").delete(docs::delete(), delete),
        Endpoint::at("/users/me/wrapped-keys/{credentialId}/used").post(docs::used(), used),
    ]
}

/// Reads a slot out of a body.
pub(super) fn read_slot(fields: &mut Fields) -> Wrapped {
    let wrap_algo = if fields.has("wrapAlgo") {
        fields.short_text("wrapAlgo", LONGEST_SHORT)
    } else {
        DEFAULT_ALGORITHM.to_owned()
    };
    let credential_id = fields.short_text("credentialId", LONGEST_SHORT);
    // In bytes, too: an index of PostgreSQL takes no longer key.
    if credential_id.len() > LONGEST_SHORT && !fields.any_wrong() {
        fields.wrong("credentialId", format!("must have at most {LONGEST_SHORT} bytes"));
    }
    Wrapped {
        credential_id,
        wrapped_km: fields.base64("wrappedKm"),
        wrap_algo,
        slot_signature: fields.short_base64("slotSignature", LONGEST_SHORT),
    }
}

async fn list(app: web::Data<App>, caller: Caller, slice: Slice) -> Result<HttpResponse, Problem> {
    let mut conn = app.node.store.read().await?;
    let found = slots::list(&mut conn, caller.user()).await?;
    Ok(slice.answer("slots", &found, slot_view))
}

async fn put(app: web::Data<App>, caller: Caller, body: Body) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::of_body(&body)?;
    let wrapped = read_slot(&mut fields);
    fields.finish()?;
    app.node.ask(&caller, PutSlot { wrapped }).await?;
    Ok(HttpResponse::Created().json(json!({ "success": true })))
}

async fn delete(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    app.node.ask(&caller, DeleteSlot { credential_id: id.into_inner() }).await?;
    Ok(super::private(&json!({ "success": true })))
}

async fn used(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    app.node.ask(&caller, MarkSlotUsed { credential_id: id.into_inner() }).await?;
    Ok(super::private(&json!({ "success": true })))
}

fn slot_view(slot: &Slot) -> Value {
    json!({
        "credentialId": slot.wrapped.credential_id,
        "wrappedKm": slot.wrapped.wrapped_km,
        "wrapAlgo": slot.wrapped.wrap_algo,
        "slotSignature": slot.wrapped.slot_signature,
        "kmVersion": slot.km_version,
        "createdAt": shown(slot.created_at),
        "lastUsedAt": slot.last_used_at.map(shown),
    })
}
