//! `/auth/passkeys`: registering passkeys, signing in with them, and what they open slots with.
//!
//! Each ceremony is two requests, tied together by a ticket in a cookie that lives for a few
//! minutes. Each ticket has a cookie of its own, since several tabs may be at it at once; the
//! newest is also in the cookie that clients know which keep only one. Of what a browser sends, the
//! results of extensions are not read: what the PRF extension gives out is the client's secret.

use actix_web::cookie::{Cookie, time::Duration as CookieAge};
use actix_web::http::header;
use actix_web::web;
use actix_web::{HttpRequest, HttpResponse};
use secrecy::SecretString;
use serde_json::{Value, json};
use vellum_actors::passkeys::{self, Begun, CEREMONY_MILLIS, RegistrationAnswer, RelyingParty, SignInAnswer};
use vellum_actors::sign_in::log_failure;
use vellum_actors::user::{RemovePasskey, RenamePasskey};
use vellum_actors::{Asker, Error};
use vellum_store::passkeys::{StoredPasskey, of_user};

use super::body::Body;
use super::caller::{Caller, secret_cookie};
use super::endpoint::Endpoint;
use super::error::Problem;
use super::fields::Fields;
use super::openapi::passkeys as docs;
use super::paging::Slice;
use super::sessions::{device, read_device_id, signed_in};
use super::{App, shown};

/// The cookie that holds the newest ceremony's ticket. The cookies of each ceremony have this name
/// and, behind an underscore, the beginning of the ticket.
const TICKET: &str = "passkey_challenge";
/// How much of a ticket is in the name of its cookie.
const TAG_LENGTH: usize = 8;
/// Tickets that a browser keeps; requests must not grow without bound.
const MOST_TICKETS: usize = 8;
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
    Ok(with_ticket(&app, &request, begun))
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
    let (asker, ticket) = (Asker::from(&caller), ticket(&request, &answer.client_data));
    let passkey = passkeys::finish_registration(&app.node, asker, &ticket, answer).await?;
    Ok(without_ticket(&app, &request, &ticket, super::private(&passkey_view(&passkey))))
}

fn read_registration(fields: &mut Fields) -> RegistrationAnswer {
    let credential_id = fields.base64url("rawId");
    let name = given_name(fields);
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
    Ok(with_ticket(&app, &request, passkeys::begin_sign_in(&app.node, &party).await?))
}

async fn sign_in(app: web::Data<App>, request: HttpRequest, body: Body) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::of_body(&body)?;
    let device_id = read_device_id(&mut fields);
    let device = device(&app, &request, device_id);
    let answer = read_sign_in(&mut fields).inspect_err(|_| {
        log_failure(device.ip.as_deref(), None, "passkey", "passkey_refused");
    })?;
    fields.finish()?;
    let ticket = ticket(&request, &answer.client_data);
    let opened = passkeys::sign_in(&app.node, &ticket, answer, device).await?;
    Ok(without_ticket(&app, &request, &ticket, signed_in(&app, &request, &opened).await?))
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
    let name = given_name(&mut fields);
    fields.finish()?;
    let passkey = app.node.ask(&caller, RenamePasskey { credential_id: id.into_inner(), name }).await?;
    Ok(super::private(&passkey_view(&passkey)))
}

/// Existing clients send an empty name where they have none.
fn given_name(fields: &mut Fields) -> Option<String> {
    let name = fields.optional_text("name")?.trim().to_owned();
    if name.chars().count() > LONGEST_NAME {
        fields.wrong("name", format!("must have at most {LONGEST_NAME} characters"));
    }
    (!name.is_empty()).then_some(name)
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

/// The ticket of the ceremony that an answer belongs to; the empty text is a ticket of nothing.
fn ticket(request: &HttpRequest, client_data: &[u8]) -> String {
    let tickets = ticket_cookies(request).into_iter().map(|cookie| cookie.value().to_owned()).collect();
    passkeys::ticket_for(tickets, client_data).unwrap_or_default()
}

/// The cookies with tickets. Browsers send the older ones first.
fn ticket_cookies(request: &HttpRequest) -> Vec<Cookie<'static>> {
    let cookies = request.cookies();
    let all = cookies.iter().flat_map(|cookies| cookies.iter());
    all.filter(|cookie| cookie.name() == TICKET || is_tagged(cookie)).cloned().collect()
}

fn is_tagged(cookie: &Cookie<'_>) -> bool {
    cookie.name().strip_prefix(TICKET).is_some_and(|tag| tag.starts_with('_'))
}

fn with_ticket(app: &App, request: &HttpRequest, Begun { options, ticket }: Begun) -> HttpResponse {
    let mut answer = super::private(&options);
    let tagged = format!("{TICKET}_{}", ticket.chars().take(TAG_LENGTH).collect::<String>());
    let (ticket, age) = (SecretString::from(ticket), CookieAge::milliseconds(CEREMONY_MILLIS));
    for name in [TICKET.to_owned(), tagged] {
        set_ticket(app, request, &mut answer, name, &ticket, age);
    }
    let mut older = ticket_cookies(request);
    older.retain(is_tagged);
    let over = older.len().saturating_sub(MOST_TICKETS - 1);
    forget(app, request, &mut answer, &older[..over]);
    answer
}

/// Takes the cookies with this ticket away.
fn without_ticket(app: &App, request: &HttpRequest, ticket: &str, mut answer: HttpResponse) -> HttpResponse {
    let mut used = ticket_cookies(request);
    used.retain(|cookie| cookie.value() == ticket);
    forget(app, request, &mut answer, &used);
    answer
}

fn forget(app: &App, request: &HttpRequest, answer: &mut HttpResponse, cookies: &[Cookie<'static>]) {
    for cookie in cookies {
        set_ticket(app, request, answer, cookie.name().to_owned(), &SecretString::default(), CookieAge::ZERO);
    }
}

fn set_ticket(
    app: &App,
    request: &HttpRequest,
    answer: &mut HttpResponse,
    name: String,
    ticket: &SecretString,
    age: CookieAge,
) {
    let cookie = secret_cookie(app, request, name, ticket, "/auth/passkeys", age);
    // Only a cookie with a broken name or value could be refused: those here are base64url, or came
    // as cookies.
    let _ = answer.add_cookie(&cookie);
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
