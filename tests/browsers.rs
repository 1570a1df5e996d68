//! What browsers need of a node: headers that they may send from a client's page, a cookie that
//! lasts as long as its session, and a way in behind a proxy that asks for a password of its own.

use reqwest::header::{AUTHORIZATION, COOKIE, ORIGIN, SET_COOKIE};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::support::{Database, Person, TestNode, plain_http};

const APP: &str = "https://app.example";

async fn node() -> TestNode {
    let emails = ("VELLUM_AUTH__EMAILS_AT_ONCE", "10");
    TestNode::start_with(&[("VELLUM_HTTP__CLIENT_ORIGINS", APP), emails]).await
}

fn request(node: &TestNode, method: Method, path: &str) -> RequestBuilder {
    plain_http().request(method, format!("{}{path}", node.process.origin()))
}

fn token(person: &Person) -> String {
    person.client.token().unwrap().expose().to_owned()
}

fn cookie(person: &Person) -> String {
    format!("auth_session={}", token(person))
}

/// The session cookies that an answer sets, whole.
fn cookies(answer: &Response) -> Vec<String> {
    let all = answer.headers().get_all(SET_COOKIE).iter().map(|value| value.to_str().unwrap().to_owned());
    all.filter(|cookie| cookie.starts_with("auth_session=")).collect()
}

#[tokio::test]
async fn every_answer_keeps_its_page_apart_from_the_pages_that_open_it() {
    let node = node().await;
    for (method, path) in [
        (Method::GET, "/docs"),
        (Method::GET, "/health/live"),
        (Method::GET, "/nowhere"),
        (Method::GET, "/users/me/identity"),
        (Method::HEAD, "/docs"),
        (Method::TRACE, "/docs"),
        (Method::POST, "/auth/sessions"),
        (Method::OPTIONS, "/auth/sessions"),
    ] {
        let answer = request(&node, method.clone(), path).send().await.unwrap();
        let policy = answer.headers().get("cross-origin-opener-policy").and_then(|value| value.to_str().ok());
        assert_eq!(policy, Some("same-origin"), "{method} {path}: {}", answer.status());
    }
    let preflight = request(&node, Method::OPTIONS, "/docs").header(ORIGIN, APP);
    let preflight = preflight.header("access-control-request-method", "GET").send().await.unwrap();
    assert_eq!(preflight.headers()["cross-origin-opener-policy"], "same-origin");
}

#[tokio::test]
async fn a_clients_page_may_send_and_read_every_header_that_the_document_names() {
    let node = node().await;
    let document = request(&node, Method::GET, "/openapi.json").send().await.unwrap();
    let document: Value = document.json().await.unwrap();
    let operations: Vec<&Value> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|item| item.as_object().unwrap().values())
        .collect();
    let mut sent = vec!["Authorization", "Content-Type"];
    let mut read = vec!["Retry-After", "X-Request-Id", "RateLimit"];
    for operation in &operations {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        sent.extend(parameters.filter(|one| one["in"] == "header").map(|one| one["name"].as_str().unwrap()));
        for answer in operation["responses"].as_object().unwrap().values() {
            read.extend(answer["headers"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()));
        }
    }
    for name in ["X-Known-Km-Version", "If-Match", "If-None-Match", "traceparent"] {
        assert!(sent.contains(&name), "the document names {name}: {sent:?}");
    }
    for name in sent {
        let preflight = request(&node, Method::OPTIONS, "/users/me/identity").header(ORIGIN, APP);
        let preflight = preflight.header("access-control-request-method", "GET");
        let preflight = preflight.header("access-control-request-headers", name.to_lowercase());
        let answer = preflight.send().await.unwrap();
        assert!(answer.status().is_success(), "{name}: {}", answer.status());
        let allowed = answer.headers()["access-control-allow-headers"].to_str().unwrap().to_lowercase();
        assert!(allowed.split(", ").any(|one| one == name.to_lowercase()), "{name}: {allowed}");
    }
    let answer = request(&node, Method::GET, "/health/live").header(ORIGIN, APP).send().await.unwrap();
    let exposed = answer.headers()["access-control-expose-headers"].to_str().unwrap().to_lowercase();
    for name in read.into_iter().filter(|name| *name != "Set-Cookie") {
        assert!(exposed.split(", ").any(|one| one == name.to_lowercase()), "{name}: {exposed}");
    }
}

#[tokio::test]
async fn the_scheme_of_a_token_may_be_written_in_any_case_and_other_schemes_leave_the_cookie_to_count() {
    let node = node().await;
    let (ann, ben) = (node.user("ann").await, node.user("ben").await);
    let who = async |headers: &[(&str, String)]| {
        let ask = request(&node, Method::GET, "/auth/sessions/current");
        let ask = headers.iter().fold(ask, |ask, (name, value)| ask.header(*name, value));
        let answer: Value = ask.send().await.unwrap().json().await.unwrap_or_default();
        answer["user"]["firstName"].as_str().map(str::to_owned)
    };
    let (anns, bens) = (("cookie", cookie(&ann)), token(&ben));
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let bearer = ("authorization", format!("{scheme} {bens}"));
        assert_eq!(who(std::slice::from_ref(&bearer)).await.as_deref(), Some("ben"), "{scheme}");
        assert_eq!(who(&[bearer, anns.clone()]).await.as_deref(), Some("ben"), "{scheme} before a cookie");
        let wrong = ("authorization", format!("{scheme} wrong"));
        assert_eq!(who(&[wrong, anns.clone()]).await, None, "a wrong token is looked at alone");
        let empty = ("authorization", scheme.to_owned());
        assert_eq!(who(&[empty, anns.clone()]).await, None, "{scheme} without a token");
    }
    for other in ["Basic YTpi", "basic YTpi", "Digest username=\"a\"", "Bearers x", "Negotiate"] {
        let other = ("authorization", other.to_owned());
        assert_eq!(who(&[other.clone(), anns.clone()]).await.as_deref(), Some("ann"), "{other:?}");
        assert_eq!(who(std::slice::from_ref(&other)).await, None, "{other:?} alone");
        let both = [other, ("authorization", format!("Bearer {bens}")), anns.clone()];
        assert_eq!(who(&both).await.as_deref(), Some("ben"), "a token beside another scheme");
    }
    // The cookie is as much worth as without the header: no more.
    let write = request(&node, Method::PATCH, "/users/me/profile").header(COOKIE, cookie(&ann));
    let write = write.header(AUTHORIZATION, "Basic YTpi").json(&json!({ "firstName": "x" }));
    assert_eq!(write.try_clone().unwrap().send().await.unwrap().status(), 403);
    assert_eq!(write.header(ORIGIN, APP).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn who_signs_in_behind_a_proxys_password_gets_the_cookie() {
    let node = node().await;
    let ann = node.user("ann").await;
    let sign_in = async |authorization: Option<&str>| {
        let known = node.process.letters().len();
        ann.client.request_code("ann@people.example").await.unwrap();
        let code = node.process.newest_code(known).await.unwrap();
        let body = json!({ "method": "otp", "email": "ann@people.example", "token": code });
        let mut ask = request(&node, Method::POST, "/auth/sessions").json(&body);
        if let Some(value) = authorization {
            ask = ask.header(AUTHORIZATION, value);
        }
        let answer = ask.send().await.unwrap();
        assert_eq!(answer.status(), 201);
        cookies(&answer).len()
    };
    assert_eq!(sign_in(None).await, 1);
    assert_eq!(sign_in(Some("Basic YTpi")).await, 1);
    assert_eq!(sign_in(Some("Bearer of-before")).await, 0, "who has a token of their own needs no cookie");
    assert_eq!(sign_in(Some("bearer of-before")).await, 0);
}

#[tokio::test]
async fn a_session_that_is_prolonged_gives_its_browser_a_cookie_that_lasts_as_long() {
    let node = node().await;
    let (ann, database) = (node.user("ann").await, Database::of(&node).await);
    let read = async |by: (&str, String)| {
        let answer =
            request(&node, Method::GET, "/users/me/identity").header(by.0, by.1).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer
    };
    let by_cookie = || ("cookie", cookie(&ann));
    assert_eq!(cookies(&read(by_cookie()).await), Vec::<String>::new(), "in its first half nothing changes");
    database.age_sessions(&ann).await;
    let answer = read(by_cookie()).await;
    let set = cookies(&answer);
    assert_eq!(set.len(), 1, "{set:?}");
    assert!(set[0].starts_with(&format!("{};", cookie(&ann))), "the same token: {set:?}");
    for part in ["HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(set[0].contains(part), "{part}: {set:?}");
    }
    let age: i64 = set[0].split("Max-Age=").nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
    assert_eq!(age, 2_592_000, "30 days: {set:?}");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(cookies(&read(by_cookie()).await), Vec::<String>::new(), "once");

    database.age_sessions(&ann).await;
    let bearer = || ("authorization", format!("Bearer {}", token(&ann)));
    assert_eq!(cookies(&read(bearer()).await), Vec::<String>::new(), "who has no cookie gets none");
    database.age_sessions(&ann).await;
    let out = request(&node, Method::DELETE, "/auth/sessions").header(COOKIE, cookie(&ann));
    let set = cookies(&out.header(ORIGIN, APP).send().await.unwrap());
    assert_eq!(set.len(), 1, "{set:?}");
    assert!(set[0].contains("Max-Age=0"), "signing out takes the cookie away all the same: {set:?}");
}

/// A node that is reached at an https origin, and lets clients on other sites use cookies.
async fn cross_site_node(allowed: bool) -> TestNode {
    TestNode::start_with(&[
        ("VELLUM_HTTP__ORIGIN", NODE),
        ("VELLUM_HTTP__CLIENT_ORIGINS", APP),
        ("VELLUM_HTTP__CROSS_SITE_COOKIES", if allowed { "true" } else { "false" }),
        ("VELLUM_AUTH__EMAILS_AT_ONCE", "10"),
    ])
    .await
}

const NODE: &str = "https://node.example";

/// Every cookie that an answer sets, by its name.
fn set_cookies(answer: &Response) -> Vec<(String, String)> {
    let all = answer.headers().get_all(SET_COOKIE).iter().map(|value| value.to_str().unwrap().to_owned());
    all.map(|cookie| (cookie.split('=').next().unwrap().to_owned(), cookie)).collect()
}

async fn sign_in_from(node: &TestNode, origin: Option<&str>) -> Response {
    let known = node.process.letters().len();
    node.client().request_code("ann@people.example").await.unwrap();
    let code = node.process.newest_code(known).await.unwrap();
    let body = json!({ "method": "otp", "email": "ann@people.example", "token": code });
    let ask = request(node, Method::POST, "/auth/sessions").json(&body);
    let ask = origin.into_iter().fold(ask, |ask, origin| ask.header(ORIGIN, origin));
    let answer = ask.send().await.unwrap();
    assert_eq!(answer.status(), 201);
    answer
}

#[tokio::test]
async fn a_client_on_another_site_gets_cookies_that_its_page_can_use_where_that_is_set() {
    for allowed in [true, false] {
        let node = cross_site_node(allowed).await;
        let ann = node.user("ann").await;
        let for_client = if allowed { "SameSite=None" } else { "SameSite=Lax" };
        for (origin, expected) in
            [(Some(APP), for_client), (Some(NODE), "SameSite=Lax"), (None, "SameSite=Lax")]
        {
            let set = set_cookies(&sign_in_from(&node, origin).await);
            let names: Vec<&str> = set.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["auth_session", "auth_device"], "{origin:?}");
            for (_, cookie) in &set {
                for part in [expected, "Secure", "HttpOnly"] {
                    assert!(cookie.contains(part), "{part} for {origin:?}, allowed {allowed}: {cookie}");
                }
            }
        }
        let foreign = sign_in_from(&node, Some("https://evil.example")).await;
        assert_eq!(set_cookies(&foreign), [], "no other page gets any");

        let options = request(&node, Method::POST, "/auth/passkeys/authenticate/options").header(ORIGIN, APP);
        let options = set_cookies(&options.send().await.unwrap());
        assert_eq!(options.len(), 2, "{options:?}");
        assert!(options.iter().all(|(_, cookie)| cookie.contains(for_client)), "{options:?}");

        // A cookie is taken away as it was set, or the browser would not let the page do it.
        let out = request(&node, Method::DELETE, "/auth/sessions").header(COOKIE, cookie(&ann));
        let gone = set_cookies(&out.header(ORIGIN, APP).send().await.unwrap());
        assert!(gone[0].1.contains(for_client) && gone[0].1.contains("Max-Age=0"), "{gone:?}");
    }
}

#[tokio::test]
async fn cookies_for_clients_on_other_sites_count_for_no_other_page() {
    let node = cross_site_node(true).await;
    let (ann, database) = (node.user("ann").await, Database::of(&node).await);
    let ask = |method: Method, path: &str, headers: &[(&str, &str)]| {
        let request = request(&node, method, path).header(COOKIE, cookie(&ann));
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    };
    let cross_site = ("sec-fetch-site", "cross-site");
    for headers in [&[("origin", APP), cross_site][..], &[], &[("sec-fetch-site", "same-origin")]] {
        let read = ask(Method::GET, "/users/me/identity", headers).send().await.unwrap();
        assert_eq!(read.status(), 200, "{headers:?}");
    }
    let evil = ("origin", "https://evil.example");
    for headers in
        [&[cross_site][..], &[evil, cross_site], &[("origin", "null")], &[("sec-fetch-site", "same-site")]]
    {
        let read = ask(Method::GET, "/users/me/identity", headers).send().await.unwrap();
        assert_eq!(read.status(), 401, "the browser sends it along, and it counts for nothing: {headers:?}");
        let polled = ask(Method::GET, "/auth/sessions/current", headers).send().await.unwrap();
        assert_eq!(polled.status(), 204, "{headers:?}");
        let path = "/users/me/devices/device-1/wrap-secret";
        assert_eq!(ask(Method::GET, path, headers).send().await.unwrap().status(), 403, "{headers:?}");
        let write = ask(Method::PATCH, "/users/me/profile", headers).json(&json!({ "firstName": "x" }));
        assert_eq!(write.send().await.unwrap().status(), 403, "{headers:?}");
    }
    let write = ask(Method::PATCH, "/users/me/profile", &[("origin", APP), cross_site]);
    assert_eq!(write.json(&json!({ "firstName": "Anna" })).send().await.unwrap().status(), 200);
    let preflight = request(&node, Method::OPTIONS, "/users/me/profile").header(ORIGIN, APP);
    let preflight = preflight.header("access-control-request-method", "PATCH").send().await.unwrap();
    assert_eq!(preflight.headers()["access-control-allow-credentials"], "true");

    database.age_sessions(&ann).await;
    let renewed =
        set_cookies(&ask(Method::GET, "/users/me/identity", &[("origin", APP)]).send().await.unwrap());
    assert!(renewed[0].1.contains("SameSite=None"), "{renewed:?}");
    database.age_sessions(&ann).await;
    let renewed = set_cookies(&ask(Method::GET, "/users/me/identity", &[]).send().await.unwrap());
    assert!(renewed[0].1.contains("SameSite=Lax"), "nothing says that this is another site: {renewed:?}");
}

#[tokio::test]
async fn cookies_for_other_sites_need_https_and_clients_to_be_named() {
    let (origin, clients) = (("VELLUM_HTTP__ORIGIN", NODE), ("VELLUM_HTTP__CLIENT_ORIGINS", APP));
    let plain = ("VELLUM_HTTP__ORIGIN", "http://node.example");
    for settings in [&[][..], &[origin], &[clients], &[plain, clients]] {
        let mut node =
            TestNode::prepared(&[&[("VELLUM_HTTP__CROSS_SITE_COOKIES", "true")], settings].concat());
        assert!(node.process.start().await.is_err(), "it starts with {settings:?}");
        let log = std::fs::read_to_string(node.process.log_path()).unwrap();
        assert!(log.contains("http.cross_site_cookies"), "{settings:?}: {log}");
    }
}
