//! The attacker has an account, or writes to the inbox as a server that he names, or runs a node whose documents point
//! elsewhere. He would have the node connect to addresses that only it can reach: this machine, the network behind it,
//! the cloud's metadata service. What stops him: the address that is dialled is checked, literal or looked up
//! (`dns_rebinding.rs`); no redirect is followed; an inbox is where its user's handle is; and what the node says of a
//! server that it could not identify is the same whatever the reason.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use vellum_client::http::Method;

use super::server;
use crate::support::{TestNode, now, plain_http};

#[tokio::test]
async fn the_node_is_not_led_to_where_only_it_can_go() {
    let node = TestNode::start_with(&[("VELLUM_FEDERATION__ALLOW_PRIVATE_PEERS", "false")]).await;
    let mallory = node.person("mallory").await;
    let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = inner.local_addr().unwrap().port();
    let mut refusals = Vec::new();
    for host in ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.0.0.1", "169.254.169.254", "10.0.0.1"]
    {
        let (status, answer) =
            mallory.ask(Method::GET, &format!("/friends/resolve/bob@{host}:{port}"), Value::Null).await;
        assert_eq!(status, 502, "{host}: {answer}");
        let handle = format!("bob@{host}:{port}").parse().unwrap();
        let signed = mallory.signer().invite(&handle, now(), &mut rand::rng());
        let refused = mallory.client.invite(&handle, &signed).await.unwrap_err();
        assert!(refused.to_string().contains("peer_unreachable"), "{host}: {refused}");

        let inbox = plain_http()
            .post(format!("{}/federation/inbox", node.process.origin()))
            .header("x-parchment-server-id", format!("{host}:{port}"))
            .header("x-parchment-protocol-version", "2")
            .header("x-parchment-nonce", "AAAAAAAAAAAAAAAAAAAAAA==")
            .header("x-parchment-timestamp", now().to_rfc3339())
            .header("x-parchment-server-signature", "A".repeat(86) + "==")
            .json(&json!({}));
        let answer = inbox.send().await.unwrap();
        assert_eq!(answer.status(), 401, "{host}");
        let said: Value = answer.json().await.unwrap();
        refusals.push(said["message"].as_str().unwrap_or_default().replace(&format!("{host}:{port}"), "X"));
    }
    let reached = tokio::time::timeout(Duration::from_millis(300), inner.accept()).await;
    assert!(reached.is_err(), "nobody has connected");
    refusals.retain(|said| said.contains("manifest"));
    refusals.dedup();
    assert_eq!(refusals.len(), 1, "the words do not tell what is there: {refusals:?}");
}

/// Whether anybody has connected.
async fn is_reached(inner: &TcpListener) -> bool {
    tokio::time::timeout(Duration::from_millis(300), inner.accept()).await.is_ok()
}

#[tokio::test]
async fn a_hostile_nodes_answers_lead_to_no_other_address() {
    let node = TestNode::start().await;
    let mallory = node.person("mallory").await;
    let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("localhost:{}", inner.local_addr().unwrap().port());
    let key = vellum_client::MasterSeed::from_bytes([6; 32]);
    let inboxes = [
        (format!("http://{target}/federation/inbox"), "another port"),
        ("http://169.254.169.254/federation/inbox".into(), "another host"),
        ("http://SELF@169.254.169.254/federation/inbox".into(), "its own name as user information"),
        ("http://SELF/federation/inbox?to=elsewhere".into(), "a query"),
        ("http://SELF/admin/queue".into(), "another path"),
        ("gopher://SELF/federation/inbox".into(), "another scheme"),
        ("http://SELF/federation/inbox".into(), "its own"),
    ];
    for (inbox, case) in inboxes {
        let (signing, encryption) = (key.signing_secret().public(), key.encryption_key());
        let hostile = server(move |port, head| {
            let own = format!("localhost:{port}");
            let document = if head.contains("parchment-server") {
                json!({ "server_id": own, "protocol_versions": [2], "capabilities": [], "public_key": signing })
            } else {
                json!({
                    "handle": format!("bob@{own}"), "signingKey": signing, "encryptionKey": encryption,
                    "inbox": inbox.replace("SELF", &own),
                })
            };
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{document}").into_bytes()
        })
        .await;
        let path = format!("/friends/resolve/bob@localhost:{}", hostile.port);
        let (status, answer) = mallory.ask(Method::GET, &path, Value::Null).await;
        assert_eq!(status, if case == "its own" { 200 } else { 502 }, "{case}: {answer}");
    }
    for status in [301, 302, 303, 307, 308] {
        let to = target.clone();
        let hostile = server(move |_, _| {
            format!("HTTP/1.1 {status} Moved\r\nlocation: http://{to}/.well-known/parchment-server\r\ncontent-length: 0\r\n\r\n")
                .into_bytes()
        })
        .await;
        let path = format!("/friends/resolve/bob@localhost:{}", hostile.port);
        let (told, answer) = mallory.ask(Method::GET, &path, Value::Null).await;
        assert_eq!((told, hostile.heads().len()), (502, 1), "{status}: {answer}");
    }
    assert!(!is_reached(&inner).await, "nobody was led to the inner service");
}
