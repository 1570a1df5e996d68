//! The attacker is an ordinary client, directly or behind the operator's proxy, and writes
//! forwarding headers of his own. He would choose the address that limits count him by, that the
//! trail and the log show, and that opens `/metrics`. What stops him: such headers count from
//! trusted proxies only, and are read from the right, where the proxy has written; what cannot be
//! read there is an address that nobody has, far away.

use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use crate::support::{Person, TestNode, eventually, plain_http, wait_for};

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Header lines as a proxy passes them on, each with its name.
type Lines<'a> = &'a [(&'a str, &'a [u8])];

fn request(node: &TestNode, method: &str, path: &str, lines: Lines<'_>) -> reqwest::RequestBuilder {
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = plain_http().request(method, format!("{}{path}", node.process.origin()));
    for (name, value) in lines {
        request = request.header(*name, HeaderValue::from_bytes(value).unwrap());
    }
    request
}

/// Changes something with these headers, and gives the address that the audit trail has for it.
async fn audited(node: &TestNode, person: &Person, lines: Lines<'_>) -> Value {
    let bearer = person.client.token().unwrap().expose();
    let alias = format!("a{}", &uuid::Uuid::new_v4().simple().to_string()[..20]);
    let change = request(node, "PATCH", "/users/me/alias", lines).bearer_auth(bearer);
    let changed = change.json(&json!({ "alias": alias })).send().await.unwrap();
    assert_eq!(changed.status(), 200);
    let trail = request(node, "GET", "/users/me/audit?limit=1", &[]).bearer_auth(bearer);
    let trail: Value = trail.send().await.unwrap().json().await.unwrap();
    trail["data"][0]["ip"].clone()
}

async fn metrics(node: &TestNode, lines: Lines<'_>) -> u16 {
    request(node, "GET", "/metrics", lines).send().await.unwrap().status().as_u16()
}

async fn behind_proxies(more: &[(&str, &str)]) -> TestNode {
    let settings = [("VELLUM_HTTP__TRUSTED_PROXIES", "127.0.0.1/32,10.9.0.0/16,2001:db8:9::/48")];
    TestNode::start_with(&[&settings, more].concat()).await
}

fn lines<'a>(values: &[&'a str]) -> Vec<(&'static str, &'a [u8])> {
    values.iter().map(|value| (FORWARDED_FOR, value.as_bytes())).collect()
}

#[tokio::test]
async fn the_client_is_the_first_from_the_right_that_is_no_trusted_proxy() {
    let node = behind_proxies(&[]).await;
    let ann = node.user("ann").await;
    for (header, address) in [
        (&["198.51.100.7"][..], "198.51.100.7"),
        (&["x, 198.51.100.7"], "198.51.100.7"),
        (&["203.0.113.9, -, 198.51.100.7"], "198.51.100.7"),
        (&["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        (&["198.51.100.7:4711"], "198.51.100.7"),
        (&["[2001:db8::1]:443"], "2001:db8::1"),
        (&["[2001:db8::1]"], "2001:db8::1"),
        (&["2001:db8::1"], "2001:db8::1"),
        (&["::ffff:198.51.100.7"], "198.51.100.7"),
        // Two lines are one list.
        (&["203.0.113.9", "198.51.100.7"], "198.51.100.7"),
        (&["203.0.113.9, 198.51.100.7", "10.9.0.1"], "198.51.100.7"),
        // Two trusted proxies in a row, and an attacker's entry of the same kind.
        (&["203.0.113.9, 198.51.100.7, 10.9.0.1, 10.9.0.2:80"], "198.51.100.7"),
        (&["10.9.0.3, 198.51.100.7, 2001:db8:9::2, 10.9.0.1"], "198.51.100.7"),
        (&["\t203.0.113.9 ,\t 198.51.100.7\t ,\t10.9.0.1\t"], "198.51.100.7"),
        // A machine of the operator made the request through the proxies.
        (&["10.9.0.3, 10.9.0.1"], "10.9.0.3"),
        (&["127.0.0.1"], "127.0.0.1"),
    ] {
        let found = audited(&node, &ann, &lines(header)).await;
        assert_eq!(found, address, "{header:?}");
    }
    let not_utf8: Lines<'_> = &[(FORWARDED_FOR, b"\xff\xfe, 198.51.100.7")];
    assert_eq!(audited(&node, &ann, not_utf8).await, "198.51.100.7", "what is left of it decides nothing");
    let two: Lines<'_> = &[("forwarded", b"for=66.66.66.66"), (FORWARDED_FOR, b"198.51.100.7")];
    assert_eq!(audited(&node, &ann, two).await, "198.51.100.7");
}

/// What a trusted proxy may pass on that names no client.
const UNREADABLE: [Lines<'static>; 11] = [
    &[(FORWARDED_FOR, b"unknown")],
    &[(FORWARDED_FOR, b"_hidden")],
    &[(FORWARDED_FOR, b"")],
    &[(FORWARDED_FOR, b"-")],
    &[(FORWARDED_FOR, b"127.0.0.1, unknown")],
    &[(FORWARDED_FOR, b"127.0.0.1, unknown, 10.9.0.1")],
    &[(FORWARDED_FOR, b"127.0.0.1, 198.51.100.7:65536")],
    &[(FORWARDED_FOR, b"127.0.0.1"), (FORWARDED_FOR, b"\xff")],
    &[(FORWARDED_FOR, b"127.0.0.1,")],
    &[("forwarded", b"for=127.0.0.1")],
    &[("x-real-ip", b"127.0.0.1")],
];

#[tokio::test]
async fn a_client_that_cannot_be_told_is_unknown_and_far() {
    let node = behind_proxies(&[]).await;
    let ann = node.user("ann").await;
    assert_eq!(metrics(&node, &[]).await, 200, "without such a header it is the machine's own request");
    assert_eq!(audited(&node, &ann, &[]).await, "127.0.0.1");
    assert_eq!(metrics(&node, &lines(&["127.0.0.1"])).await, 200, "a request of this machine, by the proxy");
    for header in UNREADABLE {
        assert_eq!(audited(&node, &ann, header).await, Value::Null, "{header:?}");
        assert_eq!(metrics(&node, header).await, 401, "{header:?}");
    }
    for far in ["198.51.100.7", "127.0.0.1, 198.51.100.7", "198.51.100.7, 10.9.0.1", "x, 198.51.100.7"] {
        assert_eq!(metrics(&node, &lines(&[far])).await, 401, "{far}");
    }
}

#[tokio::test]
async fn limits_count_by_that_address_and_all_unknown_clients_as_one() {
    let limits = [("VELLUM_LIMITS__ENABLED", "true"), ("VELLUM_LIMITS__DOCUMENTS_PER_MINUTE", "4")];
    let node = behind_proxies(&limits).await;
    let read = async |header: Lines<'_>| {
        let document = request(&node, "GET", "/.well-known/parchment-server", header);
        document.send().await.unwrap().status().as_u16()
    };
    let mut answers = Vec::new();
    for header in [
        "198.51.100.7",
        "x, 198.51.100.7",
        "198.51.100.7:4711",
        "203.0.113.1, 198.51.100.7",
        "203.0.113.2, 198.51.100.7",
    ] {
        answers.push(read(&lines(&[header])).await);
    }
    assert_eq!(
        answers,
        [200, 200, 200, 200, 429],
        "what a client writes left of its address changes nothing"
    );
    assert_eq!(read(&lines(&["198.51.100.8:4711"])).await, 200, "others behind the proxy are not refused");
    let mut answers = Vec::new();
    for header in &UNREADABLE[..5] {
        answers.push(read(header).await);
    }
    assert_eq!(answers, [200, 200, 200, 200, 429], "all unknown clients are counted as one");
    assert_eq!(read(&[]).await, 200, "and the proxy's own machine is none of them");
}

#[tokio::test]
async fn a_session_shows_where_its_client_signed_in_from() {
    let node = behind_proxies(&[("VELLUM_AUTH__EMAILS_AT_ONCE", "10")]).await;
    let ann = node.user("ann").await;
    let from = async |header: Lines<'_>| {
        let known = node.process.letters().len();
        ann.client.request_code("ann@people.example").await.unwrap();
        let code = node.process.newest_code(known).await.unwrap();
        let body = json!({ "method": "otp", "email": "ann@people.example", "token": code });
        let signed_in = request(&node, "POST", "/auth/sessions", header).json(&body).send().await.unwrap();
        assert_eq!(signed_in.status(), 201);
        let token = signed_in.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned();
        let current = request(&node, "GET", "/auth/sessions/current", &[]).bearer_auth(token);
        current.send().await.unwrap().json::<Value>().await.unwrap()["session"]["ip"].clone()
    };
    assert_eq!(from(&lines(&["203.0.113.9, -, [2001:db8::1]:443"])).await, "2001:db8::1");
    assert_eq!(from(&lines(&["unknown"])).await, Value::Null);
    assert_eq!(from(&[]).await, "127.0.0.1");
}

/// The doctor's finding about proxies.
fn diagnosed(node: &TestNode, trusted: &str) -> Value {
    let doctor = std::process::Command::new(env!("CARGO_BIN_EXE_vellum"))
        .args(["doctor", "--json", "--data-dir"])
        .arg(node.process.folder())
        .env("VELLUM_HTTP__TRUSTED_PROXIES", trusted)
        .env("VELLUM_DATABASE__URL", node.process.setting("VELLUM_DATABASE__URL").unwrap_or_default())
        .output()
        .unwrap();
    let findings: Vec<Value> = serde_json::from_slice(&doctor.stdout).unwrap();
    findings.into_iter().find(|finding| finding["about"] == "proxies").unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_a_peer_that_is_no_trusted_proxy_are_ignored_logged_once_and_told_by_the_doctor() {
    let node = TestNode::start_with(&[("VELLUM_HTTP__TRUSTED_PROXIES", "10.9.0.1/32")]).await;
    let ann = node.user("ann").await;
    assert_eq!(diagnosed(&node, "10.9.0.1/32")["severity"], "well");
    assert_eq!(metrics(&node, &[]).await, 200);
    let forged: [Lines<'_>; 3] = [
        &[(FORWARDED_FOR, b"66.66.66.66")],
        &[(FORWARDED_FOR, b"66.66.66.66, 10.9.0.1")],
        &[("forwarded", b"for=66.66.66.66;host=66.66.66.66;proto=gopher")],
    ];
    for header in forged {
        assert_eq!(audited(&node, &ann, header).await, "127.0.0.1", "{header:?}");
        assert_eq!(metrics(&node, header).await, 401, "{header:?}: somebody passed it on who is not known");
    }
    let finding = wait_for(
        "the doctor says it",
        || async { diagnosed(&node, "10.9.0.1/32") },
        |finding| finding["severity"] == "doubtful",
    )
    .await;
    assert!(finding["says"].as_str().unwrap().contains("127.0.0.1"), "{finding}");
    assert!(finding["advice"].as_str().unwrap().contains("http.trusted_proxies"), "{finding}");
    assert_eq!(diagnosed(&node, "127.0.0.1/32")["severity"], "well", "once the proxy is trusted");

    let log = std::fs::read_to_string(node.process.log_path()).unwrap();
    let warnings: Vec<&str> =
        log.lines().filter(|line| line.contains("forwarding headers ignored")).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("127.0.0.1") && warnings[0].contains("http.trusted_proxies"),
        "{warnings:?}"
    );
}

#[tokio::test]
async fn the_log_shows_the_address_that_was_found_and_never_what_a_stranger_wrote() {
    let json = [("VELLUM_LOG__FORMAT", "json"), ("VELLUM_LOG__FILTER", "trace")];
    let behind = behind_proxies(&json).await;
    let open = TestNode::start_with(&json).await;
    let mut seen = Vec::new();
    let two: Lines<'_> =
        &[(FORWARDED_FOR, b"66.66.66.66, 198.51.100.7"), ("forwarded", b"for=66.66.66.66;host=66.66.66.66")];
    for (node, header) in [(&behind, two), (&behind, UNREADABLE[0]), (&behind, UNREADABLE[9]), (&open, two)] {
        // At this level something is logged within the span of every request.
        let refused = request(node, "GET", "/metrics", header).send().await.unwrap();
        assert_eq!(refused.status(), 401);
        let id = refused.headers()["x-request-id"].to_str().unwrap().to_owned();
        let line = eventually("the request is logged", || async {
            let log = std::fs::read_to_string(node.process.log_path()).unwrap();
            log.lines().find(|line| line.contains(&id) && line.contains("client_ip")).map(str::to_owned)
        })
        .await;
        let line: Value = serde_json::from_str(&line).unwrap();
        seen.push(line["span"]["http.client_ip"].as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(seen, ["198.51.100.7", "unknown", "unknown", "127.0.0.1"]);
    for node in [behind, open] {
        let log = std::fs::read_to_string(node.process.log_path()).unwrap();
        assert!(!log.contains("66.66.66.66"), "{:?}", log.lines().find(|line| line.contains("66.66.66.66")));
    }
}
