//! `/users/me/km-version`: the version of the caller's keys, and rotating them.

use std::collections::HashSet;

use actix_web::web;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};
use vellum_actors::user::{ResealedBlob, ResealedCollection, RotateKeys, Rotated};
use vellum_protocol::KmVersion;
use vellum_store::CollectionId;

use super::App;
use super::body::Body;
use super::caller::Caller;
use super::endpoint::Endpoint;
use super::error::Problem;
use super::fields::Fields;
use super::me_blobs::is_blob_type;
use super::openapi::users_me_km_version as docs;
use super::users_me::{parse_keys, show_identity};
use super::users_me_wrapped_keys::read_slot;

/// Items of one kind that a rotation may bring.
const MOST_ITEMS: usize = 10_000;

/// Paths of this file.
pub fn endpoints(longest_upload: usize) -> Vec<Endpoint> {
    vec![
        Endpoint::at("/users/me/km-version").get(docs::km_version_operation(), km_version),
        Endpoint::at("/users/me/km-version/commit").post(docs::commit(), commit).longest_body(longest_upload),
    ]
}

async fn km_version(
    app: web::Data<App>,
    request: HttpRequest,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let version = show_identity(&app, &request, &caller).await?.km_version;
    Ok(super::private(&json!({ "kmVersion": version })))
}

async fn commit(app: web::Data<App>, caller: Caller, body: Body) -> Result<HttpResponse, Problem> {
    let committed = app.node.ask(&caller, read_commit(&body)?).await?;
    Ok(super::private(&committed_view(&committed)))
}

pub(super) fn read_commit(body: &[u8]) -> Result<RotateKeys, Problem> {
    let mut fields = Fields::of_body(body)?;
    let expected = fields.optional_km_version("expectedCurrent");
    if expected.is_none() && !fields.has("expectedCurrent") {
        fields.wrong("expectedCurrent", "is required");
    }
    let (signing, encryption) = (fields.base64("signingKey"), fields.base64("encryptionKey"));
    let blobs = fields.optional_objects("blobs", MOST_ITEMS, |item| {
        let blob_type = item.text("blobType");
        if item.has("blobType") && !is_blob_type(&blob_type) {
            item.wrong("blobType", "is not a type of blob");
        }
        ResealedBlob { blob_type, encrypted_blob: item.ciphertext("encryptedBlob") }
    });
    let collections = fields.optional_objects("collections", MOST_ITEMS, |item| ResealedCollection {
        id: CollectionId::from(item.text("id")),
        metadata_encrypted: item.ciphertext("metadataEncrypted"),
    });
    let slots = fields.optional_objects("slots", MOST_ITEMS, read_slot);
    let drop_slots = fields.optional_texts("dropSlots", MOST_ITEMS);
    let require_complete = fields.optional_bool("requireComplete").unwrap_or(false);
    refuse_duplicates(&mut fields, "blobs", blobs.iter().map(|blob| blob.blob_type.as_str()));
    refuse_duplicates(
        &mut fields,
        "collections",
        collections.iter().map(|collection| collection.id.as_str()),
    );
    let all_slots =
        slots.iter().map(|slot| slot.credential_id.as_str()).chain(drop_slots.iter().map(String::as_str));
    refuse_duplicates(&mut fields, "slots", all_slots);
    fields.finish()?;
    let keys = parse_keys(&signing, &encryption)?;
    // Checked above: without it the reading has ended.
    let expected = expected.unwrap_or(KmVersion::FIRST);
    Ok(RotateKeys { expected, keys, blobs, collections, slots, drop_slots, require_complete })
}

fn refuse_duplicates<'a>(fields: &mut Fields, name: &str, ids: impl Iterator<Item = &'a str>) {
    let mut seen = HashSet::new();
    for id in ids {
        if !seen.insert(id) {
            fields.wrong(name, format!("names {id} twice"));
        }
    }
}

fn committed_view(committed: &Rotated) -> Value {
    let mut answer = Map::new();
    answer.insert("kmVersion".into(), json!(committed.km_version));
    let mut ignored = Map::new();
    if !committed.ignored_collections.is_empty() {
        ignored.insert("collections".into(), json!(committed.ignored_collections));
    }
    if !committed.ignored_slots.is_empty() {
        ignored.insert("slots".into(), json!(committed.ignored_slots));
    }
    if !ignored.is_empty() {
        answer.insert("ignored".into(), Value::Object(ignored));
    }
    Value::Object(answer)
}
