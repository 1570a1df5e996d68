//! Passkeys, with an authenticator in software: registered, used, named, removed; and what must not work.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::{AUTHORIZATION, COOKIE, HeaderMap, ORIGIN, SET_COOKIE};
use serde_json::{Value, json};
use vellum_client::http::{Method, SessionToken};

use crate::support::{Authenticator, Person, TestNode, plain_http};

const APP: &str = "https://app.example";

/// A browser at the client's origin: it keeps the ceremony's cookie.
pub struct Browser {
    http: reqwest::Client,
    node: String,
    token: Option<SessionToken>,
    ticket: Option<String>,
}

pub struct Answer {
    pub status: u16,
    pub body: Value,
    headers: HeaderMap,
}

impl Browser {
    pub async fn at(node: &TestNode, person: Option<&Person>) -> Self {
        let token = match person {
            Some(person) => Some(person.client.current_session().await.unwrap().unwrap().token),
            None => None,
        };
        Self { http: plain_http(), node: node.process.origin(), token, ticket: None }
    }

    pub async fn post(&mut self, path: &str, body: &Value) -> Answer {
        let mut request = self.http.post(format!("{}{path}", self.node)).header(ORIGIN, APP).json(body);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        if let Some(ticket) = &self.ticket {
            request = request.header(COOKIE, ticket);
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let set = headers.get_all(SET_COOKIE).iter().map(|cookie| cookie.to_str().unwrap());
        if let Some(cookie) = set.into_iter().find(|cookie| cookie.starts_with("passkey_challenge=")) {
            self.ticket = cookie.split(';').next().map(str::to_owned);
        }
        Answer { status, body: answer.json().await.unwrap_or_default(), headers }
    }

    pub async fn options(&mut self, ceremony: &str) -> Value {
        let answer = self.post(&format!("/auth/passkeys/{ceremony}/options"), &json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    async fn register(&mut self, device: &mut Authenticator, name: &str) -> Answer {
        let options = self.options("register").await;
        let mut answer = device.create(&options);
        answer["name"] = json!(name);
        self.post("/auth/passkeys/register/verify", &answer).await
    }

    pub async fn sign_in(&mut self, device: &mut Authenticator) -> Answer {
        let options = self.options("authenticate").await;
        let answer = device.get(&options);
        self.post("/auth/passkeys/authenticate/verify", &answer).await
    }
}

pub async fn node() -> TestNode {
    TestNode::start_with(&[("VELLUM_HTTP__CLIENT_ORIGINS", APP)]).await
}

/// Somebody with a passkey, and the browser that they registered it with.
pub async fn with_passkey(node: &TestNode) -> (Person, Browser, Authenticator) {
    let ann = node.person("ann").await;
    let mut browser = Browser::at(node, Some(&ann)).await;
    let mut device = Authenticator::at(APP);
    let answer = browser.register(&mut device, "laptop").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    (ann, browser, device)
}

fn slot(device: &Authenticator) -> Value {
    json!({ "credentialId": device.credential_id(), "wrappedKm": "sealed", "slotSignature": "signed" })
}

#[tokio::test]
async fn a_passkey_is_registered_and_signs_its_owner_in() {
    let node = node().await;
    let (ann, mut registering, mut device) = with_passkey(&node).await;
    let listed = ann.ask(Method::GET, "/auth/passkeys", Value::Null).await.1;
    let passkey = &listed[0];
    assert_eq!(passkey["id"], device.credential_id());
    assert_eq!((&passkey["name"], &passkey["counter"]), (&json!("laptop"), &json!(0)));
    assert_eq!(passkey["transports"], json!(["internal", "hybrid"]));
    assert_eq!((&passkey["deviceType"], &passkey["backedUp"]), (&json!("singleDevice"), &json!(false)));
    assert!(passkey.get("credential").is_none() && passkey["lastUsedAt"].is_null());

    let mut browser = Browser::at(&node, None).await;
    let answer = browser.sign_in(&mut device).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert_eq!(answer.body["user"]["email"], "ann@people.example");
    let cookies: Vec<_> = answer.headers.get_all(SET_COOKIE).iter().collect();
    assert!(cookies.iter().any(|cookie| cookie.to_str().unwrap().starts_with("auth_session=")));
    browser.token = Some(SessionToken::new(answer.body["token"].as_str().unwrap().to_owned()).unwrap());
    assert_eq!(browser.post("/auth/passkeys/register/options", &json!({})).await.status, 200);

    let listed = ann.ask(Method::GET, "/auth/passkeys", Value::Null).await.1;
    assert_eq!(listed[0]["counter"], 1);
    assert!(listed[0]["lastUsedAt"].is_string());
    let again = registering.register(&mut device, "again").await;
    assert_eq!(again.status, 400, "the browser was told not to take this one");
    let bob = node.person("bob").await;
    let stolen = Browser::at(&node, Some(&bob)).await.register(&mut device, "mine").await;
    assert_eq!((stolen.status, &stolen.body["code"]), (409, &json!("passkey_exists")));
}

#[tokio::test]
async fn options_say_what_a_browser_and_a_client_need() {
    let node = node().await;
    let (_ann, mut browser, device) = with_passkey(&node).await;
    let salt = "MeCGtrfvVLrwofC6pnJ60BGjMbNpBl-cDomzyalFoHY";
    let options = browser.options("register").await;
    assert_eq!((&options["rp"]["id"], &options["attestation"]), (&json!("app.example"), &json!("none")));
    assert_eq!(options["authenticatorSelection"]["residentKey"], "required");
    assert_eq!(options["authenticatorSelection"]["requireResidentKey"], true);
    assert_eq!(options["authenticatorSelection"]["userVerification"], "required");
    assert_eq!(options["excludeCredentials"][0]["id"], device.credential_id());
    assert_eq!(options["extensions"]["prf"]["eval"]["first"], salt);
    let options = browser.options("authenticate").await;
    assert_eq!((&options["rpId"], &options["userVerification"]), (&json!("app.example"), &json!("required")));
    assert_eq!(options["allowCredentials"], json!([]));
    assert_eq!(options["extensions"]["prf"]["eval"]["first"], salt);
    let ticket = browser.ticket.take().unwrap();
    assert!(!ticket.is_empty());
}

#[tokio::test]
async fn a_replayed_answer_signs_nobody_in() {
    let node = node().await;
    let (_ann, _, mut device) = with_passkey(&node).await;
    let mut browser = Browser::at(&node, None).await;
    let options = browser.options("authenticate").await;
    let ticket = browser.ticket.clone();
    let answer = device.get(&options);
    let verify = "/auth/passkeys/authenticate/verify";
    assert_eq!(browser.post(verify, &answer).await.status, 201);
    browser.ticket = ticket;
    let again = browser.post(verify, &answer).await;
    assert_eq!((again.status, &again.body["code"]), (401, &json!("passkey_refused")));

    // Not with a fresh ceremony's ticket either.
    browser.options("authenticate").await;
    assert_eq!(browser.post(verify, &answer).await.status, 401);
}

#[tokio::test]
async fn wrong_answers_are_refused() {
    let node = node().await;
    let (_ann, _, mut device) = with_passkey(&node).await;
    let mut browser = Browser::at(&node, None).await;
    let verify = "/auth/passkeys/authenticate/verify";

    device.origin = "https://evil.example".to_owned();
    assert_eq!(browser.sign_in(&mut device).await.status, 401, "another origin");
    device.origin = APP.to_owned();

    let mut options = browser.options("authenticate").await;
    options["challenge"] = json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(browser.post(verify, &device.get(&options)).await.status, 401, "another challenge");

    let mut options = browser.options("authenticate").await;
    options["rpId"] = json!("evil.example");
    assert_eq!(browser.post(verify, &device.get(&options)).await.status, 401, "another site");

    device.flags = 0x01;
    assert_eq!(browser.sign_in(&mut device).await.status, 401, "nobody verified");
    device.flags = 0x05;

    let options = browser.options("authenticate").await;
    browser.ticket = None;
    assert_eq!(browser.post(verify, &device.get(&options)).await.status, 401, "without the ticket");

    let options = browser.options("authenticate").await;
    let mut answer = device.get(&options);
    answer["response"]["signature"] = Authenticator::at(APP).get(&options)["response"]["signature"].clone();
    assert_eq!(browser.post(verify, &answer).await.status, 401, "another key's signature");

    let options = browser.options("authenticate").await;
    let answer = Authenticator::at(APP).get(&options);
    assert_eq!(browser.post(verify, &answer).await.status, 401, "an unknown passkey");
    for (field, within) in [("userHandle", true), ("authenticatorAttachment", false)] {
        let options = browser.options("authenticate").await;
        let mut answer = device.get(&options);
        *if within { &mut answer["response"][field] } else { &mut answer[field] } = Value::Null;
        assert_eq!(browser.post(verify, &answer).await.status, 401, "{field} left out");
    }
    let refused = browser.post(verify, &json!({})).await;
    assert_eq!((refused.status, &refused.body["code"]), (422, &json!("validation_failed")));

    assert_eq!(browser.sign_in(&mut device).await.status, 201, "and a right one is taken");
}

#[tokio::test]
async fn a_counter_that_went_back_is_refused() {
    let node = node().await;
    let (_ann, _, mut device) = with_passkey(&node).await;
    let mut browser = Browser::at(&node, None).await;
    device.counter = 10;
    assert_eq!(browser.sign_in(&mut device).await.status, 201);
    for copy in [3, 10] {
        device.counter = copy;
        assert_eq!(browser.sign_in(&mut device).await.status, 401, "11 was seen already");
    }
    device.counter = 11;
    assert_eq!(browser.sign_in(&mut device).await.status, 201);
}

#[tokio::test]
async fn a_registration_belongs_to_whoever_began_it() {
    let node = node().await;
    let (ann, bob) = (node.person("ann").await, node.person("bob").await);
    let (mut anns, mut bobs) = (Browser::at(&node, Some(&ann)).await, Browser::at(&node, Some(&bob)).await);
    let mut device = Authenticator::at(APP);
    let options = anns.options("register").await;
    bobs.ticket.clone_from(&anns.ticket);
    let answer = device.create(&options);
    let refused = bobs.post("/auth/passkeys/register/verify", &answer).await;
    assert_eq!((refused.status, &refused.body["code"]), (400, &json!("registration_refused")));
    let over = anns.post("/auth/passkeys/register/verify", &answer).await;
    assert_eq!(over.status, 400, "the ceremony has ended with the first answer");
    // An answer to signing in is none to registering.
    let options = anns.options("authenticate").await;
    assert_eq!(
        anns.post("/auth/passkeys/register/verify", &device.create(&options_of(&options))).await.status,
        400
    );
    assert_eq!(ann.ask(Method::GET, "/auth/passkeys", Value::Null).await.1, json!([]));
}

/// Sign-in options dressed up as registration options.
fn options_of(options: &Value) -> Value {
    json!({ "user": { "id": "AAAA" }, "rp": { "id": "app.example" }, "challenge": options["challenge"] })
}

#[tokio::test]
async fn a_passkey_opens_a_slot_which_goes_with_it() {
    let node = node().await;
    let (ann, mut browser, device) = with_passkey(&node).await;
    let id = device.credential_id();
    let none = browser.post("/auth/passkeys/prf-assert/options", &json!({})).await;
    assert_eq!((none.status, &none.body["code"]), (404, &json!("passkey_not_found")), "no slot yet");
    ann.ask_for(201, Method::POST, "/users/me/wrapped-keys", slot(&device)).await;
    for path in
        ["/auth/passkeys/prf-assert/options".to_owned(), format!("/auth/passkeys/{id}/prf-enroll/options")]
    {
        let options = browser.post(&path, &json!({})).await;
        assert_eq!(options.status, 200, "{}", options.body);
        assert_eq!(options.body["allowCredentials"][0]["id"], id.as_str());
        assert!(options.body["extensions"]["prf"]["eval"]["first"].is_string());
    }
    let unknown = browser.post("/auth/passkeys/AAAA/prf-enroll/options", &json!({})).await;
    assert_eq!(unknown.status, 404);

    let path = format!("/auth/passkeys/{id}");
    let renamed = ann.ask(Method::PATCH, &path, json!({ "name": "desk" })).await;
    assert_eq!((renamed.0, &renamed.1["name"]), (200, &json!("desk")));
    ann.ask_for(422, Method::PATCH, &path, json!({})).await;
    let bob = node.person("bob").await;
    bob.ask_for(404, Method::PATCH, &path, json!({ "name": "mine" })).await;
    bob.ask_for(404, Method::DELETE, &path, Value::Null).await;

    ann.ask_for(200, Method::DELETE, &path, Value::Null).await;
    ann.ask_for(404, Method::DELETE, &path, Value::Null).await;
    let slots = ann.ask(Method::GET, "/users/me/wrapped-keys", Value::Null).await.1;
    assert_eq!(slots, json!({ "slots": [], "total": 0 }));
    let audit = ann.ask(Method::GET, "/users/me/audit", Value::Null).await.1.to_string();
    for event in ["passkey_added", "passkey_removed", "slot_put", "slot_deleted"] {
        assert!(audit.contains(event), "{event} in {audit}");
    }
}

#[tokio::test]
async fn passkeys_outlive_a_reset() {
    let node = node().await;
    let (ann, _, mut device) = with_passkey(&node).await;
    let confirm = json!({ "confirm": "erase-all-my-data" });
    ann.ask_for(200, Method::POST, "/users/me/identity/reset", confirm).await;
    assert_eq!(Browser::at(&node, None).await.sign_in(&mut device).await.status, 201);
}

#[tokio::test]
async fn a_site_without_a_name_has_no_passkeys() {
    let node = TestNode::start_with(&[("VELLUM_HTTP__CLIENT_ORIGINS", "https://192.0.2.1")]).await;
    let mut browser = Browser::at(&node, None).await;
    let answer = browser.post("/auth/passkeys/authenticate/options", &json!({})).await;
    assert_eq!((answer.status, &answer.body["code"]), (400, &json!("passkeys_unavailable")));
}

/// The name of a passkey that is registered with this name, in the browser's answer as `change`
/// makes it.
async fn registered(
    browser: &mut Browser,
    device: &mut Authenticator,
    name: Value,
    transports: Value,
) -> Value {
    let options = browser.options("register").await;
    let mut answer = device.create(&options);
    answer["name"] = name;
    answer["response"]["transports"] = transports;
    let made = browser.post("/auth/passkeys/register/verify", &answer).await;
    assert_eq!(made.status, 200, "{}", made.body);
    made.body["name"].clone()
}

#[tokio::test]
async fn an_empty_name_is_none_and_one_is_derived_from_the_authenticator() {
    let node = node().await;
    let ann = node.person("ann").await;
    let mut browser = Browser::at(&node, Some(&ann)).await;
    let (inside, usb) = (json!(["internal", "hybrid"]), json!(["nfc", "usb"]));
    let bitwarden = 0xd548_826e_79b4_db40_a3d8_1111_6f7e_8349_u128.to_be_bytes();
    for (name, transports, aaguid, expected) in [
        (json!(""), inside.clone(), [0; 16], "Built-in passkey"),
        (Value::Null, inside.clone(), [0; 16], "Built-in passkey 2"),
        (json!("  "), inside.clone(), [0; 16], "Built-in passkey 3"),
        (json!(""), usb, [0; 16], "Security key"),
        (json!(""), json!(["hybrid"]), [0; 16], "Phone"),
        (json!(""), Value::Null, [0; 16], "Passkey"),
        (json!(""), inside.clone(), bitwarden, "Bitwarden"),
        (json!(""), inside.clone(), bitwarden, "Bitwarden 2"),
        (json!(" my phone "), inside.clone(), bitwarden, "my phone"),
        (json!(""), inside, [7; 16], "Built-in passkey 4"),
    ] {
        let mut device = Authenticator::at(APP);
        device.aaguid = aaguid;
        let named = registered(&mut browser, &mut device, name.clone(), transports).await;
        assert_eq!(named, expected, "for {name}");
    }
    let listed = ann.ask(Method::GET, "/auth/passkeys", Value::Null).await.1;
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["name"]), (10, &json!("Built-in passkey")));
    let path = format!("/auth/passkeys/{}", listed[0]["id"].as_str().unwrap());
    assert_eq!(ann.ask(Method::PATCH, &path, json!({ "name": "desk" })).await.1["name"], "desk");
    assert_eq!(ann.ask(Method::PATCH, &path, json!({ "name": "" })).await.1["name"], Value::Null);
    let options = browser.options("register").await;
    let mut answer = Authenticator::at(APP).create(&options);
    answer["name"] = json!("x".repeat(201));
    let refused = browser.post("/auth/passkeys/register/verify", &answer).await;
    assert_eq!((refused.status, &refused.body["code"]), (422, &json!("validation_failed")));
}

#[tokio::test]
async fn a_passkey_whose_manager_begins_or_ceases_to_synchronize_stays_usable() {
    const VERIFIED: u8 = 0x05;
    const ELIGIBLE: u8 = 0x08;
    const BACKED_UP: u8 = 0x10;
    let node = node().await;
    let (ann, _, mut device) = with_passkey(&node).await;
    let mut browser = Browser::at(&node, None).await;
    let stored = async || {
        let listed = ann.ask(Method::GET, "/auth/passkeys", Value::Null).await.1;
        (listed[0]["deviceType"].as_str().unwrap().to_owned(), listed[0]["backedUp"].as_bool().unwrap())
    };
    assert_eq!(stored().await, ("singleDevice".to_owned(), false));
    for (flags, kind, backed_up) in [
        (ELIGIBLE, "multiDevice", false),
        (ELIGIBLE | BACKED_UP, "multiDevice", true),
        (0, "singleDevice", false),
        // Both at once, as when a manager takes over.
        (ELIGIBLE | BACKED_UP, "multiDevice", true),
        (ELIGIBLE, "multiDevice", false),
    ] {
        device.flags = VERIFIED | flags;
        let answer = browser.sign_in(&mut device).await;
        assert_eq!(answer.status, 201, "flags {flags:#x}: {}", answer.body);
        assert_eq!(stored().await, (kind.to_owned(), backed_up), "flags {flags:#x}");
    }
    device.flags = VERIFIED | BACKED_UP;
    assert_eq!(browser.sign_in(&mut device).await.status, 401, "backed up, and cannot be");

    // The flags are under the signature: nobody changes them on the way.
    device.flags = VERIFIED | ELIGIBLE;
    let options = browser.options("authenticate").await;
    let mut answer = device.get(&options);
    let data = answer["response"]["authenticatorData"].as_str().unwrap();
    let mut data = URL_SAFE_NO_PAD.decode(data).unwrap();
    data[32] &= !ELIGIBLE;
    answer["response"]["authenticatorData"] = json!(URL_SAFE_NO_PAD.encode(data));
    assert_eq!(browser.post("/auth/passkeys/authenticate/verify", &answer).await.status, 401);
    assert_eq!(stored().await, ("multiDevice".to_owned(), false), "a refused answer changes nothing");
}

/// The cookies of one browser, which all of its tabs have.
#[derive(Default)]
struct Jar(Vec<(String, String)>);

impl Jar {
    fn keep(&mut self, answer: &Answer) {
        for cookie in answer.headers.get_all(SET_COOKIE) {
            let (pair, attributes) = cookie.to_str().unwrap().split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if !attributes.contains("Path=/auth/passkeys") {
                continue;
            }
            match self.0.iter_mut().find(|(known, _)| known == name) {
                Some(known) => value.clone_into(&mut known.1),
                None => self.0.push((name.to_owned(), value.to_owned())),
            }
            if attributes.contains("Max-Age=0") {
                self.0.retain(|(known, _)| known != name);
            }
        }
    }

    fn sent(&self) -> Option<String> {
        let pairs: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// Posts from a tab.
    async fn post(&mut self, tab: &mut Browser, path: &str, body: &Value) -> Answer {
        tab.ticket = self.sent();
        let answer = tab.post(path, body).await;
        self.keep(&answer);
        answer
    }
}

const SIGN_IN_OPTIONS: &str = "/auth/passkeys/authenticate/options";
const SIGN_IN: &str = "/auth/passkeys/authenticate/verify";

#[tokio::test]
async fn ceremonies_in_several_tabs_do_not_disturb_each_other() {
    let node = node().await;
    let (ann, _, mut device) = with_passkey(&node).await;
    let (mut jar, mut tab) = (Jar::default(), Browser::at(&node, None).await);
    let first = jar.post(&mut tab, SIGN_IN_OPTIONS, &json!({})).await.body;
    let second = jar.post(&mut tab, SIGN_IN_OPTIONS, &json!({})).await.body;
    let (first, second) = (device.get(&first), device.get(&second));
    for answer in [&first, &second] {
        let signed_in = jar.post(&mut tab, SIGN_IN, answer).await;
        assert_eq!(signed_in.status, 201, "{}", signed_in.body);
    }
    assert_eq!(jar.sent(), None, "tickets that are used are taken away");

    // Both begin at the same moment: neither request has a cookie yet.
    let (mut one, mut other) = (Browser::at(&node, None).await, Browser::at(&node, None).await);
    let body = json!({});
    let (one, other) = tokio::join!(one.post(SIGN_IN_OPTIONS, &body), other.post(SIGN_IN_OPTIONS, &body));
    jar.keep(&one);
    jar.keep(&other);
    let kept = jar.sent();
    let answers = [device.get(&one.body), device.get(&other.body)];
    for answer in &answers {
        assert_eq!(jar.post(&mut tab, SIGN_IN, answer).await.status, 201);
    }

    // What protects a ceremony does so as before: an answer counts once, and in no other browser.
    for answer in &answers {
        tab.ticket.clone_from(&kept);
        let again = tab.post(SIGN_IN, answer).await;
        assert_eq!((again.status, &again.body["code"]), (401, &json!("passkey_refused")));
    }
    let begun = jar.post(&mut tab, SIGN_IN_OPTIONS, &json!({})).await.body;
    let mut elsewhere = Browser::at(&node, None).await;
    elsewhere.options("authenticate").await;
    assert_eq!(elsewhere.post(SIGN_IN, &device.get(&begun)).await.status, 401, "it has another's tickets");

    // Registering in one tab, signing in in another.
    let mut own = Browser::at(&node, Some(&ann)).await;
    let options = jar.post(&mut own, "/auth/passkeys/register/options", &json!({})).await.body;
    let begun = jar.post(&mut tab, SIGN_IN_OPTIONS, &json!({})).await.body;
    let mut new = Authenticator::at(APP);
    let made = jar.post(&mut own, "/auth/passkeys/register/verify", &new.create(&options)).await;
    assert_eq!(made.status, 200, "{}", made.body);
    assert_eq!(jar.post(&mut tab, SIGN_IN, &device.get(&begun)).await.status, 201);
}

#[tokio::test]
async fn a_browser_keeps_a_bounded_number_of_tickets() {
    let node = node().await;
    let (_ann, _, mut device) = with_passkey(&node).await;
    let (mut jar, mut tab) = (Jar::default(), Browser::at(&node, None).await);
    let mut begun = Vec::new();
    for _ in 0..20 {
        begun.push(jar.post(&mut tab, SIGN_IN_OPTIONS, &json!({})).await.body);
        assert!(jar.0.len() <= 9, "{:?}", jar.0);
    }
    let status =
        async |jar: &mut Jar, tab: &mut Browser, answer: Value| jar.post(tab, SIGN_IN, &answer).await.status;
    assert_eq!(status(&mut jar, &mut tab, device.get(&begun[0])).await, 401, "the oldest is given up");
    for options in &begun[12..] {
        assert_eq!(status(&mut jar, &mut tab, device.get(options)).await, 201, "the newest eight work");
    }
}
