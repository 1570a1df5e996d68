//! The document's part on `/auth/passkeys`.

use serde_json::json;

use super::operation::Operation;
use super::sessions;
use super::shape::{Shape, foreign_object, id, list, number, object, success, text, time, truth, word};
use super::users_me_devices::device_id;

const TAG: &str = "Passkeys";

fn passkey() -> Shape {
    object(vec![
        ("id", text("kDq3…").described("the credential's id, base64url")),
        ("name", text("laptop").or_null()),
        ("userId", id()),
        ("counter", number(3).from(0)),
        ("deviceType", word(&["singleDevice", "multiDevice"])),
        ("backedUp", truth(false)),
        ("transports", list(text("internal"))),
        ("createdAt", time()),
        ("lastUsedAt", time().or_null()),
    ])
    .named("Passkey")
}

fn base64url(example: &str) -> Shape {
    text(example).matching("^([A-Za-z0-9_-]{4})*[A-Za-z0-9_-]{2,4}$").described("base64url")
}

fn creation_options() -> Shape {
    foreign_object(json!({
        "rp": { "id": "app.example", "name": "Vellum" },
        "user": { "id": "AZqwwXwufTOaVT8Lj2-eIQ", "name": "alice@people.example", "displayName": "Alice Example" },
        "challenge": "nTz0…",
        "pubKeyCredParams": [{ "type": "public-key", "alg": -7 }],
        "timeout": 300_000,
        "attestation": "none",
        "excludeCredentials": [],
        "authenticatorSelection": {
            "residentKey": "required", "requireResidentKey": true, "userVerification": "required",
        },
        "extensions": { "prf": { "eval": { "first": "MeCGtrfvVLrwofC6pnJ60BGjMbNpBl-cDomzyalFoHY" } } },
    }))
    .described("WebAuthn's `PublicKeyCredentialCreationOptionsJSON`")
}

fn request_options() -> Shape {
    foreign_object(json!({
        "challenge": "nTz0…",
        "timeout": 300_000,
        "rpId": "app.example",
        "allowCredentials": [],
        "userVerification": "required",
        "extensions": { "prf": { "eval": { "first": "MeCGtrfvVLrwofC6pnJ60BGjMbNpBl-cDomzyalFoHY" } } },
    }))
    .described("WebAuthn's `PublicKeyCredentialRequestOptionsJSON`")
}

fn credential_id(operation: Operation) -> Operation {
    operation.path("credentialId", "the passkey's `id`", text("kDq3Zk1x").at_least(1))
}

fn name() -> Shape {
    text("laptop").up_to(200)
}

pub fn registration_options() -> Operation {
    Operation::new(
        TAG,
        "passkeyRegistrationOptions",
        "Begin to register a passkey",
        "Options for `navigator.credentials.create()`, and cookies that tie the answer to them. They live for five minutes. Several ceremonies may be under way in one browser.",
    )
    .signed_in()
    .answer(200, "The options.", creation_options())
    .answer_header("Set-Cookie", "`passkey_challenge` and `passkey_challenge_…`, with the ticket")
    .refused(400, &["passkeys_unavailable"])
}

pub fn register() -> Operation {
    let response = object(vec![
        ("attestationObject", base64url("o2NmbXRkbm9uZQ")),
        ("clientDataJSON", base64url("eyJ0eXBlIjoid2ViYXV0aG4uY3JlYXRlIn0")),
        ("transports", list(text("internal").up_to(32)).of_at_most(16).optional()),
    ]);
    Operation::new(
        TAG,
        "registerPasskey",
        "Register a passkey",
        "Takes the browser's answer (`RegistrationResponseJSON`), and a name; where that is missing or empty, one is derived from the authenticator. The ceremony ends with the first answer. What extensions computed is not read: it is the client's secret, and should not be sent.",
    )
    .signed_in()
    .body(object(vec![("rawId", base64url("kDq3Zk1x")), ("response", response), ("name", name().optional())]))
    .answer(200, "The passkey.", passkey())
    .refused(400, &["registration_refused"])
    .refused(409, &["passkey_exists", "too_many_passkeys"])
}

pub fn sign_in_options() -> Operation {
    Operation::new(
        TAG,
        "passkeySignInOptions",
        "Begin to sign in with a passkey",
        "Options for `navigator.credentials.get()`, and cookies that tie the answer to them. They name no credential: the authenticator knows whose passkey it holds.",
    )
    .answer(200, "The options.", request_options())
    .answer_header("Set-Cookie", "`passkey_challenge` and `passkey_challenge_…`, with the ticket")
    .refused(400, &["passkeys_unavailable"])
    .limited()
}

pub fn sign_in() -> Operation {
    let response = object(vec![
        ("authenticatorData", base64url("SZYN5YgOjGh0NBcPZHZgW4_krrmihjLHmVzzuoMdl2M")),
        ("clientDataJSON", base64url("eyJ0eXBlIjoid2ViYXV0aG4uZ2V0In0")),
        ("signature", base64url("MEUCIQ")),
        ("userHandle", base64url("AZqwwXwufTOaVT8Lj2-eIQ")),
    ]);
    Operation::new(
        TAG,
        "signInWithPasskey",
        "Sign in with a passkey",
        "Takes the browser's answer (`AuthenticationResponseJSON`) and opens a session. Whatever is wrong with it, the refusal is the same.",
    )
    .body(object(vec![
        ("rawId", base64url("kDq3Zk1x")),
        ("authenticatorAttachment", text("platform")),
        ("response", response),
        ("deviceId", device_id().optional().described("the device that signs in, if it has a name")),
    ]))
    .answer(201, "You are signed in.", sessions::signed_in())
    .answer_header("Set-Cookie", "`auth_session`, for browsers")
    .refused(401, &["passkey_refused"])
    .limited()
}

pub fn slot_options() -> Operation {
    Operation::new(
        TAG,
        "slotUnlockOptions",
        "Ask passkeys for what opens a slot",
        "Options that name the passkeys whose slots are filled, with the PRF extension's salt. The answer stays in the client.",
    )
    .signed_in()
    .answer(200, "The options.", request_options())
    .refused(400, &["passkeys_unavailable"])
    .refused(404, &["passkey_not_found"])
}

pub fn passkey_options() -> Operation {
    credential_id(Operation::new(
        TAG,
        "slotEnrollOptions",
        "Ask one passkey for what will seal its slot",
        "Options that name this passkey, with the PRF extension's salt. The answer stays in the client.",
    ))
    .signed_in()
    .answer(200, "The options.", request_options())
    .refused(400, &["passkeys_unavailable"])
    .refused(404, &["passkey_not_found"])
}

pub fn list_passkeys() -> Operation {
    Operation::new(TAG, "listPasskeys", "Your passkeys", "All of them, without their keys, oldest first.")
        .signed_in()
        .answer_bare_list("The passkeys.", passkey())
}

pub fn rename() -> Operation {
    credential_id(Operation::new(
        TAG,
        "renamePasskey",
        "Rename a passkey",
        "Null or the empty text takes the name away.",
    ))
    .signed_in()
    .body(object(vec![("name", name().or_null())]))
    .answer(200, "The passkey.", passkey())
    .refused(404, &["passkey_not_found"])
}

pub fn remove() -> Operation {
    credential_id(Operation::new(
        TAG,
        "removePasskey",
        "Remove a passkey",
        "The slot that it opens is emptied too. There is always the mail address left to sign in by.",
    ))
    .signed_in()
    .answer(200, "It is gone.", success())
    .refused(404, &["passkey_not_found"])
}
