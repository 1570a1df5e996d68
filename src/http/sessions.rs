//! `/auth/verify` and `/auth/sessions`: signing in with a code, the present session, signing out.

use actix_web::cookie::{Cookie, time::Duration as CookieAge};
use actix_web::http::header::{self, ContentEncoding};
use actix_web::web;
use actix_web::{HttpRequest, HttpResponse};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use vellum_actors::sign_in::{self, Device, KNOWN_MILLIS, Opened, Profile};
use vellum_actors::user::{self, EndAllSessions, EndOtherDevices, EndOtherSessions, EndSession};
use vellum_protocol::text::without_control_characters;
use vellum_store::SessionId;
use vellum_store::sessions::{self, Session};

use super::body::Body;
use super::caller::{COOKIE, Caller, MaybeCaller, secret_cookie, session_cookie, takes_cookie};
use super::client_address::ClientAddress;
use super::endpoint::Endpoint;
use super::error::Problem;
use super::fields::Fields;
use super::openapi::sessions as docs;
use super::paging::Slice;
use super::users_me::known_version;
use super::users_me_devices::{DEVICE_ID_RULE, is_device_id};
use super::{App, shown};
use crate::mail::address;

/// The cookie that a browser is known by when it signs in again.
const DEVICE_COOKIE: &str = "auth_device";

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::at("/auth/verify").post(docs::send_code(), send_code),
        Endpoint::at("/auth/sessions")
            .get(docs::list_sessions(), list)
            .post(docs::sign_in(), sign_in)
            .delete(docs::end_current(), end_current),
        Endpoint::at("/auth/sessions/current").get(docs::current(), current),
        Endpoint::at("/auth/sessions/current/permissions")
            .get(docs::current_permissions(), current_permissions),
        Endpoint::at("/auth/sessions/others").delete(docs::end_others(), end_others),
        Endpoint::at("/auth/sessions/all").delete(docs::end_all(), end_all),
        Endpoint::at("/auth/sessions/{id}").delete(docs::end(), end),
    ]
}

async fn send_code(app: web::Data<App>, body: Body) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::of_body(&body)?;
    let email = read_email(&mut fields);
    fields.finish()?;
    sign_in::request_code(&app.node, &email).await?;
    Ok(HttpResponse::Created().finish())
}

async fn sign_in(app: web::Data<App>, request: HttpRequest, body: Body) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::of_body(&body)?;
    let email = read_email(&mut fields);
    // Copied from an email, it may bring white space along.
    let code = SecretString::from(fields.base64("token"));
    let device_id = read_device_id(&mut fields);
    fields.finish()?;
    let device = device(&app, &request, device_id);
    let opened = sign_in::sign_in_with_code(&app.node, &email, &code, device).await?;
    signed_in(&app, &request, &opened).await
}

/// What whoever has signed in gets, by whichever way.
pub(super) async fn signed_in(
    app: &App,
    request: &HttpRequest,
    opened: &Opened,
) -> Result<HttpResponse, Problem> {
    let profile = sign_in::profile(&app.node, &opened.user.id).await?;
    let mut answer = HttpResponse::Created();
    answer.insert_header((header::CACHE_CONTROL, "no-store"));
    answer.insert_header(ContentEncoding::Identity);
    if takes_cookie(request, app) {
        answer.cookie(session_cookie(app, request, &opened.token, &opened.session));
        if let Some(cookie) = &opened.device_cookie {
            answer.cookie(device_cookie(app, request, cookie));
        }
    }
    Ok(answer.json(json!({
        "token": opened.token.expose_secret(),
        "user": user_view(&profile),
    })))
}

/// 204 without a body when nobody is signed in: clients poll this.
async fn current(
    app: web::Data<App>,
    request: HttpRequest,
    MaybeCaller(caller): MaybeCaller,
) -> Result<HttpResponse, Problem> {
    let Some(caller) = caller else {
        return Ok(HttpResponse::NoContent().finish());
    };
    if let known @ Some(_) = known_version(&request) {
        // Refused where what follows would be older than what the client knows.
        user::identity(&app.node.store, caller.known(), known).await?;
    }
    let profile = sign_in::profile(&app.node, caller.user()).await?;
    Ok(super::secret(&json!({
        "token": caller.token.expose_secret(),
        "user": user_view(&profile),
        "session": session_view(caller.session()),
        "subscription": subscription(),
    })))
}

async fn current_permissions(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    let profile = sign_in::profile(&app.node, caller.user()).await?;
    let roles: Vec<&str> = profile.roles.iter().map(|role| role.id.as_str()).collect();
    Ok(super::private(&json!({
        "permissions": profile.permissions,
        "roles": roles,
        "subscription": subscription(),
    })))
}

async fn end_current(
    app: web::Data<App>,
    request: HttpRequest,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    app.node.ask(&caller, EndSession { id: caller.session().id.clone() }).await?;
    Ok(signed_out(&app, &request))
}

/// A client that says which device it is on has the other devices' wrap secrets made anew as well.
async fn end_others(
    app: web::Data<App>,
    request: HttpRequest,
    caller: Caller,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::of_optional_body(&body)?;
    // Any text: one that is no device's name keeps no device's secret.
    let device_id = fields.optional_text("deviceId").filter(|id| !id.is_empty());
    fields.finish()?;
    match device_id {
        Some(device_id) => {
            app.limiters.count_rotation(&request, caller.user())?;
            app.node.ask(&caller, EndOtherDevices { device_id }).await?;
        }
        None => app.node.ask(&caller, EndOtherSessions).await?,
    }
    Ok(HttpResponse::NoContent().finish())
}

async fn end_all(app: web::Data<App>, request: HttpRequest, caller: Caller) -> Result<HttpResponse, Problem> {
    app.node.ask(&caller, EndAllSessions).await?;
    Ok(signed_out(&app, &request))
}

fn signed_out(app: &App, request: &HttpRequest) -> HttpResponse {
    let gone = secret_cookie(app, request, COOKIE, &SecretString::default(), "/", CookieAge::ZERO);
    HttpResponse::NoContent().cookie(gone).finish()
}

/// Newest first.
async fn list(app: web::Data<App>, caller: Caller, slice: Slice) -> Result<HttpResponse, Problem> {
    let now = app.node.clock.now();
    let mut conn = app.node.store.read().await?;
    let found = sessions::of_user(&mut conn, caller.user(), now).await?;
    let view = |session: &Session| {
        json!({
            "id": session.id,
            "userId": session.user_id,
            "createdAt": shown(session.created_at),
            "expiresAt": shown(session.expires_at),
            "ipv4": session.ip,
            "userAgent": session.user_agent,
            "current": session.id == caller.session().id,
        })
    };
    Ok(slice.answer_bare(&found, view))
}

async fn end(
    app: web::Data<App>,
    request: HttpRequest,
    caller: Caller,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = SessionId::from(id.into_inner());
    let is_own = caller.session().id == id;
    app.node.ask(&caller, EndSession { id }).await?;
    Ok(if is_own { signed_out(&app, &request) } else { HttpResponse::NoContent().finish() })
}

/// Reads an e-mail address that must be there, and that an email can be sent to.
pub(super) fn read_email(fields: &mut Fields) -> String {
    let email = fields.text("email");
    // Missing or no text: that is noted already.
    if fields.has_text("email")
        && let Err(reason) = address::parse(&email)
    {
        fields.wrong("email", reason);
    }
    email
}

/// Reads the name of the device that signs in, which may be left out.
pub(super) fn read_device_id(fields: &mut Fields) -> Option<String> {
    let device_id = fields.optional_text("deviceId");
    if device_id.as_deref().is_some_and(|id| !is_device_id(id)) {
        fields.wrong("deviceId", DEVICE_ID_RULE);
    }
    device_id
}

/// Where a request comes from, for the list of sessions.
pub(super) fn device(app: &App, request: &HttpRequest, device_id: Option<String>) -> Device {
    let user_agent = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    Device {
        user_agent: user_agent.map(without_control_characters),
        ip: ClientAddress::of(request).shown(),
        device_id,
        cookie: takes_cookie(request, app).then(|| {
            let presented = request.cookie(DEVICE_COOKIE);
            sign_in::device_cookie(presented.as_ref().map(Cookie::value))
        }),
    }
}

/// Outlives sessions: by it a browser is known to the accounts that it has signed in to. It signs
/// nobody in.
fn device_cookie(app: &App, request: &HttpRequest, value: &SecretString) -> Cookie<'static> {
    secret_cookie(app, request, DEVICE_COOKIE, value, "/auth/", CookieAge::milliseconds(KNOWN_MILLIS))
}

/// What existing clients open their features by; nothing is billed here (wire protocol, section 7).
fn subscription() -> Value {
    json!({ "isPremium": true, "isBasic": false, "hasSubscription": false, "tier": "premium" })
}

fn user_view(Profile { user, roles, permissions }: &Profile) -> Value {
    let roles: Vec<Value> = roles.iter().map(|role| json!({ "id": role.id, "name": role.name })).collect();
    json!({
        "id": user.id,
        "email": user.email,
        "firstName": user.first_name,
        "lastName": user.last_name,
        "picture": user.picture,
        "alias": user.identity.alias,
        "signingKey": user.identity.keys.map(|keys| keys.signing),
        "encryptionKey": user.identity.keys.map(|keys| keys.encryption),
        "kmVersion": user.identity.km_version,
        "onboardingCompletedAt": user.onboarding_completed_at.map(shown),
        "createdAt": shown(user.created_at),
        "updatedAt": shown(user.updated_at),
        "roles": roles,
        "permissions": permissions,
    })
}

fn session_view(session: &Session) -> Value {
    json!({
        "id": session.id,
        "createdAt": shown(session.created_at),
        "expiresAt": shown(session.expires_at),
        "userAgent": session.user_agent,
        "ip": session.ip,
    })
}
