//! The document's part on `/auth/verify` and `/auth/sessions`.

use super::operation::Operation;
use super::shape::{Shape, encryption_key, id, km_version, list, object, signing_key, text, time, truth};
use super::users_me::with_known_version;
use super::users_me_devices::device_id;

const TAG: &str = "Signing in";

pub fn email() -> Shape {
    text("alice@people.example").in_format("email").up_to(254)
}

fn token() -> Shape {
    text("5f0c1b9d7e…").described("present it as `Authorization: Bearer …`; only its hash is stored")
}

pub fn roles() -> Shape {
    list(object(vec![("id", text("user")), ("name", text("User"))]))
}

pub fn onboarding_completed_at() -> Shape {
    time()
        .or_null()
        .described("when the user was through a client's first steps; clients ask until it is set")
}

/// The caller's own account.
fn user() -> Shape {
    object(vec![
        ("id", id()),
        ("email", text("alice@people.example")),
        ("firstName", text("Alice").or_null()),
        ("lastName", text("Example").or_null()),
        ("picture", text("https://people.example/alice.png").here_null()),
        ("alias", text("alice").or_null()),
        ("signingKey", signing_key().or_null()),
        ("encryptionKey", encryption_key().or_null()),
        ("kmVersion", km_version()),
        ("onboardingCompletedAt", onboarding_completed_at()),
        ("createdAt", time()),
        ("updatedAt", time()),
        ("roles", roles()),
        ("permissions", list(text("library:read"))),
    ])
    .named("Me")
}

/// What signing in answers, by whichever way.
pub fn signed_in() -> Shape {
    object(vec![("token", token()), ("user", user())]).named("SignedIn")
}

fn subscription() -> Shape {
    object(vec![
        ("isPremium", truth(true)),
        ("isBasic", truth(false)),
        ("hasSubscription", truth(false)),
        ("tier", text("premium")),
    ])
    .described("constant: nothing is billed here, and existing clients open their features by it")
}

pub fn send_code() -> Operation {
    Operation::new(
        TAG,
        "sendCode",
        "Send a one-time code by email",
        "Sends a code that works once, for 15 minutes, as 8 digits and as 20 letters. Up to three codes of an address work at the same time; a further one replaces the oldest. An address gets two emails at once and then one each 15 minutes; further requests answer the same and send nothing. The answer is the same whether the address has an account or not.",
    )
    .body(object(vec![("email", email())]))
    .empty_answer(201, "If the address may sign in and its emails are not used up, an email is on its way.")
    .limited()
}

pub fn sign_in() -> Operation {
    Operation::new(
        TAG,
        "signIn",
        "Change a code into a session",
        "Opens a session. Without a bearer token in the request the answer also sets the cookies `auth_session` and `auth_device`. After 200 wrong codes in 24 hours, 8 digits count only from a network or browser that has signed in to the account before, and anything else is `wrong_code`; the 20 letters always count. White space, hyphens and the case of letters do not matter.",
    )
    .body(object(vec![
        ("method", text("otp").described("not looked at: the token is always the code").at_times()),
        ("email", email()),
        ("token", text("12345678").up_to(4096).described("the code from the email: its 8 digits or its 20 letters")),
        ("deviceId", device_id().optional().described("the device that signs in, if it has a name")),
    ]))
    .answer(201, "You are signed in.", signed_in())
    .answer_header("Set-Cookie", "`auth_session` and `auth_device`, for browsers")
    .refused(401, &["wrong_code"])
    .limited()
}

pub fn list_sessions() -> Operation {
    let row = object(vec![
        ("id", id()),
        ("userId", id()),
        ("createdAt", time()),
        ("expiresAt", time()),
        ("ipv4", text("192.0.2.7").or_null()),
        ("userAgent", text("Mozilla/5.0").or_null()),
        ("current", truth(true).described("the one that asks")),
    ]);
    Operation::new(TAG, "listSessions", "Your sessions", "Every session that has not ended, newest first.")
        .signed_in()
        .answer_bare_list("The sessions.", row.named("SessionRow"))
}

pub fn current() -> Operation {
    let session = object(vec![
        ("id", id()),
        ("createdAt", time()),
        ("expiresAt", time()),
        ("userAgent", text("Mozilla/5.0").or_null()),
        ("ip", text("192.0.2.7").or_null()),
    ]);
    let operation = Operation::new(
        TAG,
        "currentSession",
        "Who is signed in",
        "Clients poll this: 204 without a body when nobody is signed in. A session in its second half is prolonged by 30 days by any request but HEAD and those of foreign pages; a cookie is then set anew.",
    );
    with_known_version(operation.perhaps_signed_in())
        .answer(
            200,
            "You are signed in.",
            object(vec![
                ("token", token()),
                ("user", user()),
                ("session", session.named("Session")),
                ("subscription", subscription()),
            ]),
        )
        .empty_answer(204, "Nobody is signed in.")
}

pub fn current_permissions() -> Operation {
    Operation::new(TAG, "currentPermissions", "What you may do", "Your roles, and what they allow.")
        .signed_in()
        .answer(
            200,
            "Roles and permissions.",
            object(vec![
                ("permissions", list(text("library:read"))),
                ("roles", list(text("user"))),
                ("subscription", subscription()),
            ]),
        )
}

pub fn end_current() -> Operation {
    Operation::new(TAG, "signOut", "Sign out", "Ends the session that asks.")
        .signed_in()
        .empty_answer(204, "The session has ended.")
        .refused(404, &["session_not_found"])
}

/// Any text: nothing is kept under it.
fn device_id_text() -> Shape {
    text("a1b2c3d4-phone").up_to(4096)
}

pub fn end_others() -> Operation {
    Operation::new(
        TAG,
        "endOtherSessions",
        "End every other session",
        "Ends all of your sessions but the one that asks. With `deviceId`, the wrap secrets of all other devices are made anew in the same transaction: what those have sealed opens no more. Without it no secret changes.",
    )
    .signed_in()
    .optional_body(object(vec![(
        "deviceId",
        device_id_text().described("the device that asks, and keeps its secret").optional(),
    )]))
    .empty_answer(204, "They have ended.")
}

pub fn end_all() -> Operation {
    Operation::new(
        TAG,
        "endAllSessions",
        "End every session",
        "Ends all of your sessions, and makes every device wrap secret anew in the same transaction: what a lost device has sealed opens no more.",
    )
    .signed_in()
    .empty_answer(204, "They have ended.")
}

pub fn end() -> Operation {
    Operation::new(TAG, "endSession", "End one session", "Ends one of your sessions by its id.")
        .signed_in()
        .path("id", "the session, as the list names it", id())
        .empty_answer(204, "It has ended.")
        .refused(404, &["session_not_found"])
}
