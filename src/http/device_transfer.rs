//! `/device-transfer`: the seed's way from an old device to a new one, sealed between the two.

use actix_web::HttpResponse;
use actix_web::web;
use serde_json::json;
use vellum_actors::user::{BeginTransfer, CancelTransfer, FetchTransfer, UploadTransfer};
use vellum_store::TransferId;
use vellum_store::device_transfers::Upload;

use super::body::Body;
use super::caller::Caller;
use super::endpoint::Endpoint;
use super::error::Problem;
use super::fields::{Fields, LONGEST_TEXT};
use super::openapi::device_transfer as docs;
use super::{App, shown};

/// The longest key and signature.
const LONGEST_SHORT: usize = 200;

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::at("/device-transfer").post(docs::begin(), begin),
        Endpoint::at("/device-transfer/{id}")
            .get_with_effects(docs::fetch(), fetch)
            .delete(docs::cancel(), cancel),
        Endpoint::at("/device-transfer/{id}/upload").post(docs::upload(), upload),
    ]
}

async fn begin(app: web::Data<App>, caller: Caller, body: Body) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::of_body(&body)?;
    let receiver_key = fields.short_base64("receiverEphemeralPub", LONGEST_SHORT);
    fields.finish()?;
    let transfer = app.node.ask(&caller, BeginTransfer { receiver_key }).await?;
    Ok(super::private(&json!({ "sessionId": transfer.id, "expiresAt": shown(transfer.expires_at) })))
}

async fn upload(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::of_body(&body)?;
    let upload = Upload {
        sender_key: fields.short_base64("senderEphemeralPub", LONGEST_SHORT),
        sealed_seed: fields.short_base64("sealedSeed", LONGEST_TEXT),
        sender_signature: fields.short_base64("senderSignature", LONGEST_SHORT),
    };
    fields.finish()?;
    app.node.ask(&caller, UploadTransfer { id: TransferId::from(id.into_inner()), upload }).await?;
    Ok(super::private(&json!({ "success": true })))
}

/// Once: what was taken out is gone.
async fn fetch(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let (transfer, upload) =
        app.node.ask(&caller, FetchTransfer { id: TransferId::from(id.into_inner()) }).await?;
    Ok(super::secret(&json!({
        "sessionId": transfer.id,
        "receiverEphemeralPub": transfer.receiver_key,
        "senderEphemeralPub": upload.sender_key,
        "sealedSeed": upload.sealed_seed,
        "senderSignature": upload.sender_signature,
    })))
}

async fn cancel(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    app.node.ask(&caller, CancelTransfer { id: TransferId::from(id.into_inner()) }).await?;
    Ok(super::private(&json!({ "success": true })))
}
