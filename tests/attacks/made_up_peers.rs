//! The attacker has an account. He looks up people at nodes that cannot be, or that the node does
//! not connect to, a new name each time. He would have it keep an actor and a row for each, until
//! its memory and its disk are full; and he would read from its answers what it found there. What
//! stops him: what a name tells by itself is refused before anything is kept for it, what fails
//! leaves nothing behind, and whatever kept a node from answering is told in the same words.

use futures_util::StreamExt;
use serde_json::Value;
use tokio::net::TcpListener;
use vellum_client::http::Method;

use crate::metrics::{scrape, value};
use crate::support::{Database, Peer, Person, TestNode};

const ACTORS: &str = "vellum_actors{kind=\"peer\"}";

/// Looks somebody up at each of these: the answers' statuses, each once.
async fn resolve_at(person: &Person, domains: impl Iterator<Item = String>) -> Vec<u16> {
    let asked = domains.map(|domain| async move {
        person.ask(Method::GET, &format!("/friends/resolve/bob@{domain}"), Value::Null).await.0
    });
    let mut statuses: Vec<u16> = futures_util::stream::iter(asked).buffer_unordered(16).collect().await;
    statuses.sort_unstable();
    statuses.dedup();
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_refused_leave_no_actor_and_no_row() {
    let node = TestNode::start_with(&[("VELLUM_FEDERATION__ALLOW_PRIVATE_PEERS", "false")]).await;
    let mallory = node.person("mallory").await;
    for (what, domain) in [
        ("a blocked network", |n: u32| format!("10.0.{}.{}", n / 250, n % 250)),
        ("a port that is none", |n| format!("node{n}.example:0")),
        ("a port over 65535", |n| format!("node{n}.example:99999")),
        ("a name in a blocked network", |n| format!("localhost:{}", n + 1)),
    ] as [(&str, fn(u32) -> String); 4]
    {
        assert_eq!(resolve_at(&mallory, (0..750).map(domain)).await, [502], "{what}");
        assert_eq!(value(&scrape(&node).await, ACTORS), Some(0.0), "{what}: actors");
        assert_eq!(Database::of(&node).await.count_peers().await, 0, "{what}: rows");
    }

    let closed = TestNode::start_with(&[("VELLUM_FEDERATION__MODE", "allow_list")]).await;
    let mallory = closed.person("mallory").await;
    assert_eq!(resolve_at(&mallory, (0..750).map(|n| format!("node{n}.example"))).await, [403]);
    assert_eq!(value(&scrape(&closed).await, ACTORS), Some(0.0), "blocked nodes: actors");
    assert_eq!(Database::of(&closed).await.count_peers().await, 0, "blocked nodes: rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_reached_has_its_actor_and_its_row() {
    let node = TestNode::start().await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    peer.user("bob");
    assert_eq!(resolve_at(&ann, std::iter::once(peer.domain().to_string())).await, [200]);
    assert_eq!(value(&scrape(&node).await, ACTORS), Some(1.0));
    assert_eq!(Database::of(&node).await.count_peers().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_kept_a_node_from_answering_is_told_in_the_same_words() {
    let silent = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let silent = format!("127.0.0.2:{}", silent.local_addr().unwrap().port());
    let mut told = Vec::new();
    for (private, domains) in [
        (
            "false",
            vec![
                "127.0.0.1",
                "localhost:1",
                "10.0.0.1:22",
                "169.254.169.254",
                "a.example:0",
                "a.example:99999",
                "no.invalid",
            ],
        ),
        // Nobody listens, and somebody says nothing.
        ("true", vec!["localhost:1", &silent]),
    ] {
        let node = TestNode::start_with(&[("VELLUM_FEDERATION__ALLOW_PRIVATE_PEERS", private)]).await;
        let mallory = node.person("mallory").await;
        for domain in domains {
            let path = format!("/friends/resolve/bob@{domain}");
            let (status, mut answer) = mallory.ask(Method::GET, &path, Value::Null).await;
            assert_eq!(status, 502, "{domain}: {answer}");
            answer["domain"] = domain.into();
            told.push(answer);
        }
    }
    for answer in &told {
        for member in ["message", "detail", "error", "code"] {
            assert_eq!(answer[member], told[0][member], "{} and {}", answer["domain"], told[0]["domain"]);
        }
    }
    assert!(!told[0]["message"].as_str().unwrap().contains("127"), "{}", told[0]);
}
