//! What is counted and timed, and who may read it.

use std::collections::BTreeSet;

use reqwest::header::AUTHORIZATION;
use vellum::node::FIRST_ADMINISTRATOR;

use crate::support::{Peer, TestNode, eventually, plain_http};

pub async fn scrape(node: &TestNode) -> String {
    let answer = plain_http().get(format!("{}/metrics", node.process.origin())).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.text().await.unwrap()
}

/// The value of a series.
pub fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(&format!("{series} ")))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

/// A node that has delivered something, and taken something in.
async fn busy_node() -> TestNode {
    let node = TestNode::start().await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let bob = peer.user("bob");
    peer.invite(&bob, &ann.handle()).await;
    ann.accept(&bob.handle).await;
    eventually("the accept has arrived", || async { peer.received().len().checked_sub(1) }).await;
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_envelopes_and_requests_are_counted() {
    let node = busy_node().await;
    let text = eventually("the delivery is counted", || async {
        let text = scrape(&node).await;
        value(&text, "vellum_delivery_attempts_total{outcome=\"delivered\"}").is_some().then_some(text)
    })
    .await;
    assert_eq!(value(&text, "vellum_delivery_attempts_total{outcome=\"delivered\"}"), Some(1.0));
    assert_eq!(value(&text, "vellum_inbox_envelopes_total{result=\"accepted\"}"), Some(1.0));
    assert_eq!(value(&text, "vellum_queue_rows{state=\"queued\"}"), Some(0.0));
    assert_eq!(value(&text, "vellum_peers{breaker=\"closed\"}"), Some(1.0));
    assert!(value(&text, "vellum_database_group_seconds_count").unwrap() > 1.0);
    let inbox = "vellum_http_requests_total{method=\"POST\",route=\"/federation/inbox\",status=\"202\"}";
    assert_eq!(value(&text, inbox), Some(1.0));
    assert!(!text.contains("ann") && !text.contains("bob"), "nobody's name");
    assert!(!text.contains("localhost:"), "nobody's address: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_dashboard_and_alerts_name_exists() {
    let node = busy_node().await;
    let text = eventually("everything has happened once", || async {
        let text = scrape(&node).await;
        text.contains("vellum_delivery_latency_seconds").then_some(text)
    })
    .await;
    let docs = [
        include_str!("../docs/operations/alerts.yaml"),
        include_str!("../docs/operations/grafana-dashboard.json"),
    ];
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = docs.iter().flat_map(|doc| doc.split(|letter| !is_part(letter)));
    let named: BTreeSet<&str> = words.filter(|word| word.starts_with("vellum_")).collect();
    assert!(named.len() > 15, "{named:?}");
    for name in named {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} is not there");
    }
}

#[tokio::test]
async fn metrics_are_for_this_machine_and_for_administrators() {
    let node = TestNode::start().await;
    let url = format!("{}/metrics", node.process.origin());
    let from_afar = || plain_http().get(&url).header("x-forwarded-for", "127.0.0.1");
    assert_eq!(from_afar().send().await.unwrap().status(), 401, "a proxy that nobody trusts passed it on");
    let bearer = |token: &str| format!("Bearer {token}");
    let admin = node.token(FIRST_ADMINISTRATOR).await;
    let answer = from_afar().header(AUTHORIZATION, bearer(admin.expose())).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let ann = node.person("ann").await;
    let token = ann.client.token().unwrap();
    let answer = from_afar().header(AUTHORIZATION, bearer(token.expose())).send().await.unwrap();
    assert_eq!(answer.status(), 403);

    let closed = TestNode::start_with(&[("VELLUM_HTTP__METRICS_NETWORKS", "192.0.2.0/24")]).await;
    let url = format!("{}/metrics", closed.process.origin());
    assert_eq!(plain_http().get(url).send().await.unwrap().status(), 401);
}
