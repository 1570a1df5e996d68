//! The attacker has a page that somebody opens whose browser holds the node's session cookie. The browser
//! sends the cookie along with whatever the page posts. If that counted, the page could do everything that
//! its visitor may do. What stops it: a change that is authenticated by cookie needs an `Origin` that is
//! known, compared as a whole; a method is what the request line says; and a GET changes nothing.

use reqwest::header::{CONTENT_TYPE, COOKIE, ORIGIN};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::{Database, Person, TestNode, plain_http};

const APP: &str = "https://app.example";

struct Scene {
    node: TestNode,
    ann: Person,
    http: Client,
    database: Database,
}

async fn scene() -> Scene {
    let node = TestNode::start_with(&[("VELLUM_HTTP__CLIENT_ORIGINS", APP)]).await;
    let ann = node.person("ann").await;
    let database = Database::of(&node).await;
    Scene { node, ann, http: plain_http(), database }
}

impl Scene {
    /// A request of a page, with ann's cookie.
    fn of_page(&self, method: Method, path: &str, origin: Option<&str>) -> reqwest::RequestBuilder {
        let cookie = format!("auth_session={}", self.ann.client.token().unwrap().expose());
        let url = format!("{}{path}", self.node.process.origin());
        let request = self.http.request(method, url).header(COOKIE, cookie);
        match origin {
            Some(origin) => request.header(ORIGIN, origin),
            None => request,
        }
    }

    /// All operations of the node that change something for whoever has a session.
    async fn writes(&self) -> Vec<(Method, String)> {
        let url = format!("{}/openapi.json", self.node.process.origin());
        let document: Value = self.http.get(url).send().await.unwrap().json().await.unwrap();
        let mut found = Vec::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let needs_session = operation["security"].as_array().is_some_and(|ways| !ways.is_empty());
                if needs_session && ["post", "put", "patch", "delete"].contains(&method.as_str()) {
                    let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                    found.push((method, path.replace(['{', '}'], "")));
                }
            }
        }
        found
    }
}

#[tokio::test]
async fn no_write_of_the_whole_interface_is_done_for_a_page_of_another_site() {
    let scene = scene().await;
    let writes = scene.writes().await;
    assert!(writes.len() > 40, "{}", writes.len());
    let before = scene.database.snapshot().await;
    for (method, path) in &writes {
        for origin in [None, Some("https://evil.example"), Some("null")] {
            let request = scene.of_page(method.clone(), path, origin);
            let answer = request.json(&json!({ "confirm": "erase-all-my-data" })).send().await.unwrap();
            assert_eq!(answer.status(), 403, "{method} {path} from {origin:?}");
        }
    }
    assert_eq!(before.difference(&scene.database.snapshot().await), Vec::<String>::new());
    assert_eq!(scene.set_alias(Some(APP)).await, 200, "a page of the client may");
}

impl Scene {
    async fn set_alias(&self, origin: Option<&str>) -> u16 {
        let request = self.of_page(Method::PATCH, "/users/me/alias", origin);
        request.json(&json!({ "alias": "changed" })).send().await.unwrap().status().as_u16()
    }
}

#[tokio::test]
async fn an_origin_that_only_looks_like_the_clients_is_another_sites() {
    let scene = scene().await;
    let own = scene.node.process.origin();
    let port = own.rsplit(':').next().unwrap();
    for origin in [
        "http://app.example".to_owned(),
        "https://app.example:444".to_owned(),
        "https://app.example.evil.example".to_owned(),
        "https://evil.example/https://app.example".to_owned(),
        "https://app.example@evil.example".to_owned(),
        "https://xapp.example".to_owned(),
        "https://app.example https://evil.example".to_owned(),
        "https://app.example, https://evil.example".to_owned(),
        "".to_owned(),
        format!("http://127.0.0.1:{port}"),
        format!("http://localhost:{port}.evil.example"),
    ] {
        assert_eq!(scene.set_alias(Some(&origin)).await, 403, "{origin}");
    }
    let twice = scene.of_page(Method::PATCH, "/users/me/alias", Some("https://evil.example"));
    let twice = twice.header(ORIGIN, APP).json(&json!({ "alias": "changed" })).send().await.unwrap();
    assert_eq!(twice.status(), 403, "two origins");
    assert_eq!((scene.set_alias(Some(APP)).await, scene.set_alias(Some(&own)).await), (200, 200));
}

#[tokio::test]
async fn a_form_that_says_it_is_another_method_is_what_its_request_line_says() {
    let scene = scene().await;
    let before = scene.database.snapshot().await;
    for name in ["x-http-method-override", "x-method-override", "x-http-method"] {
        let request = scene.of_page(Method::GET, "/auth/sessions?_method=DELETE", None);
        let answer = request.header(name, "DELETE").send().await.unwrap();
        assert_eq!(answer.status(), 200, "{name}: it is read, as GET says");
    }
    let form = scene.of_page(Method::POST, "/users/me/identity/reset", Some("https://evil.example"));
    let form = form.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    assert_eq!(form.body("confirm=erase-all-my-data").send().await.unwrap().status(), 403);
    // A text that is JSON, as a form can make it; from the client's origin it is still no JSON.
    let form = scene.of_page(Method::POST, "/users/me/identity/reset", Some(APP));
    let form = form.header(CONTENT_TYPE, "text/plain").body(r#"{"confirm":"erase-all-my-data","x":"="}"#);
    assert_eq!(form.send().await.unwrap().status(), 415);
    assert_eq!(before.difference(&scene.database.snapshot().await), Vec::<String>::new());
    let honest = scene.of_page(Method::POST, "/users/me/identity/reset", Some(APP));
    let honest = honest.json(&json!({ "confirm": "erase-all-my-data" })).send().await.unwrap();
    assert_eq!(honest.status(), 200);
}

/// `fetch(…, { mode: "no-cors", body: new Blob([json]) })` sends no type, and a browser does not ask
/// the node first: each visitor of such a page would try codes from an address of their own, and be
/// banned for it.
#[tokio::test]
async fn a_page_of_another_site_cannot_have_its_visitors_try_codes() {
    let scene = scene().await;
    let url = format!("{}/auth/sessions", scene.node.process.origin());
    let body = json!({ "method": "otp", "email": "ann@people.example", "token": "12345678" }).to_string();
    for (headers, status) in [
        (&[("origin", "https://evil.example")][..], 415),
        (&[("origin", "null")], 415),
        (&[("sec-fetch-site", "cross-site")], 415),
        (&[("origin", "https://evil.example"), ("content-type", "text/plain")], 415),
        (&[("origin", APP)], 401),
        (&[], 401),
    ] {
        let mut request = scene.http.post(&url).body(body.clone());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{headers:?}");
        let log = std::fs::read_to_string(scene.node.process.log_path()).unwrap();
        assert_eq!(log.contains("sign-in failed"), status == 401, "{headers:?}: {log}");
    }
}
