//! Many revocations at once: some peers are well and some are not, and the node is killed again and again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::RngExt;
use tokio::net::TcpListener;
use vellum_client::http::RevocationState;
use vellum_protocol::{Handle, Json, MessageType};

use crate::support::{Database, Mood, Peer, Person, TestNode, wait_for};

/// Somebody whom so many people on each of the peers have invited, and who starts anew: a revocation for
/// each of them waits for its signature.
/// As many invitations as a long queue begins with are more than a node takes by default.
pub const MANY_INVITATIONS: [(&str, &str); 2] =
    [("VELLUM_INVITATIONS__PER_SERVER", "1000"), ("VELLUM_INVITATIONS__PER_RECIPIENT", "10000")];

pub async fn with_pending(node: &TestNode, peers: &[Peer], each: usize) -> (Person, Vec<Vec<Handle>>) {
    named_with_pending(node, "ann", peers, each).await
}

async fn named_with_pending(
    node: &TestNode,
    alias: &str,
    peers: &[Peer],
    each: usize,
) -> (Person, Vec<Vec<Handle>>) {
    let mut ann = node.person(alias).await;
    let of_peer = async |peer: &Peer| {
        let mut handles = Vec::with_capacity(each);
        for n in 0..each {
            let user = peer.user(&format!("user{n}"));
            peer.invite(&user, &ann.handle()).await;
            handles.push(user.handle);
        }
        handles
    };
    let handles = join_all(peers.iter().map(of_peer)).await;
    ann.client.reset_identity().await.unwrap();
    ann.new_keys().await;
    (ann, handles)
}

pub async fn peers(count: usize) -> Vec<Peer> {
    join_all((0..count).map(|_| Peer::start())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_hundred_over_twenty_peers_the_healthy_are_delivered_and_the_rest_is_queued_with_reasons() {
    let [per_server, per_recipient] = MANY_INVITATIONS;
    let wait = ("VELLUM_FEDERATION__FLUSH_WAIT_MS", "8000");
    let node = TestNode::start_with(&[per_server, per_recipient, wait]).await;
    let peers = peers(20).await;
    let (ann, handles) = with_pending(&node, &peers, 10).await;
    for peer in &peers[..5] {
        peer.set_mood(Mood::Hangs);
    }
    for peer in &peers[5..10] {
        peer.set_mood(Mood::Answers(400, r#"{"message":"not today"}"#.to_owned()));
    }
    let started = Instant::now();
    let results = ann.flush(&handles.concat()).await;
    let took = started.elapsed();
    // The node waits 8 s for outcomes; storing 200 items comes on top.
    assert!(took < Duration::from_secs(16), "the call returns within its limit: {took:?}");
    assert_eq!(results.len(), 200);
    for (result, n) in results.iter().zip(0..) {
        let reason = result.error.clone().unwrap_or_default();
        let waits = reason.contains("not answered yet") || reason.contains("not attempted yet");
        match n / 10 {
            0..5 => assert!(!result.delivered && waits, "{n}: {result:?}"),
            5..10 => assert!(!result.delivered && (waits || reason.contains("not today")), "{n}: {result:?}"),
            _ => assert!(result.delivered, "{n}: {result:?}"),
        }
    }
    let refused =
        results[50..100].iter().filter(|result| result.error.as_ref().unwrap().contains("not today"));
    assert!(refused.count() > 0, "the refusing peers' words are told");
    let pending = ann.pending().await;
    assert_eq!(pending.len(), 100, "what is not delivered is still there");
    let under_way = |state| matches!(state, RevocationState::Queued | RevocationState::Delivering);
    assert!(pending.iter().all(|row| under_way(row.state)));
    assert!(peers[10..].iter().all(|peer| peer.received_of(MessageType::RelationshipRevoke).len() == 10));
}

/// From a flush to the arrival of the last revocation at these peers, so many more at each.
async fn flush_until_arrived(ann: &Person, handles: &[Handle], peers: &[Peer], each: usize) -> Duration {
    let count = |peer: &Peer| peer.received_of(MessageType::RelationshipRevoke).len();
    let expected: Vec<usize> = peers.iter().map(|peer| count(peer) + each).collect();
    let started = Instant::now();
    let arrived = async {
        while peers.iter().zip(&expected).any(|(peer, expected)| count(peer) < *expected) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        started.elapsed()
    };
    tokio::join!(ann.flush(handles), arrived).1
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_hang_refuse_or_are_away_delay_the_healthy_by_no_multiple() {
    let node = TestNode::start_with(&MANY_INVITATIONS).await;
    let peers = peers(20).await;
    // So that the peers' own time is what counts, on a machine that does other things besides.
    let healthy = &peers[10..];
    for peer in healthy {
        peer.set_mood(Mood::Dawdles(Duration::from_millis(300)));
    }
    let (first, handles) = named_with_pending(&node, "first", healthy, 10).await;
    let alone = flush_until_arrived(&first, &handles.concat(), healthy, 10).await;

    let (ann, handles) = with_pending(&node, &peers, 10).await;
    for peer in &peers[..5] {
        peer.set_mood(Mood::Hangs);
    }
    for peer in &peers[5..10] {
        peer.set_mood(Mood::Answers(400, r#"{"message":"not today"}"#.to_owned()));
    }
    // And some at which nobody listens; held until all ports are given out.
    let away = join_all((0..5).map(|_| TcpListener::bind("127.0.0.1:0"))).await;
    for listener in away.into_iter().map(Result::unwrap) {
        let domain = format!("localhost:{}", listener.local_addr().unwrap().port());
        Database::of(&node).await.add_messages(&ann, &domain, 10).await;
    }
    let beside_others = flush_until_arrived(&ann, &handles.concat(), healthy, 10).await;
    println!("100 rows to 10 healthy peers: alone {alone:?}, beside 15 others {beside_others:?}");
    assert!(beside_others < alone * 3, "alone {alone:?}, beside others {beside_others:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_rows_for_one_dead_node_cost_it_a_probe_an_interval() {
    let node = TestNode::start_with(&[
        ("VELLUM_FEDERATION__RETRY_FIRST_MS", "500"),
        ("VELLUM_FEDERATION__RETRY_LONGEST_MS", "1000"),
    ])
    .await;
    let ann = node.person("ann").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let domain = format!("localhost:{}", listener.local_addr().unwrap().port());
    let connections = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        // It takes connections and breaks them off.
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    Database::of(&node).await.add_messages(&ann, &domain, 10_000).await;
    node.process.run(&["queue", "retry"]).await.unwrap();
    let probes = || connections.load(Ordering::SeqCst);
    wait_for("it is tried", || async { probes() }, |seen| *seen > 0).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    // Intervals of a quarter of a second at least, then of half of one; a broken connection may be tried twice.
    let so_far = probes();
    assert!((3..=30).contains(&so_far), "{so_far} connections for ten thousand rows");
    let attempts: u32 = ann.pending().await.iter().map(|row| row.attempts).sum();
    assert!((3..=16).contains(&attempts), "{attempts} attempts");
}

/// Envelopes, and kills of the node while they drain.
const ENVELOPES_EACH: usize = 100;
const PEERS: usize = 10;
const KILLS: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_a_hundred_times_loses_nothing_and_sends_nothing_that_was_dropped() {
    let [per_server, per_recipient] = MANY_INVITATIONS;
    let mut node = TestNode::start_with(&[
        per_server,
        per_recipient,
        ("VELLUM_FEDERATION__RETRY_FIRST_MS", "50"),
        ("VELLUM_FEDERATION__RETRY_LONGEST_MS", "200"),
        ("VELLUM_FEDERATION__FLUSH_WAIT_MS", "0"),
    ])
    .await;
    let peers = peers(PEERS).await;
    let (mut ann, handles) = with_pending(&node, &peers, ENVELOPES_EACH).await;
    let handles = handles.concat();
    slow_down(&peers, Duration::from_millis(600));
    ann.flush(&handles).await;

    let token = ann.client.token().unwrap().clone();
    let mut dropped: HashMap<Handle, usize> = HashMap::new();
    for round in 0..KILLS {
        let pause = rand::rng().random_range(0..250);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        // One that is still pending is dropped now and then; from the answer on, none may arrive.
        if (round % 4 == 0 || dropped.is_empty())
            && let Some(row) = ann.pending().await.pop()
            && ann.client.discard_revocation(&row.peer_handle).await.is_ok()
        {
            // What was on the wire before the answer may still be read.
            tokio::time::sleep(Duration::from_millis(50)).await;
            dropped.insert(row.peer_handle.clone(), arrivals(&peers, &row.peer_handle).len());
        }
        node.process.kill().await.unwrap();
        node.process.start().await.unwrap();
        ann.client = node.client();
        ann.client.set_token(Some(token.clone()));
    }
    for peer in &peers {
        peer.set_mood(Mood::Well);
    }
    wait_for("everything has arrived", || ann.pending(), |seen| seen.is_empty()).await;

    assert_each_arrived_once(&peers, &handles, &dropped);
}

/// Half of the peers take their time, this long at most. The others take nothing for now: however fast a node is, it has
/// something to send, and to drop, for as long as this lasts.
pub fn slow_down(peers: &[Peer], longest: Duration) {
    for (n, peer) in peers.iter().enumerate() {
        let away = Mood::Answers(503, String::new());
        peer.set_mood(if n % 2 == 0 { away } else { Mood::Dawdles(longest) });
    }
}

/// Every envelope has arrived and is one envelope, however often it came; one that was dropped has not come
/// since (`dropped` says how often it had come by then).
pub fn assert_each_arrived_once(peers: &[Peer], handles: &[Handle], dropped: &HashMap<Handle, usize>) {
    assert!(!dropped.is_empty(), "some were dropped on the way");
    for handle in handles {
        let arrived = arrivals(peers, handle);
        if let Some(before) = dropped.get(handle) {
            assert_eq!(arrived.len(), *before, "{handle}: sent after it was dropped");
            continue;
        }
        assert!(!arrived.is_empty(), "{handle} was lost");
        // However often it came, it is one envelope: its receiver carries it out once.
        assert_eq!(arrived.iter().collect::<HashSet<_>>().len(), 1, "{handle}");
    }
}

/// The envelopes for somebody that have come to their node, as texts.
pub fn arrivals(peers: &[Peer], handle: &Handle) -> Vec<String> {
    let peer = peers.iter().find(|peer| peer.domain() == *handle.domain()).unwrap();
    let is_theirs = |message: &&Json| message.get("to").and_then(Json::as_str) == Some(handle.as_str());
    peer.received_of(MessageType::RelationshipRevoke).iter().filter(is_theirs).map(Json::canonical).collect()
}
