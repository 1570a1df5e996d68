//! `/sharing`: what the caller shares with friends, and what friends share with the caller (wire protocol,
//! section 7).

use actix_web::HttpResponse;
use actix_web::web;
use futures_util::FutureExt;
use serde_json::{Value, json};
use vellum_actors::user::{
    AcceptShare, DropShare, EndShare, Keeps, LONGEST_RESOURCE_ID, RESOURCE_TYPES, Share, SignedFields,
};
use vellum_actors::{Error, sharing};
use vellum_protocol::Handle;
use vellum_store::ShareId;
use vellum_store::invitations::Direction;
use vellum_store::shares::{self, Resource, Role, Share as StoredShare, Status};

use super::body::Body;
use super::caller::Caller;
use super::endpoint::Endpoint;
use super::error::Problem;
use super::fields::Fields;
use super::openapi::sharing as docs;
use super::paging::Slice;
use super::{App, shown};

const READ: &str = "sharing:read";
const WRITE: &str = "sharing:write";
/// The longest sealed payload: with its envelope it has to fit into a peer's inbox.
const LONGEST_PAYLOAD: usize = 48 * 1024;

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::at("/sharing").post(docs::share(), share),
        Endpoint::at("/sharing/envelope").put(docs::replace(), replace),
        Endpoint::at("/sharing/outgoing").get(docs::outgoing(), outgoing),
        Endpoint::at("/sharing/outgoing/{type}/{id}").get(docs::outgoing_of_resource(), outgoing_of_resource),
        Endpoint::at("/sharing/incoming").get(docs::incoming(), incoming),
        Endpoint::at("/sharing/incoming/pending").get(docs::incoming_pending(), incoming_pending),
        Endpoint::at("/sharing/incoming/{id}").delete(docs::drop_incoming(), drop_incoming),
        Endpoint::at("/sharing/incoming/{id}/accept").post(docs::accept(), accept),
        Endpoint::at("/sharing/incoming/{id}/reject")
            .post(docs::drop_incoming().called("rejectShare"), drop_incoming),
        Endpoint::at("/sharing/{id}").patch(docs::change_role(), change_role).delete(docs::end(), end),
        Endpoint::at("/sharing/{id}/revoke").post(docs::end().called("revokeShare"), end),
    ]
}

async fn share(app: web::Data<App>, caller: Caller, body: Body) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    let mut fields = Fields::of_body(&body)?;
    let (recipient, resource) = read_target(&mut fields);
    let encrypted_data = read_payload(&mut fields);
    let nonce = fields.optional_signed_base64("nonce");
    let role = read_role(&mut fields).unwrap_or(Role::Viewer);
    let signed = read_signed(&mut fields);
    fields.finish()?;
    let recipient = Handle::parse(&recipient).map_err(Error::from)?;
    let keeps = Keeps::Nothing;
    let share = Share { recipient, resource, encrypted_data, nonce, role, signed, keeps };
    let share = sharing::share(&app.node, &caller, share).await?;
    Ok(super::private(&share_view(&share)))
}

/// Replaces the sealed payload of a share.
async fn replace(app: web::Data<App>, caller: Caller, body: Body) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    let mut fields = Fields::of_body(&body)?;
    let (recipient, resource) = read_target(&mut fields);
    let encrypted_data = read_payload(&mut fields);
    if encrypted_data.is_none() && !fields.has("encryptedData") {
        fields.wrong("encryptedData", "is required");
    }
    let nonce = fields.optional_signed_base64("nonce");
    if !fields.has("nonce") {
        fields.wrong("nonce", "is required");
    }
    let signed = read_signed(&mut fields);
    fields.finish()?;
    let recipient = Handle::parse(&recipient).map_err(Error::from)?;
    let (role, keeps, is_signed) = (Role::Viewer, Keeps::Role, signed.is_some());
    let share = Share { recipient, resource, encrypted_data, nonce, role, signed, keeps };
    let share = sharing::share(&app.node, &caller, share).await?;
    Ok(super::private(&changed_view(&share, is_signed)))
}

async fn change_role(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    let mut fields = Fields::of_body(&body)?;
    if !fields.has("role") {
        fields.wrong("role", "is required");
    }
    let role = read_role(&mut fields).unwrap_or(Role::Viewer);
    let signed = read_signed(&mut fields);
    fields.finish()?;
    let id = ShareId::from(id.into_inner());
    let mut conn = app.node.store.read().await?;
    let known = shares::by_id(&mut conn, caller.user(), Direction::Outgoing, &id).await?;
    let StoredShare { peer_handle: recipient, resource, .. } = known.ok_or(Error::ShareNotFound)?;
    drop(conn);
    let (encrypted_data, nonce, keeps, is_signed) = (None, None, Keeps::Payload, signed.is_some());
    let share = Share { recipient, resource, encrypted_data, nonce, role, signed, keeps };
    let share = sharing::share(&app.node, &caller, share).await?;
    Ok(super::private(&changed_view(&share, is_signed)))
}

/// A share after a change, which a friend on another node is told of only with the user's
/// signature.
fn changed_view(share: &StoredShare, is_signed: bool) -> Value {
    let mut view = share_view(share);
    if share.peer_user_id.is_none() && !is_signed {
        view["delivery"] = json!("unsigned");
    }
    view
}

async fn end(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    app.node.ask(&caller, EndShare { id: ShareId::from(id.into_inner()) }).await?;
    Ok(super::private(&json!({ "success": true })))
}

async fn accept(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    let share = app.node.ask(&caller, AcceptShare { id: ShareId::from(id.into_inner()) }).await?;
    Ok(super::private(&share_view(&share)))
}

async fn drop_incoming(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    app.node.ask(&caller, DropShare { id: ShareId::from(id.into_inner()) }).await?;
    Ok(super::private(&json!({ "success": true })))
}

async fn outgoing(app: web::Data<App>, caller: Caller, slice: Slice) -> Result<HttpResponse, Problem> {
    list(&app, &caller, slice, Direction::Outgoing, |_| true).await
}

async fn outgoing_of_resource(
    app: web::Data<App>,
    caller: Caller,
    slice: Slice,
    resource: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (kind, id) = resource.into_inner();
    let wanted = |share: &StoredShare| share.resource.kind == kind && share.resource.id == id;
    list(&app, &caller, slice, Direction::Outgoing, wanted).await
}

async fn incoming(app: web::Data<App>, caller: Caller, slice: Slice) -> Result<HttpResponse, Problem> {
    list(&app, &caller, slice, Direction::Incoming, |_| true).await
}

async fn incoming_pending(
    app: web::Data<App>,
    caller: Caller,
    slice: Slice,
) -> Result<HttpResponse, Problem> {
    list(&app, &caller, slice, Direction::Incoming, |share| share.status == Status::Pending).await
}

async fn list(
    app: &App,
    caller: &Caller,
    slice: Slice,
    direction: Direction,
    wanted: impl Fn(&StoredShare) -> bool,
) -> Result<HttpResponse, Problem> {
    caller.require(READ)?;
    let user = caller.user().clone();
    let read = app
        .node
        .store
        .read_blocking(move |conn| async move { shares::of_user(conn, &user, direction).await }.boxed());
    let mut found = read.await?;
    found.retain(wanted);
    Ok(slice.answer("shares", &found, share_view))
}

fn read_target(fields: &mut Fields) -> (String, Resource) {
    let recipient = fields.text("recipientHandle");
    let kind = fields.text("resourceType");
    if fields.has("resourceType") && !RESOURCE_TYPES.contains(&kind.as_str()) {
        fields.wrong("resourceType", format!("must be one of {}", RESOURCE_TYPES.join(", ")));
    }
    (recipient, Resource { kind, id: fields.short_text("resourceId", LONGEST_RESOURCE_ID) })
}

fn read_payload(fields: &mut Fields) -> Option<String> {
    let payload = fields.optional_signed_ciphertext("encryptedData");
    // As an envelope has it: what JSON escapes takes more room there. The quotes do not count.
    let bytes = |payload: &String| json!(payload).to_string().len() - 2;
    if payload.as_ref().is_some_and(|payload| bytes(payload) > LONGEST_PAYLOAD) {
        fields.wrong("encryptedData", format!("must have at most {LONGEST_PAYLOAD} bytes in JSON"));
    }
    payload
}

fn read_role(fields: &mut Fields) -> Option<Role> {
    let word = fields.optional_text("role")?;
    let role = Role::parse(&word);
    if role.is_none() {
        fields.wrong("role", "must be viewer or editor");
    }
    role
}

/// Here the signed parts have names of their own, since `nonce` is the payload's.
fn read_signed(fields: &mut Fields) -> Option<SignedFields> {
    let signature = fields.optional_base64("federationSignature");
    let nonce = fields.optional_text("federationNonce");
    let timestamp = fields.optional_text("federationTimestamp");
    Some(SignedFields { signature: signature?, nonce: nonce?, timestamp: timestamp?, message_version: 1 })
}

fn share_view(share: &StoredShare) -> Value {
    let mut view = json!({
        "id": share.id,
        "userId": share.user_id,
        "resourceType": share.resource.kind,
        "resourceId": share.resource.id,
        "encryptedData": share.encrypted_data,
        "nonce": share.nonce,
        "role": share.role.as_str(),
        "status": share.status.as_str(),
        "createdAt": shown(share.created_at),
        "acceptedAt": share.accepted_at.map(shown),
        "expiresAt": null,
    });
    match share.direction {
        Direction::Outgoing => {
            view["recipientHandle"] = json!(share.peer_handle);
            view["recipientUserId"] = json!(share.peer_user_id);
        }
        Direction::Incoming => {
            view["senderHandle"] = json!(share.peer_handle);
            view["keyChanged"] = json!(share.unverified_key.is_some());
        }
    }
    view
}
