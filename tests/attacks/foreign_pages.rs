//! The attacker has a page that somebody opens whose browser holds the node's session cookie, as in
//! `cross_site_requests`; here it makes the visitor's browser GET things. A GET that changes
//! something would use up the visitor's devices, take a device transfer out, or keep a session
//! alive. What stops it: such a GET is refused to a cookie when the browser says that the page is
//! another site's, and HEAD changes nothing anywhere.

use reqwest::header::{ALLOW, COOKIE, ORIGIN};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::support::{Database, Peer, Person, TestNode, plain_http};

const APP: &str = "https://app.example";
/// The paths whose GET changes something, or makes the node do something for its caller.
const WITH_EFFECTS: [&str; 4] = [
    "/device-transfer/{id}",
    "/friends/resolve/{handle}",
    "/users/me/devices/{deviceId}/wrap-secret",
    "/users/me/revocations/events",
];

struct Scene {
    node: TestNode,
    ann: Person,
    /// Somebody on a node that nobody has met.
    bob: String,
    _peer: Peer,
    transfer: String,
    http: Client,
    database: Database,
}

async fn scene() -> Scene {
    let node = TestNode::start_with(&[("VELLUM_HTTP__CLIENT_ORIGINS", APP)]).await;
    let ann = node.person("ann").await;
    let peer = Peer::start().await;
    let bob = peer.user("bob").handle.to_string();
    let begin = json!({ "receiverEphemeralPub": "receiver" });
    let begun = ann.ask(Method::POST, "/device-transfer", begin).await.1;
    let transfer = begun["sessionId"].as_str().unwrap().to_owned();
    let upload = json!({ "senderEphemeralPub": "s", "sealedSeed": "s", "senderSignature": "s" });
    let put = ann.ask(Method::POST, &format!("/device-transfer/{transfer}/upload"), upload).await;
    assert_eq!(put.0, 200, "{put:?}");
    let database = Database::of(&node).await;
    Scene { node, ann, bob, _peer: peer, transfer, http: plain_http(), database }
}

impl Scene {
    fn token(&self) -> &str {
        self.ann.client.token().unwrap().expose()
    }

    /// The path of an operation, about things that are there where there are any.
    fn path(&self, pattern: &str) -> String {
        let with_device = pattern.replace("{deviceId}", "device-1").replace("{handle}", &self.bob);
        with_device
            .replace("/device-transfer/{id}", &format!("/device-transfer/{}", self.transfer))
            .replace(['{', '}'], "")
    }

    fn by_cookie(&self, method: Method, pattern: &str) -> RequestBuilder {
        let url = format!("{}{}", self.node.process.origin(), self.path(pattern));
        self.http.request(method, url).header(COOKIE, format!("auth_session={}", self.token()))
    }

    fn by_bearer(&self, method: Method, pattern: &str) -> RequestBuilder {
        let url = format!("{}{}", self.node.process.origin(), self.path(pattern));
        self.http.request(method, url).bearer_auth(self.token())
    }

    /// Every path that has a GET, as the node's document writes it.
    async fn reads(&self) -> Vec<String> {
        let url = format!("{}/openapi.json", self.node.process.origin());
        let document: Value = self.http.get(url).send().await.unwrap().json().await.unwrap();
        let paths = document["paths"].as_object().unwrap();
        let reads: Vec<String> = paths
            .iter()
            .filter(|(_, item)| item.get("get").is_some())
            .map(|(path, _)| path.clone())
            .collect();
        assert!(reads.len() > 30, "{reads:?}");
        reads
    }
}

/// What a browser says of requests of foreign pages.
const FOREIGN: [&[(&str, &str)]; 5] = [
    &[("sec-fetch-site", "cross-site")],
    &[("sec-fetch-site", "same-site")],
    &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")],
    &[("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")],
    &[("origin", "null")],
];

fn with(request: RequestBuilder, headers: &[(&str, &str)]) -> RequestBuilder {
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

#[tokio::test]
async fn a_get_that_changes_something_is_refused_to_the_cookie_of_a_foreign_page() {
    let scene = scene().await;
    let before = scene.database.snapshot().await;
    for pattern in WITH_EFFECTS {
        for headers in FOREIGN {
            let answer = with(scene.by_cookie(Method::GET, pattern), headers).send().await.unwrap();
            assert_eq!(answer.status(), 403, "{pattern} with {headers:?}");
            assert_eq!(answer.json::<Value>().await.unwrap()["code"], "forbidden", "{pattern}");
        }
    }
    assert_eq!(before.difference(&scene.database.snapshot().await), Vec::<String>::new());
    let secret = "/users/me/devices/{deviceId}/wrap-secret";
    let own = scene.node.process.origin();
    for headers in [
        &[][..],
        &[("sec-fetch-site", "none")],
        &[("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "cross-site"), ("origin", APP)],
        &[("sec-fetch-site", "same-site"), ("origin", own.as_str())],
    ] {
        let answer = with(scene.by_cookie(Method::GET, secret), headers).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{headers:?}");
    }
    for pattern in WITH_EFFECTS {
        // A page does not have the token.
        let answer = with(scene.by_bearer(Method::GET, pattern), FOREIGN[0]).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{pattern} with a token");
    }
}

#[tokio::test]
async fn a_foreign_page_uses_up_none_of_its_visitors_hundred_devices() {
    let scene = scene().await;
    for n in 0..100 {
        let path = format!("/users/me/devices/foreign-{n:03}/wrap-secret");
        let answer = with(scene.by_cookie(Method::GET, &path), FOREIGN[0]).send().await.unwrap();
        assert_eq!(answer.status(), 403);
    }
    let own = scene.by_bearer(Method::GET, "/users/me/devices/own-device/wrap-secret").send().await.unwrap();
    assert_eq!(own.status(), 200);
}

#[tokio::test]
async fn head_changes_nothing_anywhere_and_is_not_offered_where_get_does() {
    let scene = scene().await;
    let end = scene.database.age_sessions(&scene.ann).await;
    let before = scene.database.snapshot().await;
    let mut refused = Vec::new();
    for pattern in scene.reads().await {
        for by_cookie in [true, false] {
            let request = if by_cookie { Scene::by_cookie } else { Scene::by_bearer };
            let answer = request(&scene, Method::HEAD, &pattern).send().await.unwrap();
            if answer.status() == 405 {
                let allowed = answer.headers()[ALLOW].to_str().unwrap();
                assert!(allowed.contains("GET") && !allowed.contains("HEAD"), "{pattern}: {allowed}");
                refused.push(pattern.clone());
            }
            assert!(answer.bytes().await.unwrap().is_empty(), "{pattern}");
        }
    }
    refused.dedup();
    assert_eq!(refused, WITH_EFFECTS);
    let difference = before.difference(&scene.database.snapshot().await);
    assert_eq!(difference, Vec::<String>::new());
    assert_eq!(scene.database.last_session_end().await, end, "no session was prolonged");
    let transfer = scene.by_bearer(Method::GET, "/device-transfer/{id}").send().await.unwrap();
    assert_eq!(transfer.status(), 200, "it is still there");
    assert!(scene.database.last_session_end().await > end, "GET prolongs");
}

#[tokio::test]
async fn a_foreign_page_prolongs_no_session_and_is_given_no_cookie() {
    let scene = scene().await;
    let end = scene.database.age_sessions(&scene.ann).await;
    let renewed = |answer: &Response| answer.headers().contains_key("set-cookie");
    for headers in FOREIGN {
        let read = with(scene.by_cookie(Method::GET, "/users/me/identity"), headers).send().await.unwrap();
        assert_eq!((read.status().as_u16(), renewed(&read)), (200, false), "{headers:?}");
    }
    assert_eq!(scene.database.last_session_end().await, end);
    let read = scene.by_cookie(Method::GET, "/users/me/identity").header(ORIGIN, APP).send().await.unwrap();
    assert_eq!((read.status().as_u16(), renewed(&read)), (200, true));
    assert!(scene.database.last_session_end().await > end);

    let end = scene.database.age_sessions(&scene.ann).await;
    let read = with(scene.by_bearer(Method::GET, "/users/me/identity"), FOREIGN[2]).send().await.unwrap();
    assert_eq!(read.status(), 200);
    assert!(scene.database.last_session_end().await > end, "who has the token is no foreign page");
}
