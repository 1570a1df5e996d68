//! `/friends/…`: friends, invitations, and looking people up (wire protocol, section 7).

use std::collections::HashMap;

use actix_web::http::StatusCode;
use actix_web::web;
use actix_web::{HttpResponse, ResponseError};
use serde_json::{Map, Value, json};
use vellum_actors::friends::{self, Notice};
use vellum_actors::invitations::InvitationLimits;
use vellum_actors::user::{CancelInvitation, ConfirmKey, Reject};
use vellum_actors::{Asker, Error};
use vellum_protocol::{Handle, SigningKey};
use vellum_store::InvitationId;
use vellum_store::friendships::{self, Friendship};
use vellum_store::invitations::{self, Direction, Invitation, Status};

use super::body::Body;
use super::caller::Caller;
use super::endpoint::Endpoint;
use super::error::{FieldError, Problem};
use super::fields::Fields;
use super::openapi::friends as docs;
use super::paging::Slice;
use super::{App, shown, signed_fields, well_known};

const READ: &str = "social:read";
const WRITE: &str = "social:write";

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::at("/friends").get(docs::list_friends(), list),
        Endpoint::at("/friends/invitations").get(docs::invitations(), invitations),
        Endpoint::at("/friends/invite").post(docs::invite(), invite),
        Endpoint::at("/friends/sync-keys").post(docs::sync_keys(), sync_keys),
        Endpoint::at("/friends/invitations/{id}/accept").post(docs::accept(), accept),
        Endpoint::at("/friends/invitations/{id}/reject").post(docs::reject(), reject),
        Endpoint::at("/friends/invitations/{id}").delete(docs::cancel(), cancel),
        Endpoint::at("/friends/resolve/{handle}").get_with_effects(docs::resolve(), resolve),
        Endpoint::at("/friends/{handle}").delete(docs::remove(), remove),
    ]
}

async fn list(app: web::Data<App>, caller: Caller, slice: Slice) -> Result<HttpResponse, Problem> {
    caller.require(READ)?;
    let mut conn = app.node.store.read().await?;
    let friends = friendships::of_user(&mut conn, caller.user()).await?;
    Ok(slice.answer("friends", &friends, friendship_view))
}

#[derive(serde::Deserialize)]
struct InvitationsQuery {
    direction: Option<String>,
}

async fn invitations(
    app: web::Data<App>,
    caller: Caller,
    slice: Slice,
    query: web::Query<InvitationsQuery>,
) -> Result<HttpResponse, Problem> {
    caller.require(READ)?;
    let direction = match query.direction.as_deref() {
        None => None,
        Some(word) => Some(Direction::parse(word).ok_or_else(|| {
            let message = "must be incoming or outgoing".into();
            Problem::validation(vec![FieldError { field: "direction".into(), message }])
        })?),
    };
    let limits = &app.node.settings.invitations;
    let since = limits.expired_until(app.node.clock.now());
    let mut conn = app.node.store.read().await?;
    let found = invitations::shown_to_user(&mut conn, caller.user(), direction, since).await?;
    let undelivered = invitations::undelivered(&mut conn, caller.user()).await?;
    Ok(slice.answer("invitations", &found, |invitation| invitation_view(limits, invitation, &undelivered)))
}

async fn invite(app: web::Data<App>, caller: Caller, body: Body) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    let mut fields = Fields::of_body(&body)?;
    let handle = fields.text("handle");
    let signed = signed_fields::optional(&mut fields);
    fields.finish()?;
    let handle = Handle::parse(&handle).map_err(Error::from)?;
    let invitation = friends::invite(&app.node, caller.user(), &handle, signed).await;
    let invitation =
        invitation.map_err(Problem::from).inspect_err(|problem| log_refused(&caller, problem))?;
    let undelivered = invitations::undelivered(&mut *app.node.store.read().await?, caller.user()).await?;
    let view = invitation_view(&app.node.settings.invitations, &invitation, &undelivered);
    Ok(super::private(&json!({ "invitation": view })))
}

/// Who was to be invited is nobody else's business.
fn log_refused(caller: &Caller, problem: &Problem) {
    let status = problem.status_code();
    if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
        let Asker { user, origin } = Asker::from(caller);
        tracing::info!(client_ip = origin.ip, account_id = %user, reason = problem.code(), "invitation refused");
    }
}

async fn accept(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    let signed = signed_fields::of_optional_body(&body)?;
    friends::accept(&app.node, caller.user(), InvitationId::from(id.into_inner()), signed).await?;
    Ok(super::private(&json!({ "success": true })))
}

async fn reject(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    let signed = signed_fields::of_optional_body(&body)?;
    let told = app.node.ask(&caller, Reject { id: InvitationId::from(id.into_inner()), signed }).await?;
    let mut answer = Map::new();
    answer.insert("success".into(), json!(true));
    if !told {
        answer.insert("delivery".into(), json!("unsigned"));
    }
    Ok(super::private(&answer))
}

async fn cancel(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    app.node.ask(&caller, CancelInvitation { id: InvitationId::from(id.into_inner()) }).await?;
    Ok(super::private(&json!({ "success": true })))
}

/// The signed parts may be in the body or in the query, where the signature is `signature` or
/// `revoke_signature`.
async fn remove(
    app: web::Data<App>,
    caller: Caller,
    handle: web::Path<String>,
    query: web::Query<Map<String, Value>>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    let mut fields =
        if body.is_empty() { Fields::of_query(query.into_inner()) } else { Fields::of_body(&body)? };
    fields.rename("revoke_signature", "signature");
    let signed = signed_fields::optional(&mut fields);
    fields.finish()?;
    let friend = Handle::parse(&handle).map_err(|_| Error::FriendshipNotFound)?;
    let notice = friends::remove(&app.node, caller.user(), friend, signed).await?;
    Ok(super::private(&json!({ "success": true, "delivery": notice_word(notice) })))
}

async fn resolve(
    app: web::Data<App>,
    caller: Caller,
    handle: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.require(READ)?;
    let handle = Handle::parse(&handle).map_err(Error::from)?;
    match friends::resolve(&app.node, caller.user(), &handle).await {
        Ok(found) => Ok(super::private(&well_known::document(&app, found.peer))),
        Err(Error::UserNotFound) => Err(Problem::not_found("Could not find user")),
        Err(other) => Err(other.into()),
    }
}

/// Compares every friend's keys, or confirms one of them: only a request that names the key does
/// that.
async fn sync_keys(app: web::Data<App>, caller: Caller, body: Body) -> Result<HttpResponse, Problem> {
    caller.require(WRITE)?;
    let fields = Fields::of_optional_body(&body)?;
    if fields.has("handle") || fields.has("signingKey") {
        return confirm_key(&app, &caller, fields).await;
    }
    let synced = friends::sync_keys(&app.node, caller.user()).await?;
    let results: Vec<Value> = synced
        .into_iter()
        .map(|friend| match friend.outcome {
            Ok(updated) => json!({ "handle": friend.handle, "updated": updated }),
            Err(error) => {
                let error = if friend.later { "later".to_owned() } else { error.to_string() };
                json!({ "handle": friend.handle, "updated": false, "error": error })
            }
        })
        .collect();
    Ok(super::private(&json!({ "results": results })))
}

async fn confirm_key(app: &App, caller: &Caller, mut fields: Fields) -> Result<HttpResponse, Problem> {
    let (handle, key) = (fields.text("handle"), fields.text("signingKey"));
    fields.finish()?;
    let friend = Handle::parse(&handle).map_err(Error::from)?;
    let invalid = |reason| Error::InvalidKey { field: "signingKey", reason };
    let signing_key = SigningKey::parse(&key).map_err(invalid)?;
    app.node.ask(caller, ConfirmKey { friend: friend.clone(), signing_key }).await?;
    let result = json!({ "handle": friend, "updated": false, "confirmed": true });
    Ok(super::private(&json!({ "results": [result] })))
}

fn notice_word(notice: Notice) -> &'static str {
    match notice {
        Notice::Local => "local",
        Notice::Delivered => "delivered",
        Notice::Queued => "queued",
        Notice::Unsigned => "unsigned",
    }
}

fn friendship_view(friendship: &Friendship) -> Value {
    let friend = &friendship.friend;
    json!({
        "id": friendship.id,
        "userId": friendship.user_id,
        "friendHandle": friend.handle,
        "friendSigningKey": friend.signing_key,
        "friendEncryptionKey": friend.encryption_key,
        "friendName": friend.name,
        "friendPicture": friend.picture,
        "status": "accepted",
        "keysChangedAt": friendship.keys_changed_at.map(shown),
        "establishedAt": shown(friendship.established_at),
        "revokedAt": null,
        "createdAt": shown(friendship.created_at),
    })
}

fn invitation_view(
    limits: &InvitationLimits,
    invitation: &Invitation,
    undelivered: &HashMap<InvitationId, invitations::Delivery>,
) -> Value {
    let expires_at = limits.expires_at(invitation.created_at);
    let (delivery, delivery_error) = match undelivered.get(&invitation.id) {
        None => ("delivered", None),
        Some(invitations::Delivery::Queued(last_error)) => ("queued", last_error.as_deref()),
        Some(invitations::Delivery::Failed(reason)) => ("failed", Some(reason.as_str())),
    };
    json!({
        "id": invitation.id,
        "localUserId": invitation.local_user_id,
        "fromHandle": invitation.from,
        "toHandle": invitation.to,
        "direction": invitation.direction.as_str(),
        "status": invitation.status.as_str(),
        "originServer": invitation.origin_server,
        "signature": invitation.signature,
        "createdAt": shown(invitation.created_at),
        "expiresAt": (invitation.status == Status::Pending).then(|| shown(expires_at)),
        "delivery": delivery,
        "deliveryError": delivery_error,
    })
}
