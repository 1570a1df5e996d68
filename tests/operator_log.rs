//! What the log tells operators: who signed in from where, what was refused and why. And that
//! fail2ban finds the addresses to ban in it, and no others.

use reqwest::Response;
use serde_json::{Value, json};
use vellum::node::FIRST_ADMINISTRATOR;
use vellum_client::http::Method;
use vellum_protocol::{JsonObject, MessageType};

use crate::passkeys;
use crate::support::{Peer, Person, TestNode, now, plain_http, run_tool};

/// The tests speak for any address, as a reverse proxy does.
const PROXY: (&str, &str) = ("VELLUM_HTTP__TRUSTED_PROXIES", "127.0.0.1/32");
const HOME: &str = "203.0.113.5";
const ABROAD: &str = "198.51.100.7";
/// What somebody would have to send to have another address banned.
const FORGED: &str = "x\",\"message\":\"sign-in failed\",\"client_ip\":\"192.0.2.66\",\"y\":\"";

/// The entries with this message so far, without the spans around them.
fn entries(node: &TestNode, message: &str) -> Vec<Value> {
    let log = std::fs::read_to_string(node.process.log_path()).unwrap();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut entries: Vec<Value> = events.filter(|event| event["message"] == message).collect();
    for entry in &mut entries {
        let fields = entry.as_object_mut().unwrap();
        for common in ["timestamp", "target", "span", "spans"] {
            fields.remove(common);
        }
        assert_eq!(fields.remove("level"), Some(json!("INFO")), "{message}");
        let text = Value::Object(fields.clone()).to_string();
        assert!(!text.contains('@'), "an address or a handle is in the log: {text}");
    }
    entries
}

fn entry(message: &str, mut fields: Value) -> Value {
    fields["message"] = json!(message);
    fields
}

async fn post(node: &TestNode, ip: &str, path: &str, body: &Value) -> Response {
    let request = plain_http().post(format!("{}{path}", node.process.origin())).json(body);
    request.header("x-forwarded-for", ip).header("user-agent", FORGED).send().await.unwrap()
}

async fn enter(node: &TestNode, ip: &str, email: &str, code: &str) -> u16 {
    let body = json!({ "method": "otp", "email": email, "token": code });
    post(node, ip, "/auth/sessions", &body).await.status().as_u16()
}

/// Asks for a code, and reads it.
async fn code_for(node: &TestNode, email: &str) -> String {
    let known = node.process.letters().len();
    let answer = post(node, HOME, "/auth/verify", &json!({ "email": email })).await;
    assert_eq!(answer.status(), 201);
    node.process.newest_code(known).await.unwrap()
}

/// Another code than this one.
fn wrong(code: &str) -> &'static str {
    if code == "12345678" { "87654321" } else { "12345678" }
}

async fn id_of(person: &Person) -> String {
    person.client.current_session().await.unwrap().unwrap().user.id
}

async fn administrator(node: &TestNode) -> Person {
    let mut client = node.client();
    client.set_token(Some(node.token(FIRST_ADMINISTRATOR).await));
    Person::new(client)
}

#[tokio::test]
async fn signing_in_with_a_code_is_logged_and_failing_to_with_the_reason() {
    let node = TestNode::start_with(&[PROXY, ("VELLUM_AUTH__WRONG_CODES_PER_DAY", "1")]).await;
    let id = id_of(&administrator(&node).await).await;
    assert_eq!(enter(&node, ABROAD, FIRST_ADMINISTRATOR, "12345678").await, 401);
    let code = code_for(&node, FIRST_ADMINISTRATOR).await;
    assert_eq!(enter(&node, HOME, FIRST_ADMINISTRATOR, &code).await, 201);
    let next = code_for(&node, FIRST_ADMINISTRATOR).await;
    assert_eq!(enter(&node, ABROAD, FIRST_ADMINISTRATOR, wrong(&next)).await, 401);
    assert_eq!(enter(&node, ABROAD, FIRST_ADMINISTRATOR, &next).await, 401, "one wrong code a day");
    assert_eq!(enter(&node, "2001:db8::7", "nobody@people.example", "12345678").await, 401);

    let signed_in = json!({ "client_ip": HOME, "account_id": id, "method": "code" });
    assert_eq!(entries(&node, "signed in"), [entry("signed in", signed_in)]);
    let failed = |ip: &str, reason: &str| {
        let fields = json!({ "client_ip": ip, "account_id": id, "method": "code", "reason": reason });
        entry("sign-in failed", fields)
    };
    let mut nobody = failed("2001:db8::7", "no_code");
    nobody.as_object_mut().unwrap().remove("account_id");
    let expected = [
        failed(ABROAD, "no_code"),
        failed(ABROAD, "wrong_code"),
        failed(ABROAD, "too_many_wrong_codes"),
        nobody,
    ];
    assert_eq!(entries(&node, "sign-in failed"), expected);
}

#[tokio::test]
async fn accounts_and_roles_are_logged_whoever_makes_them() {
    let mut node = TestNode::start_with(&[PROXY, ("VELLUM_AUTH__REGISTRATION", "open")]).await;
    let admin = administrator(&node).await;
    let by = id_of(&admin).await;
    let made = |fields: Value| entry("account made", fields);
    let given = |fields: Value| entry("role given", fields);
    assert_eq!(entries(&node, "account made"), [made(json!({ "account_id": by }))], "at the first start");
    assert_eq!(entries(&node, "role given"), [given(json!({ "account_id": by, "role": "admin" }))]);

    let new = json!({ "email": "carl@people.example", "roles": ["user", "alpha"] });
    let (status, carl) = admin.ask(Method::POST, "/users/", new.clone()).await;
    assert_eq!(status, 200, "{carl}");
    assert_eq!(admin.ask(Method::POST, "/users/", new).await.0, 409, "that makes none");
    let carl = &carl["id"];
    let fields = json!({ "client_ip": "127.0.0.1", "account_id": carl, "by": by });
    assert_eq!(entries(&node, "account made")[1..], [made(fields)]);
    let role =
        |role: &str| given(json!({ "client_ip": "127.0.0.1", "account_id": carl, "role": role, "by": by }));
    assert_eq!(entries(&node, "role given")[1..], [role("user"), role("alpha")]);

    let code = code_for(&node, "new@people.example").await;
    assert_eq!(enter(&node, HOME, "new@people.example", &code).await, 201);
    let id = entries(&node, "signed in")[0]["account_id"].clone();
    let fields = json!({ "client_ip": HOME, "account_id": id });
    assert_eq!(entries(&node, "account made")[2..], [made(fields)], "by open registration");
    let fields = json!({ "client_ip": HOME, "account_id": id, "role": "user" });
    assert_eq!(entries(&node, "role given")[3..], [given(fields)]);

    let code = code_for(&node, "late@people.example").await;
    node.process.stop().await.unwrap();
    node.process.set("VELLUM_AUTH__REGISTRATION", "invite");
    node.process.start().await.unwrap();
    assert_eq!(enter(&node, HOME, "late@people.example", &code).await, 401);
    let failed = json!({ "client_ip": HOME, "method": "code", "reason": "no_account" });
    assert_eq!(entries(&node, "sign-in failed"), [entry("sign-in failed", failed)]);
    assert_eq!(entries(&node, "account made").len(), 3, "nobody else has got one");
}

#[tokio::test]
async fn signing_in_with_a_passkey_is_logged_as_well() {
    let node = passkeys::node().await;
    let (ann, _, mut device) = passkeys::with_passkey(&node).await;
    let mut browser = passkeys::Browser::at(&node, None).await;
    assert_eq!(browser.sign_in(&mut device).await.status, 201);
    let options = browser.options("authenticate").await;
    let mut answer = device.get(&options);
    answer["response"]["signature"] = json!("AAAA");
    let forged = browser.post("/auth/passkeys/authenticate/verify", &answer).await;
    assert_eq!(forged.status, 401, "{}", forged.body);
    answer["response"]["userHandle"] = Value::Null;
    let nobodys = browser.post("/auth/passkeys/authenticate/verify", &answer).await;
    assert_eq!(nobodys.status, 401, "{}", nobodys.body);

    let id = id_of(&ann).await;
    let signed_in = json!({ "client_ip": "127.0.0.1", "account_id": id, "method": "passkey" });
    assert_eq!(entries(&node, "signed in"), [entry("signed in", signed_in)]);
    let failed = |account: Value| {
        let mut fields =
            json!({ "client_ip": "127.0.0.1", "method": "passkey", "reason": "passkey_refused" });
        if account.is_string() {
            fields["account_id"] = account;
        }
        entry("sign-in failed", fields)
    };
    assert_eq!(entries(&node, "sign-in failed"), [failed(json!(id)), failed(Value::Null)]);
}

#[tokio::test]
async fn a_session_that_another_one_ends_is_logged() {
    let node = TestNode::start_with(&[PROXY]).await;
    let ann = node.user("ann").await;
    let id = id_of(&ann).await;
    let sign_in = || node.token("ann@people.example");
    let delete = |path: String| {
        let ann = &ann;
        async move { ann.ask(Method::DELETE, &path, Value::Null).await.0 }
    };
    assert_eq!(delete("/auth/sessions/others".into()).await, 204);
    assert!(entries(&node, "session ended by another").is_empty(), "there is no other");

    sign_in().await;
    let (_, sessions) = ann.ask(Method::GET, "/auth/sessions", Value::Null).await;
    let other = sessions.as_array().unwrap().iter().find(|session| session["current"] == false).unwrap();
    assert_eq!(delete(format!("/auth/sessions/{}", other["id"].as_str().unwrap())).await, 204);
    for _ in 0..2 {
        sign_in().await;
    }
    assert_eq!(delete("/auth/sessions/others".into()).await, 204);
    sign_in().await;
    assert_eq!(delete("/auth/sessions/all".into()).await, 204);
    let ended = |sessions: u64| {
        let fields = json!({ "client_ip": "127.0.0.1", "account_id": id, "sessions": sessions });
        entry("session ended by another", fields)
    };
    assert_eq!(entries(&node, "session ended by another"), [ended(1), ended(2), ended(1)]);

    let mut own = node.client();
    own.set_token(Some(sign_in().await));
    own.sign_out().await.unwrap();
    assert_eq!(entries(&node, "session ended by another").len(), 3, "signing out is not another's doing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_message_is_logged_with_its_reason_and_its_peer() {
    let node = TestNode::start_with(&[PROXY]).await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let (bob, ann_id) = (peer.user("bob"), id_of(&ann).await);
    let invite = || {
        let kind = MessageType::FriendInvite;
        bob.signer.envelope(kind, &ann.handle(), JsonObject::new(), now(), &mut rand::rng())
    };
    let request = || peer.request(ann.handle().domain(), &invite().to_json());

    let mut forged = request();
    forged.signature = Some(format!("{}==", "A".repeat(86)));
    assert_eq!(forged.post().await.0, 401);
    let mut unknown = request();
    unknown.server_id = "localhost:1".into();
    assert_eq!(unknown.post().await.0, 401);
    let once = request();
    assert_eq!(once.post().await.0, 202);
    assert_eq!(once.post().await.0, 401, "the same request");
    let mut late = request();
    late.timestamp = "2020-01-01T00:00:00.000Z".into();
    assert_eq!(late.post().await.0, 401);
    let nobody = format!("nobody@{}", ann.handle().domain()).parse().unwrap();
    let lost =
        bob.signer.envelope(MessageType::FriendInvite, &nobody, JsonObject::new(), now(), &mut rand::rng());
    assert_eq!(peer.send(&lost).await.0, 400);
    let reject = bob.signer.envelope(
        MessageType::FriendReject,
        &ann.handle(),
        JsonObject::new(),
        now(),
        &mut rand::rng(),
    );
    assert_eq!(peer.send(&reject).await.0, 400, "ann has invited nobody");
    assert_eq!(peer.send(&invite()).await.0, 400, "an invitation is open");
    let domain = peer.domain().folded();
    node.process.run(&["peer", "block", &domain]).await.unwrap();
    // A running node notices within a second or two what an operator decides.
    crate::support::wait_for(
        "the peer is blocked",
        || async { request().post().await },
        |seen| seen.0 == 401,
    )
    .await;

    let refused = |peer: &str, reason: &str| {
        let fields = json!({ "client_ip": "127.0.0.1", "peer": peer, "reason": reason });
        entry("message refused", fields)
    };
    let auth = |reason: String| format!("Federation auth failed: {reason}");
    let mut not_invited = refused(&domain, "Invitation not found");
    not_invited["account_id"] = json!(ann_id);
    let expected = [
        refused(&domain, &auth(format!("Invalid server signature from {domain}"))),
        refused("localhost:1", &auth("Could not fetch the manifest of localhost:1".into())),
        refused(&domain, &auth("Replayed nonce".into())),
        refused(&domain, &auth("Timestamp outside acceptable skew".into())),
        refused(&domain, "Recipient not found"),
        not_invited,
        refused(&domain, &auth(format!("This server does not federate with {domain}"))),
    ];
    let seen = entries(&node, "message refused");
    let mut replayed = seen[2].clone();
    // Whose message it was is known only where it was read so far.
    replayed.as_object_mut().unwrap().remove("account_id");
    assert_eq!([&seen[..2], &[replayed], &seen[3..7]].concat(), expected);
    let reason = "Invitation already exists";
    let open = json!({ "client_ip": "127.0.0.1", "account_id": ann_id, "peer": domain, "reason": reason });
    let invitations = entries(&node, "invitation refused");
    assert_eq!(invitations[0], entry("invitation refused", open));
}

#[tokio::test]
async fn a_refused_invitation_is_logged_without_whom_it_was_for() {
    let node = TestNode::start_with(&[PROXY, ("VELLUM_INVITATIONS__PER_SERVER", "1")]).await;
    let (ann, bob, carl) = (node.person("ann").await, node.person("bob").await, node.person("carl").await);
    ann.invite(&carl.handle()).await;
    for (inviter, handle) in [
        (&ann, carl.handle().to_string()),
        (&bob, carl.handle().to_string()),
        (&bob, format!("nobody@{}", carl.handle().domain())),
    ] {
        let signed = inviter.signer().invite(&handle.parse().unwrap(), now(), &mut rand::rng());
        let mut body = crate::support::fields(&signed);
        body["handle"] = json!(handle);
        let (status, answer) = inviter.ask(Method::POST, "/friends/invite", body).await;
        assert_eq!(status, 400, "{answer}");
    }
    let refused = |id: String, reason: &str| {
        entry("invitation refused", json!({ "client_ip": "127.0.0.1", "account_id": id, "reason": reason }))
    };
    let expected = [
        refused(id_of(&ann).await, "already_invited"),
        refused(id_of(&bob).await, "too_many_invitations"),
        refused(id_of(&bob).await, "user_not_found"),
    ];
    assert_eq!(entries(&node, "invitation refused"), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_limit_refuses_is_logged_once_a_minute_for_each_source_and_limit() {
    let node = TestNode::start_with(&[
        PROXY,
        ("VELLUM_LIMITS__ENABLED", "true"),
        ("VELLUM_LIMITS__SIGN_IN_PER_MINUTE", "1"),
        ("VELLUM_LIMITS__RESOLVES_PER_MINUTE", "1"),
        ("VELLUM_LIMITS__INBOX_PER_SERVER_PER_MINUTE", "1"),
    ])
    .await;
    // The last two are in one network of an IPv6 customer.
    for ip in [HOME, ABROAD, "2001:db8::7", "2001:db8::8"] {
        for _ in 0..4 {
            enter(&node, ip, FIRST_ADMINISTRATOR, "12345678").await;
        }
    }
    let ann = node.person("ann").await;
    let id = id_of(&ann).await;
    let transfer = json!({ "receiverEphemeralPub": "receiver" });
    for _ in 0..3 {
        ann.ask(Method::GET, &format!("/friends/resolve/{}", ann.handle()), Value::Null).await;
        ann.ask(Method::POST, "/device-transfer", transfer.clone()).await;
    }
    for _ in 0..2 {
        ann.ask_for(429, Method::POST, "/device-transfer", transfer.clone()).await;
    }
    let peer = Peer::start().await;
    let bob = peer.user("bob");
    peer.invite(&bob, &ann.handle()).await;
    for _ in 0..3 {
        assert_eq!(peer.try_invite(&bob, &ann.handle()).await.0, 429);
    }

    let limited = |mut fields: Value, limit: &str| {
        fields["limit"] = json!(limit);
        entry("rate limited", fields)
    };
    let near = "127.0.0.1";
    let expected = [
        limited(json!({ "client_ip": HOME }), "sign-in"),
        limited(json!({ "client_ip": ABROAD }), "sign-in"),
        limited(json!({ "client_ip": "2001:db8::7" }), "sign-in"),
        limited(json!({ "client_ip": near, "account_id": id }), "resolves"),
        limited(json!({ "client_ip": near, "account_id": id }), "/device-transfer"),
        limited(json!({ "client_ip": near, "peer": peer.domain().folded() }), "inbox-server"),
    ];
    assert_eq!(entries(&node, "rate limited"), expected);
}

#[tokio::test]
async fn lines_for_people_have_the_same_facts() {
    let node = TestNode::start_with(&[PROXY, ("VELLUM_LOG__FORMAT", "pretty")]).await;
    assert_eq!(enter(&node, HOME, FIRST_ADMINISTRATOR, "12345678").await, 401);
    let log = std::fs::read_to_string(node.process.log_path()).unwrap();
    let line =
        log.lines().find(|line| line.contains("sign-in failed client_ip")).unwrap_or_else(|| panic!("{log}"));
    for fact in ["INFO", HOME, "account_id=", "method=\"code\"", "reason=\"no_code\""] {
        assert!(line.contains(fact), "{fact} is missing in {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fail2ban_bans_who_fails_to_sign_in_and_nobody_whom_they_name() {
    let node = TestNode::start_with(&[
        PROXY,
        ("VELLUM_LIMITS__ENABLED", "true"),
        ("VELLUM_LIMITS__SIGN_IN_PER_MINUTE", "1"),
    ])
    .await;
    let code = code_for(&node, FIRST_ADMINISTRATOR).await;
    assert_eq!(enter(&node, "203.0.113.77", FIRST_ADMINISTRATOR, &code).await, 201);
    assert_eq!(enter(&node, "203.0.113.88", FORGED, "12345678").await, 422, "no email address");
    for ip in [ABROAD, "2001:db8::7"] {
        assert_eq!(enter(&node, ip, "nobody@people.example", "12345678").await, 401);
        // The limit refuses these two, which are in one minute.
        assert_eq!(enter(&node, ip, "nobody@people.example", "12345678").await, 429);
        assert_eq!(enter(&node, ip, "nobody@people.example", "12345678").await, 429);
    }
    let log = node.process.log_path();
    let log = log.to_str().unwrap();
    let filter = concat!(env!("CARGO_MANIFEST_DIR"), "/config/fail2ban/filter.d/vellum.conf");
    let banned = |log: &str| -> Option<Vec<String>> {
        let output = run_tool("fail2ban-regex", &["--out", "ip", log, filter], "fail2ban")?;
        let text = String::from_utf8(output.stdout).unwrap();
        let mut found: Vec<String> =
            text.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect();
        found.sort();
        Some(found)
    };
    let Some(found) = banned(log) else { return };
    let expected = [ABROAD, ABROAD, "2001:db8::7", "2001:db8::7"];
    let lines = std::fs::read_to_string(log).unwrap();
    assert_eq!(found, expected, "in the log\n{lines}");
    // As the journal has them: a host and a process are in front, and the time is beside the line.
    let journal = format!("{log}.journal");
    let lines: String = lines.lines().map(|line| format!("host vellum[42]: {line}\n")).collect();
    std::fs::write(&journal, lines).unwrap();
    assert_eq!(banned(&journal).unwrap(), expected, "in the journal");
}
