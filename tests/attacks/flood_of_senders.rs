//! The attacker has many addresses and no node. He posts to the inbox in the names of servers that nobody has met, a new
//! one each time, at which connections hang. For each the node has to ask that server who it is: he would have it open
//! connections, and keep records, until none are left for anybody else. What stops him: requests count by address
//! before anything else, a fixed number of strangers is asked at the same time, and who was met before does not wait
//! for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use vellum_protocol::MessageType;

use crate::support::{Database, Peer, TestNode, now, plain_http};

/// Takes connections and says nothing; counts how many are open at once at most.
async fn hanging() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let (port, taken) = (listener.local_addr().unwrap().port(), Arc::<AtomicUsize>::default());
    let counted = Arc::clone(&taken);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (port, taken)
}

/// Posts to the inbox as a server of this name, from this address.
async fn post(http: &reqwest::Client, node: &TestNode, server: &str, address: &str) -> u16 {
    let request = http
        .post(format!("{}/federation/inbox", node.process.origin()))
        .header("x-forwarded-for", address)
        .header("x-parchment-server-id", server)
        .header("x-parchment-protocol-version", "2")
        .header("x-parchment-nonce", "AAAAAAAAAAAAAAAAAAAAAA==")
        .header("x-parchment-timestamp", now().to_rfc3339())
        .header("x-parchment-server-signature", "A".repeat(86) + "==")
        .json(&serde_json::json!({}));
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_no_more_requests_however_many_names_it_gives() {
    let settings = [("VELLUM_LIMITS__ENABLED", "true"), ("VELLUM_LIMITS__INBOX_PER_MINUTE", "5")];
    let node = TestNode::start_with(&settings).await;
    let http = plain_http();
    let mut answers = Vec::new();
    for n in 0..8 {
        // Nobody listens at port 1.
        answers.push(post(&http, &node, &format!("127.0.7.{n}:1"), &format!("9.9.9.{n}")).await);
    }
    assert_eq!(answers, [401, 401, 401, 401, 401, 429, 429, 429]);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_without_number_keep_nobody_from_being_served() {
    let settings = [("VELLUM_LIMITS__ENABLED", "true"), ("VELLUM_HTTP__TRUSTED_PROXIES", "127.0.0.0/8")];
    let node = TestNode::start_with(&settings).await;
    let (ann, friend) = (node.person("ann").await, Peer::start().await);
    let bob = friend.user("bob");
    friend.invite(&bob, &ann.handle()).await;
    // So that the friend's manifest is asked for anew in the middle of the flood.
    node.process.run(&["queue", "retry"]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;

    let (port, taken) = hanging().await;
    let http = plain_http();
    let flood = async {
        let requests = (0..400_u32).map(|n| {
            let (http, node) = (&http, &node);
            async move {
                let server = format!("127.1.{}.{}:{port}", n / 200, n % 200 + 1);
                post(http, node, &server, &format!("9.9.{}.{}", n / 200, n % 200)).await
            }
        });
        futures_util::future::join_all(requests).await
    };
    let served = async {
        let begun = Instant::now();
        while taken.load(Ordering::SeqCst) < 64 {
            assert!(begun.elapsed() < Duration::from_secs(20), "the flood does not come");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let kind = MessageType::RelationshipRevoke;
        let to = ann.handle();
        let revoke = bob.signer.envelope(kind, &to, Default::default(), now(), &mut rand::rng());
        let (status, answer) = friend.send(&revoke).await;
        assert_eq!(status, 202, "who was met before is served: {answer}");
        assert!(ann.friends().await.is_empty());
    };
    let (answers, ()) = tokio::join!(flood, served);
    let of = |status: u16| answers.iter().filter(|answer| **answer == status).count();
    assert_eq!(of(401) + of(503), 400, "{answers:?}");
    let asked = taken.load(Ordering::SeqCst);
    assert!(
        asked == of(401) && (64..200).contains(&asked),
        "{asked} connections, {} refused at once",
        of(503)
    );
    let kept = Database::of(&node).await.count_peers().await;
    assert_eq!(kept, 1, "nothing is remembered of strangers");
}
