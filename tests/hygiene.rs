//! What every answer carries, cross-origin leave, and limits.

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, ORIGIN};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

use crate::support::{Person, TestNode};

fn http() -> Client {
    crate::support::plain_http()
}

fn value<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

async fn get(node: &TestNode, person: &Person, path: &str) -> Response {
    let bearer = format!("Bearer {}", person.client.token().unwrap().expose());
    http().get(format!("{}{path}", node.process.origin())).header(AUTHORIZATION, bearer).send().await.unwrap()
}

#[tokio::test]
async fn every_answer_carries_the_headers_that_protect_its_reader() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    for path in ["/users/me/identity", "/nowhere", "/health/live", "/.well-known/parchment-server"] {
        let answer = get(&node, &ann, path).await;
        let headers = answer.headers();
        assert_eq!(value(headers, "x-content-type-options"), "nosniff", "{path}");
        assert_eq!(value(headers, "referrer-policy"), "no-referrer");
        assert_eq!(value(headers, "x-frame-options"), "DENY");
        assert!(value(headers, "content-security-policy").contains("default-src 'none'"));
        assert_eq!(value(headers, "x-request-id").len(), 36, "{path}");
        let private = path.starts_with("/users") || path == "/nowhere";
        assert_eq!(
            value(headers, "cache-control") == "no-store",
            private || path == "/health/live",
            "{path}"
        );
    }
}

#[tokio::test]
async fn only_configured_clients_pages_may_read_answers() {
    let node = TestNode::start_with(&[("VELLUM_HTTP__CLIENT_ORIGINS", "https://app.example")]).await;
    let url = format!("{}/users/me/alias", node.process.origin());
    let preflight = async |origin: &str| {
        let request = http().request(Method::OPTIONS, &url).header(ORIGIN, origin);
        let request = request.header("access-control-request-method", "PATCH");
        request.header("access-control-request-headers", "authorization,content-type").send().await.unwrap()
    };
    let known = preflight("https://app.example").await;
    assert!(known.status().is_success());
    assert_eq!(value(known.headers(), "access-control-allow-origin"), "https://app.example");
    assert_eq!(value(known.headers(), "access-control-allow-credentials"), "true");
    assert!(value(known.headers(), "access-control-allow-methods").contains("PATCH"));
    for stranger in ["https://evil.example", "https://app.example.evil.example", "null"] {
        assert_eq!(
            value(preflight(stranger).await.headers(), "access-control-allow-origin"),
            "",
            "{stranger}"
        );
    }
    let read = http().get(&url).header(ORIGIN, "https://evil.example").send().await.unwrap();
    assert_eq!(value(read.headers(), "access-control-allow-origin"), "");
}

#[tokio::test]
async fn options_and_head_tell_what_there_is_without_a_body() {
    let node = TestNode::start().await;
    let url = format!("{}/users/me/preferences", node.process.origin());
    let told = http().request(Method::OPTIONS, &url).send().await.unwrap();
    assert_eq!((told.status().as_u16(), value(told.headers(), "allow")), (204, "GET, HEAD, PUT, OPTIONS"));
    let refused = http().post(&url).send().await.unwrap();
    assert_eq!(
        (refused.status().as_u16(), value(refused.headers(), "allow")),
        (405, "GET, HEAD, PUT, OPTIONS")
    );
    assert_eq!(value(refused.headers(), "content-type"), "application/problem+json");
    let head =
        http().head(format!("{}/.well-known/parchment-server", node.process.origin())).send().await.unwrap();
    assert_eq!(head.status(), 200);
    assert!(head.bytes().await.unwrap().is_empty());
}

#[tokio::test]
async fn long_answers_are_compressed_for_those_who_ask_and_tokens_never_are() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    ann.ask(Method::PUT, "/me/blobs/t", json!({ "encryptedBlob": "A".repeat(20_000) })).await;
    let bearer = format!("Bearer {}", ann.client.token().unwrap().expose());
    let ask = async |path: &str| {
        let request = http().get(format!("{}{path}", node.process.origin())).header(AUTHORIZATION, &bearer);
        request.header(ACCEPT_ENCODING, "gzip").send().await.unwrap()
    };
    let blob = ask("/me/blobs/t").await;
    assert_eq!(value(blob.headers(), "content-encoding"), "gzip");
    assert!(blob.bytes().await.unwrap().len() < 2_000);
    let current = ask("/auth/sessions/current").await;
    assert_ne!(value(current.headers(), "content-encoding"), "gzip");
}

#[tokio::test]
async fn limits_are_counted_by_user_and_told_in_every_limited_answer() {
    let node = TestNode::start_with(&[
        ("VELLUM_LIMITS__ENABLED", "true"),
        ("VELLUM_LIMITS__WRAP_SECRETS_PER_MINUTE", "2"),
    ])
    .await;
    let (ann, ben) = (node.person("ann").await, node.person("ben").await);
    let path = "/users/me/devices/device-1/wrap-secret";
    let first = get(&node, &ann, path).await;
    assert_eq!(value(first.headers(), "ratelimit-policy"), "\"wrap-secrets\";q=2;w=60");
    assert!(value(first.headers(), "ratelimit").starts_with("\"wrap-secrets\";r=1;t="));
    assert_eq!(get(&node, &ann, path).await.status(), 200);
    let refused = get(&node, &ann, path).await;
    assert_eq!(refused.status(), 429);
    let wait: u64 = value(refused.headers(), "retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert!(value(refused.headers(), "ratelimit").starts_with("\"wrap-secrets\";r=0;t="));
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "too_many_requests");
    assert_eq!(get(&node, &ben, path).await.status(), 200, "another user has a limit of their own");
    assert_eq!(value(get(&node, &ann, "/users/me/identity").await.headers(), "ratelimit"), "", "not limited");
}

#[tokio::test]
async fn asking_for_codes_is_limited_by_address() {
    let node = TestNode::start_with(&[
        ("VELLUM_LIMITS__ENABLED", "true"),
        ("VELLUM_LIMITS__SIGN_IN_PER_MINUTE", "2"),
    ])
    .await;
    let ask = async || {
        let body = json!({ "email": "nobody@people.example" });
        node.client().request_json(Method::POST, "/auth/verify", Some(&body)).await.unwrap().0
    };
    assert_eq!((ask().await, ask().await, ask().await), (201, 201, 429));
    // As the router reads it: another spelling of the path is the same path.
    let body = json!({ "email": "nobody@people.example" });
    let (status, _) = node.client().request_json(Method::POST, "/auth/%76erify", Some(&body)).await.unwrap();
    assert_eq!(status, 429);
}

#[tokio::test]
async fn a_body_that_says_it_is_something_else_is_refused_and_one_that_does_not_say_is_read() {
    let node = TestNode::start().await;
    let url = format!("{}/auth/verify", node.process.origin());
    let body = r#"{"email":"nobody@people.example"}"#;
    for (kind, status) in [
        (Some("application/json"), 201),
        (Some("Application/JSON; charset=utf-8"), 201),
        (None, 201),
        (Some("text/plain"), 415),
        (Some("application/x-www-form-urlencoded"), 415),
        (Some("multipart/form-data; boundary=x"), 415),
    ] {
        let request = http().post(&url).body(body);
        let request = match kind {
            Some(kind) => request.header(CONTENT_TYPE, kind),
            None => request,
        };
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{kind:?}");
        if status == 415 {
            assert_eq!(answer.json::<Value>().await.unwrap()["code"], "unsupported_media_type");
        }
    }
}

#[tokio::test]
async fn a_query_or_path_that_cannot_be_read_is_refused_in_the_one_shape() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    for (path, status, code) in [
        ("/friends/invitations?direction=incoming&direction=outgoing", 422, "validation_failed"),
        ("/users/alias/check?alias=a&alias=b", 422, "validation_failed"),
        ("/users/me/devices/%FF%FE/wrap-secret", 422, "validation_failed"),
        ("/users/a%00b", 404, "not_found"),
    ] {
        let (found, problem) = ann.ask(Method::GET, path, Value::Null).await;
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{path}: {problem}");
    }
}

#[tokio::test]
async fn the_documentation_needs_nothing_from_anywhere_else() {
    let node = TestNode::start().await;
    let get = async |path: &str| http().get(format!("{}{path}", node.process.origin())).send().await.unwrap();
    let page = get("/docs").await;
    let policy = value(page.headers(), "content-security-policy").to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("http"));
    let page = page.text().await.unwrap();
    assert!(!page.contains("://"), "no address of another host: {page}");
    let parts = page.split('"').filter(|part| part.starts_with("/docs/"));
    for part in parts {
        assert_eq!(get(part).await.status(), 200, "{part}");
    }
    let document: Value = get("/openapi.json").await.json().await.unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(get("/docs/oauth2-redirect.html").await.status(), 404);
}
