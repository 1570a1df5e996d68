//! Passkeys: the WebAuthn ceremonies by which one is registered, signs its owner in, or opens a slot.
//!
//! ```text
//!   begin ──▶ options for the browser, and a ticket ── the authenticator signs ──▶ finish
//!     └─ the ceremony is kept in the database ─────────────── taken out, once ◀──┘
//! ```
//!
//! A ceremony ends at its first answer, right or wrong, so no captured answer works twice. An
//! authenticator's counter must grow, and is kept by compare-and-swap. What the PRF extension gives out is
//! for the client alone: nothing of it is read here.
//!
//! An answer belongs to the ceremony whose challenge it has signed, and is taken from the browser
//! alone that has that ceremony's ticket. A browser has the tickets of all of its ceremonies, so
//! those of two tabs do not disturb each other. That is as safe as a single ticket: each is good
//! for one challenge, once, and for five minutes, and another site's page can neither read one nor
//! have its visitor's browser send an answer (a JSON body, and an origin that is compared).
//!
//! The cryptography of WebAuthn is `webauthn-rs`'s; which passkeys a user has is changed by the user's actor
//! ([`crate::user`]).

mod name;
mod relying_party;
mod ticket;

pub use relying_party::RelyingParty;
use relying_party::internal;

use futures_util::FutureExt;
use serde_json::{Value, json};
use uuid::Uuid;
use vellum_protocol::PRF_SALT;
use vellum_store::passkey_ceremonies::{self, Ceremony};
use vellum_store::passkeys::{self, StoredPasskey};
use vellum_store::slots;
use vellum_store::users::{self, User};
use vellum_store::{StoreError, UserId};
use webauthn_rs::prelude::{
    DiscoverableAuthentication, DiscoverableKey, Passkey, PasskeyRegistration, PublicKeyCredential,
    RegisterPublicKeyCredential,
};

use crate::node::Node;
use crate::sign_in::{self, Device, Opened, Sources};
use crate::user::AddPasskey;
use crate::{Asker, Error};
use ticket::Challenge;

/// How long a ceremony may take; what browsers are told, too.
pub const CEREMONY_MILLIS: i64 = 300_000;

/// Where the flags are in what an authenticator signs (WebAuthn, section 6.1): behind the hash of
/// the site.
const FLAGS: usize = 32;
/// The flag of a passkey that may be backed up.
const BACKUP_ELIGIBLE: u8 = 0x08;

/// A ceremony that has begun.
pub struct Begun {
    /// WebAuthn options, as browsers take them (`…OptionsJSON`).
    pub options: Value,
    /// What the client hands back with the authenticator's answer: it ties the two requests together.
    pub ticket: String,
}

/// An authenticator's answer, in the shape of WebAuthn's `RegistrationResponseJSON`. What the client's
/// extensions say is not part of it.
#[derive(Debug, Clone)]
pub struct RegistrationAnswer {
    /// The credential's id.
    pub credential_id: Vec<u8>,
    /// `attestationObject`.
    pub attestation_object: Vec<u8>,
    /// `clientDataJSON`.
    pub client_data: Vec<u8>,
    /// How the browser reaches the authenticator.
    pub transports: Vec<String>,
    /// What the user calls it; `None`: a name is derived.
    pub name: Option<String>,
}

/// An authenticator's answer, in the shape of WebAuthn's `AuthenticationResponseJSON`.
#[derive(Debug, Clone)]
pub struct SignInAnswer {
    /// The credential's id.
    pub credential_id: Vec<u8>,
    /// `authenticatorData`.
    pub authenticator_data: Vec<u8>,
    /// `clientDataJSON`.
    pub client_data: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
    /// Whom the authenticator keeps the passkey for.
    pub user_handle: Vec<u8>,
}

/// Begins to register a passkey for the user.
///
/// # Errors
/// Only what the database says.
pub async fn begin_registration(node: &Node, party: &RelyingParty, user: &UserId) -> Result<Begun, Error> {
    let mut conn = node.store.read().await?;
    let person = users::by_id(&mut conn, user).await?.ok_or(Error::NoSuchUser)?;
    let known = passkeys::of_user(&mut conn, user).await?;
    drop(conn);
    let known = known.iter().map(|passkey| Ok(credential(passkey)?.cred_id().clone()));
    let known = known.collect::<Result<Vec<_>, Error>>()?;
    let shown = person.name().unwrap_or_else(|| person.email.clone());
    let (mut options, state) = party
        .webauthn()?
        .start_passkey_registration(user_handle(user)?, &person.email, &shown, Some(known))
        .map_err(|error| internal(&error))?;
    let challenge = Challenge::from(options.public_key.challenge.as_slice());
    if let Some(selection) = &mut options.public_key.authenticator_selection {
        // Signing in asks nobody's name first, so the authenticator itself has to know whose passkey it is.
        selection.require_resident_key = true;
        selection.resident_key = Some(webauthn_rs_proto::ResidentKeyRequirement::Required);
    }
    let ceremony = Ceremony {
        user_id: Some(user.clone()),
        origin: party.origin().to_owned(),
        state: to_json(&state)?.to_string(),
    };
    begin(node, &challenge, ceremony).await?;
    Ok(Begun { options: with_prf(to_json(&options.public_key)?), ticket: challenge.ticket(node) })
}

/// Registers the passkey that the authenticator has made.
///
/// # Errors
/// [`Error::RegistrationRefused`]: the ceremony is over or another's, or the answer does not hold;
/// [`Error::PasskeyExists`], [`Error::TooManyPasskeys`].
pub async fn finish_registration(
    node: &std::sync::Arc<Node>,
    asker: Asker,
    ticket: &str,
    answer: RegistrationAnswer,
) -> Result<StoredPasskey, Error> {
    let ceremony = end(node, ticket, &answer.client_data).await?.ok_or(Error::RegistrationRefused)?;
    if ceremony.user_id.as_ref() != Some(&asker.user) {
        return Err(Error::RegistrationRefused);
    }
    let state: PasskeyRegistration = from_json(&ceremony.state)?;
    let public = json!({
        "id": base64url(&answer.credential_id),
        "rawId": base64url(&answer.credential_id),
        "type": "public-key",
        "response": {
            "attestationObject": base64url(&answer.attestation_object),
            "clientDataJSON": base64url(&answer.client_data),
            "transports": answer.transports,
        },
    });
    let public: RegisterPublicKeyCredential =
        serde_json::from_value(public).map_err(|error| internal(&error))?;
    let verified =
        RelyingParty::new(&ceremony.origin)?.webauthn()?.finish_passkey_registration(&public, &state);
    let passkey = verified.map_err(|error| {
        tracing::info!(user = %asker.user, %error, "a passkey's registration was refused");
        Error::RegistrationRefused
    })?;
    let now = node.clock.now();
    let name = match answer.name {
        Some(name) => name,
        None => {
            let held = passkeys::of_user(&mut *node.store.read().await?, &asker.user).await?;
            let taken: Vec<&str> = held.iter().filter_map(|passkey| passkey.name.as_deref()).collect();
            name::derive(&answer.attestation_object, &answer.transports, &taken)
        }
    };
    let mut stored = StoredPasskey {
        credential_id: base64url(passkey.cred_id()),
        user_id: asker.user.clone(),
        name: Some(name),
        credential: String::new(),
        counter: 0,
        device_type: String::new(),
        backed_up: false,
        transports: answer.transports,
        created_at: now,
        last_used_at: None,
    };
    note(&mut stored, passkey)?;
    node.ask(asker, AddPasskey { passkey: stored.clone() }).await?;
    Ok(stored)
}

/// Begins to sign somebody in. It is not known yet who it is: the authenticator will say.
///
/// # Errors
/// Only what the database says.
pub async fn begin_sign_in(node: &Node, party: &RelyingParty) -> Result<Begun, Error> {
    let (options, state) =
        party.webauthn()?.start_discoverable_authentication().map_err(|error| internal(&error))?;
    let challenge = Challenge::from(options.public_key.challenge.as_slice());
    let ceremony =
        Ceremony { user_id: None, origin: party.origin().to_owned(), state: to_json(&state)?.to_string() };
    begin(node, &challenge, ceremony).await?;
    Ok(Begun { options: with_prf(to_json(&options.public_key)?), ticket: challenge.ticket(node) })
}

/// Opens a session for the owner of the passkey that has answered.
///
/// # Errors
/// [`Error::PasskeyRefused`], whatever is wrong with it: the ceremony is over, the passkey is unknown or
/// another's, the origin or the signature is wrong, the counter went back.
pub async fn sign_in(
    node: &Node,
    ticket: &str,
    answer: SignInAnswer,
    device: Device,
) -> Result<Opened, Error> {
    let (client_ip, mut account) = (device.ip.clone(), None);
    let signed_in = check_and_open(node, ticket, answer, device, &mut account).await;
    match &signed_in {
        Ok(opened) => sign_in::log_signed_in(opened, "passkey"),
        Err(Error::PasskeyRefused) => {
            sign_in::log_failure(client_ip.as_deref(), account.as_ref(), "passkey", "passkey_refused");
        }
        Err(_) => {}
    }
    signed_in
}

/// The same without the log. Notes whose passkey it is as soon as that is known.
async fn check_and_open(
    node: &Node,
    ticket: &str,
    answer: SignInAnswer,
    device: Device,
    account: &mut Option<UserId>,
) -> Result<Opened, Error> {
    let ceremony = end(node, ticket, &answer.client_data).await?.ok_or(Error::PasskeyRefused)?;
    if ceremony.user_id.is_some() {
        return Err(Error::PasskeyRefused);
    }
    let id = base64url(&answer.credential_id);
    let mut conn = node.store.read().await?;
    let known = passkeys::by_credential(&mut conn, &id).await?.ok_or(Error::PasskeyRefused)?;
    *account = Some(known.user_id.clone());
    let user = users::by_id(&mut conn, &known.user_id).await?.ok_or(Error::PasskeyRefused)?;
    drop(conn);
    let used = verify(node, &ceremony, &known, &answer)?;
    open_session(node, used, known.counter, user, device).await
}

/// The passkey as it is after an answer that holds.
fn verify(
    node: &Node,
    ceremony: &Ceremony,
    known: &StoredPasskey,
    answer: &SignInAnswer,
) -> Result<StoredPasskey, Error> {
    if answer.user_handle != user_handle(&known.user_id)?.as_bytes() {
        return Err(Error::PasskeyRefused);
    }
    let mut passkey = with_eligibility_of(credential(known)?, &answer.authenticator_data);
    let state: DiscoverableAuthentication = from_json(&ceremony.state)?;
    let public = json!({
        "id": known.credential_id,
        "rawId": known.credential_id,
        "type": "public-key",
        "response": {
            "authenticatorData": base64url(&answer.authenticator_data),
            "clientDataJSON": base64url(&answer.client_data),
            "signature": base64url(&answer.signature),
            "userHandle": base64url(&answer.user_handle),
        },
    });
    let public: PublicKeyCredential = serde_json::from_value(public).map_err(|error| internal(&error))?;
    let verified = RelyingParty::new(&ceremony.origin)?.webauthn()?.finish_discoverable_authentication_v2(
        &public,
        state,
        DiscoverableKey::from(&passkey),
    );
    let result = verified.map_err(|error| {
        tracing::warn!(user = %known.user_id, %error, "a passkey was refused");
        Error::PasskeyRefused
    })?;
    passkey.update_credential(&result);
    let mut used = StoredPasskey { last_used_at: Some(node.clock.now()), ..known.clone() };
    note(&mut used, passkey)?;
    Ok(used)
}

/// The passkey, as eligible for backup as the authenticator says that it is now. The verifier
/// refuses an answer that differs in this from the registration; but a manager that begins to
/// synchronize changes it for passkeys that it has, and no rule here depends on it. The flag is
/// signed along, so what is kept in the end was said by the passkey's own key.
fn with_eligibility_of(passkey: Passkey, authenticator_data: &[u8]) -> Passkey {
    let mut inside = webauthn_rs::prelude::Credential::from(passkey);
    if let Some(flags) = authenticator_data.get(FLAGS) {
        inside.backup_eligible = flags & BACKUP_ELIGIBLE != 0;
    }
    inside.into()
}

async fn open_session(
    node: &Node,
    used: StoredPasskey,
    checked_against: u32,
    user: User,
    device: Device,
) -> Result<Opened, Error> {
    let now = node.clock.now();
    let sources = Sources::of(&node.settings.sign_in, &device);
    node.store
        .write(move |tx| {
            async move {
                // Another answer was taken since this one was checked, or the passkey is gone.
                if !passkeys::keep_use(tx, &used, checked_against).await? {
                    return Err(Error::PasskeyRefused);
                }
                sources.remember(tx, &user.id, now).await?;
                Ok(sign_in::insert_session(tx, user, device, now).await?)
            }
            .boxed()
        })
        .await
}

/// Options by which a client asks the user's passkeys for what opens their slots. The answer stays in the
/// client, so nothing is kept here.
///
/// # Errors
/// [`Error::PasskeyNotFound`] when no slot is filled.
pub async fn options_for_slots(node: &Node, party: &RelyingParty, user: &UserId) -> Result<Value, Error> {
    let mut conn = node.store.read().await?;
    let filled = slots::list(&mut conn, user).await?;
    let mut held = passkeys::of_user(&mut conn, user).await?;
    drop(conn);
    held.retain(|passkey| filled.iter().any(|slot| slot.wrapped.credential_id == passkey.credential_id));
    options_for(party, &held)
}

/// Options by which a client asks one passkey for what will seal its slot. The answer stays in the client.
///
/// # Errors
/// [`Error::PasskeyNotFound`] when it is no passkey of the user.
pub async fn options_for_passkey(
    node: &Node,
    party: &RelyingParty,
    user: &UserId,
    credential_id: &str,
) -> Result<Value, Error> {
    let mut held = passkeys::of_user(&mut *node.store.read().await?, user).await?;
    held.retain(|passkey| passkey.credential_id == credential_id);
    options_for(party, &held)
}

fn options_for(party: &RelyingParty, held: &[StoredPasskey]) -> Result<Value, Error> {
    if held.is_empty() {
        return Err(Error::PasskeyNotFound);
    }
    let held = held.iter().map(credential).collect::<Result<Vec<_>, _>>()?;
    let (options, _) =
        party.webauthn()?.start_passkey_authentication(&held).map_err(|error| internal(&error))?;
    Ok(with_prf(to_json(&options.public_key)?))
}

/// Which of a browser's tickets is that of the ceremony that an answer belongs to. Whether the
/// ticket is this node's is seen when the ceremony ends.
#[must_use]
pub fn ticket_for(tickets: Vec<String>, client_data: &[u8]) -> Option<String> {
    let challenge = Challenge::of_client_data(client_data)?;
    tickets.into_iter().find(|ticket| challenge.is_in(ticket))
}

async fn begin(node: &Node, challenge: &Challenge, ceremony: Ceremony) -> Result<(), Error> {
    let (hash, until) = (challenge.hash(), node.clock.now().plus_millis(CEREMONY_MILLIS));
    let begun: Result<(), StoreError> = node
        .store
        .write(move |tx| async move { passkey_ceremonies::begin(tx, &hash, &ceremony, until).await }.boxed())
        .await;
    Ok(begun?)
}

/// Ends the ceremony that an answer belongs to, whether it holds or not.
async fn end(node: &Node, ticket: &str, client_data: &[u8]) -> Result<Option<Ceremony>, Error> {
    let Some(challenge) = Challenge::of_ticket(node, ticket) else { return Ok(None) };
    if Challenge::of_client_data(client_data).as_ref() != Some(&challenge) {
        return Ok(None);
    }
    let (hash, now) = (challenge.hash(), node.clock.now());
    let ended: Result<_, StoreError> = node
        .store
        .write(move |tx| async move { passkey_ceremonies::end(tx, &hash, now).await }.boxed())
        .await;
    Ok(ended?)
}

/// Asks for the PRF extension's value at the protocol's salt (section 8), which `webauthn-rs` does not know.
fn with_prf(mut options: Value) -> Value {
    options["extensions"]["prf"] = json!({ "eval": { "first": base64url(&PRF_SALT) } });
    options
}

/// Writes what the verifier knows about a passkey into its row.
fn note(stored: &mut StoredPasskey, passkey: Passkey) -> Result<(), Error> {
    stored.credential = to_json(&passkey)?.to_string();
    let inside = webauthn_rs::prelude::Credential::from(passkey);
    stored.counter = inside.counter;
    stored.backed_up = inside.backup_state;
    stored.device_type = if inside.backup_eligible { "multiDevice" } else { "singleDevice" }.to_owned();
    Ok(())
}

fn credential(stored: &StoredPasskey) -> Result<Passkey, Error> {
    from_json(&stored.credential)
}

/// What authenticators call the user: the user's id, as bytes.
fn user_handle(user: &UserId) -> Result<Uuid, Error> {
    Uuid::parse_str(user.as_str()).map_err(|error| internal(&error))
}

fn base64url(bytes: &[u8]) -> String {
    use ::base64::Engine;
    ::base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn to_json(value: &impl serde::Serialize) -> Result<Value, Error> {
    serde_json::to_value(value).map_err(|error| internal(&error))
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| internal(&error))
}
