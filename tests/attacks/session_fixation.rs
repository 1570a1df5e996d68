//! The attacker can plant a cookie in the victim's browser (from a sibling domain, or a shared computer) and
//! waits for the victim to sign in, so that the planted session becomes the victim's; or signs the victim in
//! to the *attacker's* account from a page of another site, so that the victim's secrets go there. Neither
//! works: signing in makes a token that nobody has seen, whatever came with the request, and a page of an
//! unknown origin gets no cookie set.

use reqwest::Response;
use reqwest::header::{COOKIE, ORIGIN, SET_COOKIE};
use serde_json::{Value, json};

use crate::support::{TestNode, plain_http};

const APP: &str = "https://app.example";
/// The tests sign in to one account more than twice.
const EMAILS: (&str, &str) = ("VELLUM_AUTH__EMAILS_AT_ONCE", "10");

async fn sign_in(node: &TestNode, name: &str, headers: &[(&str, &str)]) -> Response {
    let email = format!("{name}@people.example");
    let known = node.process.letters().len();
    node.client().request_code(&email).await.unwrap();
    let code = node.process.newest_code(known).await.unwrap();
    let body = json!({ "method": "otp", "email": email, "token": code });
    let mut request = plain_http().post(format!("{}/auth/sessions", node.process.origin())).json(&body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

fn cookie_of(answer: &Response) -> Option<String> {
    let cookies = answer.headers().get_all(SET_COOKIE).iter().map(|cookie| cookie.to_str().unwrap());
    let set = cookies.into_iter().find_map(|cookie| cookie.strip_prefix("auth_session="))?;
    set.split(';').next().map(str::to_owned)
}

async fn whose(node: &TestNode, token: &str) -> Value {
    let request = plain_http().get(format!("{}/auth/sessions/current", node.process.origin()));
    let answer = request.header(COOKIE, format!("auth_session={token}")).send().await.unwrap();
    answer.json::<Value>().await.map_or(Value::Null, |current| current["user"]["email"].clone())
}

#[tokio::test]
async fn a_planted_cookie_never_becomes_the_session_of_whoever_signs_in_over_it() {
    let node = TestNode::start_with(&[EMAILS]).await;
    let (ann, mallory) = (node.user("ann").await, node.user("mallory").await);
    drop(ann);
    let mallorys = mallory.client.token().unwrap().expose().to_owned();
    for planted in ["chosen-by-mallory", &"0".repeat(64), &mallorys] {
        let headers = [(COOKIE.as_str(), format!("auth_session={planted}"))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let answer = sign_in(&node, "ann", &headers).await;
        assert_eq!(answer.status(), 201);
        let fresh = cookie_of(&answer).expect("a cookie of the node's own making");
        assert_eq!(fresh.len(), 64);
        assert_ne!(fresh, planted);
        assert_eq!(whose(&node, &fresh).await, "ann@people.example");
        assert_ne!(whose(&node, planted).await, "ann@people.example");
    }
    assert_eq!(whose(&node, &mallorys).await, "mallory@people.example", "it is still who it was");
}

#[tokio::test]
async fn every_signing_in_makes_another_token_and_none_is_taken_from_the_request() {
    let node = TestNode::start_with(&[EMAILS]).await;
    node.user("ann").await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(cookie_of(&sign_in(&node, "ann", &[]).await).unwrap());
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn a_page_of_another_site_cannot_sign_its_visitor_in_to_the_attackers_account() {
    let node = TestNode::start_with(&[EMAILS, ("VELLUM_HTTP__CLIENT_ORIGINS", APP)]).await;
    node.user("mallory").await;
    for origin in ["https://evil.example", "null", "https://app.example.evil.example"] {
        let answer = sign_in(&node, "mallory", &[(ORIGIN.as_str(), origin)]).await;
        assert_eq!(cookie_of(&answer), None, "{origin}: {}", answer.status());
    }
    let own = node.process.origin();
    for origin in [APP, &own] {
        let answer = sign_in(&node, "mallory", &[(ORIGIN.as_str(), origin)]).await;
        assert!(cookie_of(&answer).is_some(), "{origin}: {}", answer.status());
    }
    let answer = sign_in(&node, "mallory", &[]).await;
    assert!(cookie_of(&answer).is_some(), "who is no browser says no origin");
}
