//! One-time codes, sessions, the cookie.

use reqwest::header::{COOKIE, ORIGIN, SET_COOKIE};
use serde_json::{Value, json};
use vellum::node::FIRST_ADMINISTRATOR;
use vellum_client::http::Method;
#[cfg(debug_assertions)]
use vellum_protocol::Timestamp;

#[cfg(debug_assertions)]
use crate::support::{Person, Steered};
use crate::support::{PostOffice, TestNode, wait_for};

async fn code_for(node: &TestNode, email: &str) -> String {
    let known = node.process.letters().len();
    node.client().request_code(email).await.unwrap();
    node.process.newest_code(known).await.unwrap()
}

#[tokio::test]
async fn a_code_from_a_letter_opens_a_session_once() {
    let node = TestNode::start().await;
    let code = code_for(&node, FIRST_ADMINISTRATOR).await;
    let mut client = node.client();
    let user = client.sign_in_with_code(FIRST_ADMINISTRATOR, &code).await.unwrap();
    assert_eq!(user.email, FIRST_ADMINISTRATOR);
    let current = client.current_session().await.unwrap().unwrap();
    assert!(current.subscription.is_premium && current.subscription.tier == "premium");
    assert_eq!(current.user.roles[0].id, "admin");
    assert!(current.user.permissions.iter().any(|permission| permission == "users:create"));
    assert!(current.session.ip.as_deref() == Some("127.0.0.1"));

    let again = node.client().sign_in_with_code(FIRST_ADMINISTRATOR, &code).await.unwrap_err();
    assert_eq!(again.problem().map(|problem| problem.status), Some(401));
}

#[tokio::test]
async fn three_codes_work_at_the_same_time_and_a_fourth_replaces_the_oldest() {
    let node = TestNode::start_with(&[("VELLUM_AUTH__EMAILS_AT_ONCE", "4")]).await;
    let mut codes = Vec::new();
    for _ in 0..4 {
        codes.push(code_for(&node, FIRST_ADMINISTRATOR).await);
    }
    let mut client = node.client();
    let refused = client.sign_in_with_code(FIRST_ADMINISTRATOR, &codes[0]).await.unwrap_err();
    assert_eq!(refused.code(), Some("wrong_code"), "the oldest gave way");
    for code in &codes[1..] {
        client.sign_in_with_code(FIRST_ADMINISTRATOR, code).await.expect("using one leaves the others");
        let again = client.sign_in_with_code(FIRST_ADMINISTRATOR, code).await.unwrap_err();
        assert_eq!(again.code(), Some("wrong_code"), "each works once");
    }
}

#[tokio::test]
async fn known_and_unknown_addresses_get_the_same_answers() {
    let node = TestNode::start().await;
    let ask = async |path: &str, body: Value| {
        node.client().request_json(Method::POST, path, Some(&body)).await.unwrap()
    };
    let unknown = "nobody@people.example";
    assert_eq!(ask("/auth/verify", json!({ "email": unknown })).await, (201, Value::Null));
    assert_eq!(ask("/auth/verify", json!({ "email": FIRST_ADMINISTRATOR })).await, (201, Value::Null));
    node.process.newest_code(0).await.unwrap();
    assert_eq!(node.process.letters().len(), 1, "the stranger, who asked first, gets none");
    let with_code = |email: &str| json!({ "method": "otp", "email": email, "token": "12345678" });
    let refused = ask("/auth/sessions", with_code(unknown)).await;
    assert_eq!(refused, ask("/auth/sessions", with_code(FIRST_ADMINISTRATOR)).await);
    assert_eq!(refused.0, 401);
    for body in [json!({}), json!({ "email": "no address" }), json!({ "email": 4 })] {
        assert_eq!(ask("/auth/verify", body).await.0, 422);
    }
}

#[tokio::test]
async fn open_registration_makes_an_account_for_whoever_has_the_code() {
    let node = TestNode::start_with(&[("VELLUM_AUTH__REGISTRATION", "open")]).await;
    let code = code_for(&node, "New.Person@People.example").await;
    let mut client = node.client();
    let user = client.sign_in_with_code("new.person@people.example", &code).await.unwrap();
    assert_eq!(user.roles[0].id, "user");
    assert!(!user.permissions.iter().any(|permission| permission == "users:read"));
}

#[tokio::test]
async fn a_letter_goes_to_the_accounts_own_address_however_it_was_typed() {
    let node = TestNode::start().await;
    node.user("kim").await;
    code_for(&node, "KIM@People.Example").await;
    let letter = std::fs::read_to_string(node.process.letters().pop().unwrap()).unwrap();
    assert!(letter.contains("To: kim@people.example"), "{letter}");
    // The Kelvin sign is a k in lower case, and its address somebody else's.
    let typed = "\u{212a}im@people.example";
    let _ = node.client().request_code(typed).await;
    for letter in node.process.letters() {
        assert!(!std::fs::read_to_string(letter).unwrap().contains('\u{212a}'), "sent to a stranger");
    }
}

#[tokio::test]
async fn an_ended_session_is_over_and_only_ones_own_can_be_ended() {
    let node = TestNode::start().await;
    let (ann, ben) = (node.user("ann").await, node.user("ben").await);
    let session = ann.client.current_session().await.unwrap().unwrap().session;
    let (status, problem) =
        ben.ask(Method::DELETE, &format!("/auth/sessions/{}", session.id), Value::Null).await;
    assert_eq!((status, problem["code"].as_str()), (404, Some("session_not_found")));
    assert!(ann.client.current_session().await.unwrap().is_some());
    ann.client.end_session(&session.id).await.unwrap();
    assert!(ann.client.current_session().await.unwrap().is_none(), "204 when nobody is signed in");
    ann.ask_for(401, Method::GET, "/users/me/identity", Value::Null).await;
}

#[tokio::test]
async fn a_cookie_signs_in_but_changes_nothing_for_another_sites_page() {
    let node = TestNode::start_with(&[("VELLUM_HTTP__CLIENT_ORIGINS", "https://app.example")]).await;
    let code = code_for(&node, FIRST_ADMINISTRATOR).await;
    let origin = node.process.origin();
    // What the client crate needs, a plain one needs too.
    let _ = node.client();
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let body = json!({ "method": "otp", "email": FIRST_ADMINISTRATOR, "token": code });
    let answer = http.post(format!("{origin}/auth/sessions")).json(&body).send().await.unwrap();
    let cookie = answer.headers()[SET_COOKIE].to_str().unwrap().to_owned();
    for part in ["auth_session=", "HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let cookie = cookie.split(';').next().unwrap().to_owned();

    let read = http.get(format!("{origin}/users/me/identity")).header(COOKIE, &cookie).send().await.unwrap();
    assert_eq!(read.status(), 200, "reading needs no origin");
    let set = |from: Option<&str>| {
        let mut request = http.patch(format!("{origin}/users/me/alias")).header(COOKIE, &cookie);
        if let Some(from) = from {
            request = request.header(ORIGIN, from);
        }
        request.json(&json!({ "alias": "administrator" })).send()
    };
    assert_eq!(set(None).await.unwrap().status(), 403);
    assert_eq!(set(Some("https://evil.example")).await.unwrap().status(), 403);
    assert_eq!(set(Some("https://app.example")).await.unwrap().status(), 200);
    assert_eq!(set(Some(&origin)).await.unwrap().status(), 200);
}

#[tokio::test]
async fn letters_go_by_smtp_where_it_is_set_up_in_the_readers_language() {
    let office = PostOffice::open().await;
    let node = TestNode::start_with(&[("VELLUM_MAIL__SMTP_URL", &office.url())]).await;
    let ann = node.user("ann").await;
    let email = "ann@people.example";
    for (language, word) in [("en-US", "sign in"), ("es-ES", "entrar en")] {
        let preferred = ann.ask(Method::PUT, "/users/me/preferences", json!({ "language": language })).await;
        assert_eq!(preferred.0, 200);
        let known = office.letters().len();
        node.client().request_code(email).await.unwrap();
        let letters = wait_for("the letter arrives", || async { office.letters() }, |all| all.len() > known);
        let letter = letters.await.remove(known);
        assert!(letter.contains(word) && letter.contains("To: ann@people.example"), "{letter}");
        assert!(letter.contains("text/plain") && letter.contains("text/html"));
        let code = letter
            .lines()
            .find(|line| line.len() == 8 && line.bytes().all(|byte| byte.is_ascii_digit()))
            .unwrap();
        assert!(node.client().sign_in_with_code(email, code).await.is_ok());
    }
    assert!(node.process.letters().is_empty(), "none is written to the folder");
}

/// Settings of a node that sends any number of emails to one address.
fn many_emails(smtp_url: &str) -> [(&str, &str); 2] {
    [("VELLUM_MAIL__SMTP_URL", smtp_url), ("VELLUM_AUTH__EMAILS_AT_ONCE", "10000")]
}

async fn asked(node: &TestNode, email: &str) -> (u16, Value) {
    let body = json!({ "email": email });
    node.client().request_json(Method::POST, "/auth/verify", Some(&body)).await.unwrap()
}

#[tokio::test]
async fn no_answer_waits_for_the_mail_server_and_a_full_post_refuses_everybody_alike() {
    let office = PostOffice::closed().await;
    let node = TestNode::start_with(&many_emails(&office.url())).await;
    node.user("ann").await;
    assert_eq!(asked(&node, "ann@people.example").await, (201, Value::Null));
    assert!(office.letters().is_empty(), "answered although the letter cannot have gone");
    let mut refusal = None;
    for _ in 0..400 {
        let (status, answer) = asked(&node, "ann@people.example").await;
        if status != 201 {
            refusal = Some((status, answer));
            break;
        }
    }
    let refusal = refusal.expect("letters that nobody takes are not kept without end");
    assert_eq!((refusal.0, refusal.1["code"].as_str()), (503, Some("unavailable")));
    assert_eq!(asked(&node, "nobody@people.example").await, refusal);
    office.open_up();
    wait_for("letters go again", || async { office.letters().len() }, |seen| *seen > 100).await;
    wait_for("codes are sent again", || asked(&node, "nobody@people.example"), |seen| seen.0 == 201).await;
}

#[tokio::test]
async fn a_stopping_node_still_hands_over_the_letters_that_it_has_taken() {
    let office = PostOffice::closed().await;
    let mut node = TestNode::start_with(&many_emails(&office.url())).await;
    node.user("ann").await;
    for _ in 0..6 {
        assert_eq!(asked(&node, "ann@people.example").await.0, 201);
    }
    let address = node.process.origin().replace("http://localhost", "127.0.0.1");
    let stop = node.process.stop();
    let open = async {
        wait_for(
            "the node takes no more requests",
            || async { tokio::net::TcpStream::connect(&address).await },
            |seen| seen.is_err(),
        )
        .await
        .unwrap_err();
        assert!(office.letters().is_empty());
        office.open_up();
    };
    let (stopped, ()) = tokio::join!(stop, open);
    stopped.unwrap();
    assert_eq!(office.letters().len(), 6);
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn a_session_in_use_lasts_and_one_that_nobody_uses_ends_after_thirty_days() {
    const DAY: i64 = 86_400_000;
    /// The time after which a session that nobody uses is over.
    const SESSION_DAYS: i64 = 30;
    let steered = Steered::start(&[]).await;
    let used = steered.node.user("ann").await;
    let mut other = steered.node.client();
    other.set_token(Some(steered.node.token("ann@people.example").await));
    let unused = Person::new(other);
    let identity = async |person: &Person| person.ask(Method::GET, "/users/me/identity", Value::Null).await.0;
    // Each time in the session's second half.
    for day in [16, 32, 48, 64] {
        steered.after(day * DAY);
        assert_eq!(identity(&used).await, 200, "on day {day}, 16 days after its last use");
    }
    let sessions = used.ask(Method::GET, "/auth/sessions", Value::Null).await.1;
    let listed = sessions.as_array().unwrap();
    assert_eq!(listed.len(), 1, "the one in use: {sessions}");
    let [begun, end] = ["createdAt", "expiresAt"].map(|name| {
        let text = listed[0][name].as_str().unwrap_or_else(|| panic!("no {name} in {sessions}"));
        Timestamp::parse(text).unwrap().instant()
    });
    // The node has needed some seconds for its answers.
    let days = (end.since(begun) + DAY / 2) / DAY;
    assert_eq!(days, 64 + SESSION_DAYS, "days from sign-in to the end, last used on day 64: {sessions}");
    assert_eq!(identity(&unused).await, 401, "nobody used it for 64 days");
    steered.after((64 + SESSION_DAYS + 1) * DAY);
    assert_eq!(identity(&used).await, 401, "nobody used it for more than {SESSION_DAYS} days");
}
