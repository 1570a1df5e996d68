//! `/users/me/…`: the caller's identity: alias, keys, version, reset.

use actix_web::web;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;
use vellum_actors::Error;
use vellum_actors::user::{
    self, ChangeProfile, CompleteOnboarding, NameChange, RegisterKeys, ResetIdentity, SetAlias,
};
use vellum_protocol::{Alias, EncryptionKey, KmVersion, SigningKey};
use vellum_store::users::{Identity, Keys};

use super::body::Body;
use super::caller::Caller;
use super::endpoint::Endpoint;
use super::error::Problem;
use super::fields::Fields;
use super::openapi::users_me as docs;
use super::users::LONGEST_PICTURE;
use super::{App, shown};

/// What has to be typed to erase everything.
const CONFIRMATION: &str = "erase-all-my-data";

/// The header in which a client may say which version of the keys it knows.
const KNOWN_VERSION: &str = "x-known-km-version";

/// The longest name, in characters.
const LONGEST_NAME: usize = 200;

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::at("/users/me/identity").get(docs::identity(), identity),
        Endpoint::at("/users/me/identity/reset").post(docs::reset(), reset),
        Endpoint::at("/users/me/alias").patch(docs::set_alias(), set_alias),
        Endpoint::at("/users/me/keys").put(docs::register_keys(), register_keys),
        Endpoint::at("/users/me/profile").patch(docs::change_profile(), change_profile),
        Endpoint::at("/users/me/onboarding/complete").post(docs::complete_onboarding(), complete_onboarding),
    ]
}

async fn identity(
    app: web::Data<App>,
    request: HttpRequest,
    caller: Caller,
) -> Result<HttpResponse, Problem> {
    let identity = show_identity(&app, &request, &caller).await?;
    Ok(super::private(&json!({
        "handle": identity.alias.as_ref().map(|alias| app.node.context.handle_of(alias)),
        "alias": identity.alias,
        "signingKey": identity.keys.map(|keys| keys.signing),
        "encryptionKey": identity.keys.map(|keys| keys.encryption),
        "domain": app.node.domain,
        "kmVersion": identity.km_version,
    })))
}

/// The caller's identity, of which the session is noted to know the keys from now on, if the
/// request may have effects.
pub(super) async fn show_identity(
    app: &App,
    request: &HttpRequest,
    caller: &Caller,
) -> Result<Identity, Problem> {
    let identity = user::identity(&app.node.store, caller.known(), known_version(request)).await?;
    if caller.may_have_effects() {
        user::show_keys(&app.node.store, caller.known(), &identity).await?;
    }
    Ok(identity)
}

/// Which version of the keys the client says that it knows. What is no version is nobody's knowledge of one.
pub(super) fn known_version(request: &HttpRequest) -> Option<KmVersion> {
    let known = request.headers().get(KNOWN_VERSION).and_then(|value| value.to_str().ok());
    known.and_then(|text| text.trim().parse().ok()).and_then(KmVersion::new)
}

async fn reset(app: web::Data<App>, caller: Caller, body: Body) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::of_body(&body)?;
    if fields.text("confirm") != CONFIRMATION && fields.has("confirm") {
        fields.wrong("confirm", format!("must be {CONFIRMATION}"));
    }
    fields.finish()?;
    let pending = app.node.ask(&caller, ResetIdentity).await?;
    Ok(super::private(&json!({ "success": true, "pendingRevocations": pending })))
}

async fn set_alias(app: web::Data<App>, caller: Caller, body: Body) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::of_body(&body)?;
    let alias = fields.text("alias");
    fields.finish()?;
    let alias = Alias::parse(&alias).map_err(|_| Error::InvalidAlias)?;
    let set = app.node.ask(&caller, SetAlias { alias }).await?;
    Ok(super::private(&json!({ "alias": set.alias, "handle": set.handle })))
}

async fn register_keys(app: web::Data<App>, caller: Caller, body: Body) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::of_body(&body)?;
    let (signing, encryption) = (fields.base64("signingKey"), fields.base64("encryptionKey"));
    let expected = fields.optional_km_version("expectedKmVersion");
    fields.finish()?;
    let keys = parse_keys(&signing, &encryption)?;
    let version = app.node.ask(&caller, RegisterKeys { keys, expected }).await?;
    Ok(super::private(&json!({ "success": true, "kmVersion": version })))
}

/// Reads the two keys of a body.
pub(super) fn parse_keys(signing: &str, encryption: &str) -> Result<Keys, Problem> {
    let invalid = |field| move |reason| Error::InvalidKey { field, reason };
    Ok(Keys {
        signing: SigningKey::parse(signing).map_err(invalid("signingKey"))?,
        encryption: EncryptionKey::parse(encryption).map_err(invalid("encryptionKey"))?,
    })
}

async fn change_profile(app: web::Data<App>, caller: Caller, body: Body) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::of_body(&body)?;
    let (first_name, last_name) =
        (name_change(&mut fields, "firstName"), name_change(&mut fields, "lastName"));
    let picture = picture_change(&mut fields, &caller);
    fields.finish()?;
    let names = app.node.ask(&caller, ChangeProfile { first_name, last_name, picture }).await?;
    Ok(super::private(&json!({ "success": true, "firstName": names.first, "lastName": names.last })))
}

/// Left out: unchanged; null: cleared.
fn name_change(fields: &mut Fields, name: &str) -> NameChange {
    if !fields.mentions(name) {
        return NameChange::Keep;
    }
    let value = fields.optional_text(name);
    if value.as_ref().is_some_and(|value| value.chars().count() > LONGEST_NAME) {
        fields.wrong(name, format!("must have at most {LONGEST_NAME} characters"));
    }
    NameChange::Set(value)
}

/// Left out: unchanged; null: cleared. What is set is shown to peers, whose clients load it.
fn picture_change(fields: &mut Fields, caller: &Caller) -> NameChange {
    if !fields.mentions("picture") {
        return NameChange::Keep;
    }
    let Some(picture) = fields.optional_text("picture") else { return NameChange::Set(None) };
    let own_avatar = format!("{}/avatar", caller.user());
    let is_own_avatar = picture.strip_prefix("/users/") == Some(own_avatar.as_str());
    let picture = if is_own_avatar { Some(picture) } else { https_url(&picture) };
    if picture.as_ref().is_none_or(|picture| picture.chars().count() > LONGEST_PICTURE) {
        let rule =
            format!("must be an https URL of at most {LONGEST_PICTURE} characters, or your own avatar");
        fields.wrong("picture", rule);
    }
    NameChange::Set(picture)
}

/// An https URL in the form in which everybody reads it alike: parsing forgives much.
fn https_url(picture: &str) -> Option<String> {
    let url = reqwest::Url::parse(picture).ok().filter(|_| picture.starts_with("https://"))?;
    (url.username().is_empty() && url.password().is_none()).then(|| url.into())
}

/// Existing clients show their first steps until this has been asked for once.
async fn complete_onboarding(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    let at = app.node.ask(&caller, CompleteOnboarding).await?;
    Ok(super::private(&json!({ "onboardingCompletedAt": shown(at) })))
}
