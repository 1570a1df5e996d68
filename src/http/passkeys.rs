//! `/auth/passkeys`: registering passkeys, signing in with them, and what they open slots with.
//!
//! Each ceremony is two requests, tied together by a cookie that lives for a few minutes. Of what a browser
//! sends, the results of extensions are not read: what the PRF extension gives out is the client's secret.

use actix_web::cookie::{Cookie, SameSite, time::Duration as CookieAge};
use actix_web::http::header;
use actix_web::web;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};
use vellum_actors::passkeys::{self, Begun, CEREMONY_MILLIS, RegistrationAnswer, RelyingParty, SignInAnswer};
use vellum_actors::sign_in::log_failure;
use vellum_actors::user::{RemovePasskey, RenamePasskey};
use vellum_actors::{Asker, Error};
use vellum_store::passkeys::{StoredPasskey, of_user};

use super::body::Body;
use super::caller::Caller;
use super::endpoint::Endpoint;
use super::error::Problem;
use super::fields::Fields;
use super::openapi::passkeys as docs;
use super::paging::Slice;
use super::sessions::{device, read_device_id, signed_in};
use super::{App, shown};

/// The cookie that holds a ceremony's ticket.
const TICKET: &str = "passkey_challenge";
/// The longest name of a passkey.
const LONGEST_NAME: usize = 200;
/// The most transports, and the longest name of one: what browsers know is far less.
const MOST_TRANSPORTS: usize = 16;
const LONGEST_TRANSPORT: usize = 32;

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::at("/auth/passkeys").get(docs::list_passkeys(), list),
        Endpoint::at("/auth/passkeys/register/options")
            .post(docs::registration_options(), registration_options),
        Endpoint::at("/auth/passkeys/register/verify").post(docs::register(), register),
        Endpoint::at("/auth/passkeys/authenticate/options").post(docs::sign_in_options(), sign_in_options),
        Endpoint::at("/auth/passkeys/authenticate/verify").post(docs::sign_in(), sign_in),
        Endpoint::at("/auth/passkeys/prf-assert/options").post(docs::slot_options(), slot_options),
        Endpoint::at("/auth/passkeys/{credentialId}")
            .patch(docs::rename(), rename)
            .delete(docs::remove(), remove),
        Endpoint::at("/auth/passkeys/{credentialId}/prf-enroll/options")
            .post(docs::passkey_options(), passkey_options),
    ]
}

async fn registration_options(
    app: web::Data<App>,
    request: HttpRequest,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let party = relying_party(&app, &request)?;
    let begun = passkeys::begin_registration(&app.node, &party, caller.user()).await?;
    Ok(with_ticket(&app, begun))
}

async fn register(
    app: web::Data<App>,
    request: HttpRequest,
    caller: Caller,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::of_body(&body)?;
    let answer = read_registration(&mut fields);
    fields.finish()?;
    let asker = Asker::from(&caller);
    let passkey = passkeys::finish_registration(&app.node, asker, &ticket(&request), answer).await?;
    Ok(without_ticket(super::private(&passkey_view(&passkey))))
}

fn read_registration(fields: &mut Fields) -> RegistrationAnswer {
    let credential_id = fields.base64url("rawId");
    let name = optional_name(fields);
    fields.object("response", |response| {
        let transports = response.optional_texts("transports", MOST_TRANSPORTS);
        if transports.iter().any(|transport| transport.len() > LONGEST_TRANSPORT) {
            response.wrong("transports", format!("each must have at most {LONGEST_TRANSPORT} characters"));
        }
        RegistrationAnswer {
            credential_id,
            attestation_object: response.base64url("attestationObject"),
            client_data: response.base64url("clientDataJSON"),
            transports,
            name,
        }
    })
}

async fn sign_in_options(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let party = relying_party(&app, &request)?;
    Ok(with_ticket(&app, passkeys::begin_sign_in(&app.node, &party).await?))
}

async fn sign_in(app: web::Data<App>, request: HttpRequest, body: Body) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::of_body(&body)?;
    let device_id = read_device_id(&mut fields);
    let device = device(&app, &request, device_id);
    let answer = read_sign_in(&mut fields).inspect_err(|_| {
        log_failure(device.ip.as_deref(), None, "passkey", "passkey_refused");
    })?;
    fields.finish()?;
    let opened = passkeys::sign_in(&app.node, &ticket(&request), answer, device).await?;
    Ok(without_ticket(signed_in(&app, &request, &opened).await?))
}

/// Reads an answer. One that does not say whose passkey it is, or what kind of authenticator holds it, is no
/// sign-in at all: 401, as existing clients expect (wire protocol, section 7).
fn read_sign_in(fields: &mut Fields) -> Result<SignInAnswer, Problem> {
    let credential_id = fields.base64url("rawId");
    let attached = fields.take_text("authenticatorAttachment").is_some();
    let (user_handle, answer) = fields.object("response", |response| {
        let user_handle = response.take_text("userHandle");
        let answer = SignInAnswer {
            credential_id,
            authenticator_data: response.base64url("authenticatorData"),
            client_data: response.base64url("clientDataJSON"),
            signature: response.base64url("signature"),
            user_handle: user_handle.as_deref().and_then(Fields::decode_base64url).unwrap_or_default(),
        };
        (user_handle, answer)
    });
    if !fields.any_wrong() && (user_handle.is_none() || !attached) {
        return Err(Error::PasskeyRefused.into());
    }
    Ok(answer)
}

async fn slot_options(
    app: web::Data<App>,
    request: HttpRequest,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let party = relying_party(&app, &request)?;
    Ok(super::private(&passkeys::options_for_slots(&app.node, &party, caller.user()).await?))
}

async fn passkey_options(
    app: web::Data<App>,
    request: HttpRequest,
    caller: Caller,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let party = relying_party(&app, &request)?;
    Ok(super::private(&passkeys::options_for_passkey(&app.node, &party, caller.user(), &id).await?))
}

/// Oldest first.
async fn list(app: web::Data<App>, caller: Caller, slice: Slice) -> Result<HttpResponse, Problem> {
    let found = of_user(&mut *app.node.store.read().await?, caller.user()).await?;
    Ok(slice.answer_bare(&found, passkey_view))
}

async fn rename(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::of_body(&body)?;
    if !fields.mentions("name") {
        fields.wrong("name", "is required; null takes the name away");
    }
    let name = optional_name(&mut fields);
    fields.finish()?;
    let passkey = app.node.ask(&caller, RenamePasskey { credential_id: id.into_inner(), name }).await?;
    Ok(super::private(&passkey_view(&passkey)))
}

fn optional_name(fields: &mut Fields) -> Option<String> {
    fields.has("name").then(|| fields.short_text("name", LONGEST_NAME))
}

async fn remove(app: web::Data<App>, caller: Caller, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    app.node.ask(&caller, RemovePasskey { credential_id: id.into_inner() }).await?;
    Ok(super::private(&json!({ "success": true })))
}

/// The client's site: the origin that the browser names if it is a known one, else the first known one.
fn relying_party(app: &App, request: &HttpRequest) -> Result<RelyingParty, Problem> {
    let named = request.headers().get(header::ORIGIN).and_then(|value| value.to_str().ok());
    let mut known = app.client_origins.iter().chain(std::iter::once(&app.origin));
    let party = known.clone().find(|known| Some(known.as_str()) == named).or_else(|| known.next());
    Ok(RelyingParty::new(party.map_or("", |origin| origin.as_str()))?)
}

/// The ticket that came with a request; the empty text is a ticket of nothing.
fn ticket(request: &HttpRequest) -> String {
    request.cookie(TICKET).map(|cookie| cookie.value().to_owned()).unwrap_or_default()
}

fn with_ticket(app: &App, Begun { options, ticket }: Begun) -> HttpResponse {
    let mut answer = super::private(&options);
    let cookie = Cookie::build(TICKET, ticket)
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(app.origin.is_https())
        .path("/auth/passkeys")
        .max_age(CookieAge::milliseconds(CEREMONY_MILLIS))
        .finish();
    // Only a cookie with a broken name or value could be refused; this one's are base64url.
    let _ = answer.add_cookie(&cookie);
    answer
}

fn without_ticket(mut answer: HttpResponse) -> HttpResponse {
    let gone = Cookie::build(TICKET, "").path("/auth/passkeys").max_age(CookieAge::ZERO).finish();
    let _ = answer.add_cookie(&gone);
    answer
}

/// A passkey without its key. Clients know it by its credential.
fn passkey_view(passkey: &StoredPasskey) -> Value {
    json!({
        "id": passkey.credential_id,
        "name": passkey.name,
        "userId": passkey.user_id,
        "counter": passkey.counter,
        "deviceType": passkey.device_type,
        "backedUp": passkey.backed_up,
        "transports": passkey.transports,
        "createdAt": shown(passkey.created_at),
        "lastUsedAt": passkey.last_used_at.map(shown),
    })
}
