//! The attacker has a copy of somebody's session token, and of the wrap secret that the session could read.
//! As long as the session lasts, that is everything that its owner may do. It has to end at the moment when
//! the owner ends it, in whichever way, for every use at once; and what the secret opened on the lost device
//! must not open with the node's help any more. Sessions are looked up in the database for every request, so
//! there is nothing that could still remember an ended one.

use futures_util::StreamExt;
use reqwest::header::{AUTHORIZATION, COOKIE, ORIGIN};
use serde_json::{Value, json};
use vellum_client::http::Method;

use crate::support::{Person, TestNode, plain_http};

/// The copy of a token.
struct Thief {
    origin: String,
    token: String,
}

impl Thief {
    fn of(node: &TestNode, victim: &Person) -> Self {
        Self { origin: node.process.origin(), token: victim.client.token().unwrap().expose().to_owned() }
    }

    /// What every use of the token is answered.
    async fn tries(&self) -> [u16; 5] {
        let url = |path: &str| format!("{}{path}", self.origin);
        let bearer = format!("Bearer {}", self.token);
        let cookie = format!("auth_session={}", self.token);
        let http = plain_http();
        let names = json!({ "firstName": "Thief" });
        let requests = [
            http.get(url("/users/me/identity")).header(AUTHORIZATION, &bearer),
            http.patch(url("/users/me/profile")).header(AUTHORIZATION, &bearer).json(&names),
            http.get(url("/users/me/identity")).header(COOKIE, &cookie),
            http.patch(url("/users/me/profile"))
                .header(COOKIE, &cookie)
                .header(ORIGIN, &self.origin)
                .json(&names),
            http.get(url("/auth/sessions/current")).header(COOKIE, &cookie),
        ];
        let mut statuses = [0; 5];
        for (status, request) in statuses.iter_mut().zip(requests) {
            *status = request.send().await.unwrap().status().as_u16();
        }
        statuses
    }
}

/// Every use works while the session lasts, and none afterwards.
const WORKS: [u16; 5] = [200; 5];
const IS_OVER: [u16; 5] = [401, 401, 401, 401, 204];

async fn another_device(node: &TestNode) -> Person {
    let mut client = node.client();
    client.set_token(Some(node.token("ann@people.example").await));
    Person::new(client)
}

#[tokio::test]
async fn a_stolen_token_is_worth_nothing_after_its_owner_has_signed_out() {
    let node = TestNode::start().await;
    let ann = node.user("ann").await;
    let thief = Thief::of(&node, &ann);
    assert_eq!(thief.tries().await, WORKS);
    ann.ask_for(204, Method::DELETE, "/auth/sessions", Value::Null).await;
    assert_eq!(thief.tries().await, IS_OVER);
}

#[tokio::test]
async fn a_stolen_token_is_worth_nothing_after_it_was_ended_from_another_device() {
    let node = TestNode::start().await;
    let (lost, desk) = (node.user("ann").await, another_device(&node).await);
    let thief = Thief::of(&node, &lost);
    assert_eq!(thief.tries().await, WORKS);
    let id = lost.client.current_session().await.unwrap().unwrap().session.id;
    desk.ask_for(204, Method::DELETE, &format!("/auth/sessions/{id}"), Value::Null).await;
    assert_eq!(thief.tries().await, IS_OVER);

    let lost = another_device(&node).await;
    let thief = Thief::of(&node, &lost);
    assert_eq!(thief.tries().await, WORKS);
    desk.ask_for(204, Method::DELETE, "/auth/sessions/others", Value::Null).await;
    assert_eq!(thief.tries().await, IS_OVER);
    assert_eq!(Thief::of(&node, &desk).tries().await, WORKS, "the session that ended the others goes on");
}

#[tokio::test]
async fn ending_all_sessions_needs_no_password_and_leaves_the_thief_neither_session_nor_secret() {
    let node = TestNode::start().await;
    let ann = node.user("ann").await;
    let secret_path = "/users/me/devices/lost-device/wrap-secret";
    let stolen = ann.ask(Method::GET, secret_path, Value::Null).await.1["secret"].clone();
    assert_eq!(
        ann.ask(Method::GET, secret_path, Value::Null).await.1["secret"],
        stolen,
        "it stays by itself"
    );
    let thief = Thief::of(&node, &ann);
    assert_eq!(thief.tries().await, WORKS);
    ann.ask_for(204, Method::DELETE, "/auth/sessions/all", Value::Null).await;
    assert_eq!(thief.tries().await, IS_OVER);
    let ann = another_device(&node).await;
    let secret = ann.ask(Method::GET, secret_path, Value::Null).await.1["secret"].clone();
    assert!(secret.is_string() && secret != stolen, "what the thief read opens nothing any more");
}

#[tokio::test]
async fn a_stream_that_the_thief_has_open_ends_with_the_session() {
    let node = TestNode::start().await;
    let ann = node.user("ann").await;
    let thief = Thief::of(&node, &ann);
    let request = plain_http().get(format!("{}/users/me/revocations/events", thief.origin));
    let answer = request.header(AUTHORIZATION, format!("Bearer {}", thief.token)).send().await.unwrap();
    let mut events = answer.bytes_stream();
    assert!(events.next().await.unwrap().is_ok(), "it tells what there is");
    ann.ask_for(204, Method::DELETE, "/auth/sessions", Value::Null).await;
    let ended = async { while events.next().await.is_some_and(|event| event.is_ok()) {} };
    tokio::time::timeout(std::time::Duration::from_secs(15), ended).await.expect("the stream ends");
}
