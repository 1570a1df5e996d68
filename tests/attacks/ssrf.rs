//! The attacker has an account, or writes to the inbox as a server that he names. He would have the node connect
//! to addresses that only it can reach: this machine, the network behind it, the cloud's metadata service. What
//! stops him: the address that is dialled is checked, literal or looked up; and what the node says of a server that
//! it could not identify is the same whatever the reason.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use vellum_client::http::Method;

use crate::support::{TestNode, plain_http};

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
            mallory.ask(Method::GET, &format!("/friends/resolve/x@{host}:{port}"), Value::Null).await;
        assert!((400..=502).contains(&status) && status != 200, "{host}: {status} {answer}");
        let body = json!({ "handle": format!("x@{host}:{port}") });
        let (status, answer) = mallory.ask(Method::POST, "/friends/invite", body).await;
        assert!((400..=502).contains(&status), "{host}: {status} {answer}");

        let inbox = plain_http()
            .post(format!("{}/federation/inbox", node.process.origin()))
            .header("x-parchment-server-id", format!("{host}:{port}"))
            .header("x-parchment-protocol-version", "2")
            .header("x-parchment-nonce", "AAAAAAAAAAAAAAAAAAAAAA==")
            .header("x-parchment-timestamp", crate::support::now().to_rfc3339())
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
