//! `/library/collections`: collections of ciphertext, one's own and those that their owners on this
//! node have shared with the caller.

use actix_web::HttpResponse;
use actix_web::web;
use futures_util::FutureExt;
use serde_json::{Value, json};
use vellum_actors::Error;
use vellum_actors::user::{CollectionChange, CreateCollection, DeleteCollection, UpdateCollection};
use vellum_store::CollectionId;
use vellum_store::collections::{self, Collection, SharedCollection};

use super::body::Body;
use super::caller::Caller;
use super::endpoint::Endpoint;
use super::error::Problem;
use super::fields::Fields;
use super::openapi::library_collections as docs;
use super::paging::Slice;
use super::{App, shown};

/// Existing clients hold this permission also for reading (wire protocol, section 7).
const WRITE: &str = "library:write";

/// The longest metadata, in bytes.
pub(super) const LONGEST_METADATA: usize = 1024 * 1024;
/// The longest body: the longest metadata, with room for the rest.
const LONGEST_COLLECTION: usize = LONGEST_METADATA + 4096;

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::at("/library/collections")
            .get(docs::list_collections(), list)
            .post(docs::create(), create)
            .longest_body(LONGEST_COLLECTION),
        Endpoint::at("/library/collections/shared-with-me").get(docs::shared_with_me(), shared_with_me),
        Endpoint::at("/library/collections/{id}")
            .get(docs::read(), read)
            .put(docs::update(), update)
            .delete(docs::delete(), delete)
            .longest_body(LONGEST_COLLECTION),
    ]
}

async fn list(app: web::Data<App>, caller: Caller, slice: Slice) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    let user = caller.user().clone();
    let read =
        app.node.store.read_blocking(move |conn| async move { collections::list(conn, &user).await }.boxed());
    let found = read.await?;
    Ok(slice.answer_bare(&found, collection_view))
}

async fn shared_with_me(app: web::Data<App>, caller: Caller, slice: Slice) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    let user = caller.user().clone();
    let read = app
        .node
        .store
        .read_blocking(move |conn| async move { collections::shared_with(conn, &user, None).await }.boxed());
    let found = read.await?;
    Ok(slice.answer_bare(&found, shared_view))
}

async fn create(app: web::Data<App>, caller: Caller, body: Body) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    let mut fields = Fields::of_body(&body)?;
    if !fields.has("metadataEncrypted") {
        fields.wrong("metadataEncrypted", "is required; it may be the empty text");
    }
    let change = read_change(fields)?;
    let made = app.node.ask(&caller, CreateCollection(change)).await?;
    Ok(super::private(&collection_view(&made)))
}

async fn read(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    let id = CollectionId::from(id.into_inner());
    let mut conn = app.node.store.read().await?;
    let mut view = match collections::find(&mut conn, caller.user(), &id).await? {
        Some(own) => {
            let mut view = collection_view(&own);
            view["role"] = json!("owner");
            view
        }
        None => {
            let shared = collections::shared_with(&mut conn, caller.user(), Some(&id)).await?;
            shared_view(shared.first().ok_or(Error::CollectionNotFound)?)
        }
    };
    view["bookmarks"] = json!([]);
    Ok(super::private(&view))
}

async fn update(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    let change = read_change(Fields::of_body(&body)?)?;
    let update = UpdateCollection { id: CollectionId::from(id.into_inner()), change };
    Ok(super::private(&collection_view(&app.node.ask(&caller, update).await?)))
}

async fn delete(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    app.node.ask(&caller, DeleteCollection { id: CollectionId::from(id.into_inner()) }).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn read_change(mut fields: Fields) -> Result<CollectionChange, Problem> {
    let metadata_encrypted = fields.optional_ciphertext("metadataEncrypted");
    if metadata_encrypted.as_ref().is_some_and(|metadata| metadata.len() > LONGEST_METADATA) {
        fields.wrong("metadataEncrypted", format!("must have at most {LONGEST_METADATA} bytes"));
    }
    let metadata_key_version = fields.optional_integer("metadataKeyVersion");
    if metadata_key_version.is_some_and(|version| version < 1) {
        fields.wrong("metadataKeyVersion", "must be 1 or more");
    }
    let is_public = fields.optional_bool("isPublic");
    fields.finish()?;
    Ok(CollectionChange { metadata_encrypted, metadata_key_version, is_public })
}

/// A collection of somebody else's: its metadata opens for its owner alone, so the share's envelope
/// has what the caller needs.
fn shared_view(shared: &SharedCollection) -> Value {
    let mut view = collection_view(&shared.collection);
    view["role"] = json!(shared.role.as_str());
    view["shareEnvelope"] = json!({ "encryptedData": shared.encrypted_data, "nonce": shared.nonce });
    view["senderHandle"] = json!(shared.sender);
    view["keyChanged"] = json!(shared.key_changed);
    view
}

fn collection_view(collection: &Collection) -> Value {
    json!({
        "id": collection.id,
        "userId": collection.user_id,
        "isPublic": collection.is_public,
        "isSensitive": collection.is_sensitive,
        "scheme": collection.scheme,
        "resharingPolicy": collection.resharing_policy,
        "publicToken": collection.public_token,
        "publicRole": collection.public_role,
        "metadataEncrypted": collection.metadata_encrypted,
        "metadataKeyVersion": collection.metadata_key_version,
        "kmVersion": collection.km_version,
        "createdAt": shown(collection.created_at),
        "updatedAt": shown(collection.updated_at),
    })
}
