//! Several nodes on one PostgreSQL database, and what becomes of it all when the database goes away.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::RngExt;
use serde_json::{Value, json};
use vellum_client::http::Method;
use vellum_protocol::{Handle, MessageType};
use vellum_test_database::{PostgresServer, shared_server};

use crate::drain::{arrivals, assert_each_arrived_once, peers, with_pending};
use crate::support::{Mood, Peer, Person, Replicas, TestNode, eventually, plain_http};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ended_on_one_node_is_refused_on_every_other_at_once() {
    let Some(server) = shared_server() else { return };
    let replicas = Replicas::start(server, 3, &[]).await;
    let ann = replicas.nodes[0].person("ann").await;
    for node in 0..3 {
        let seen = replicas.through(node, &ann);
        assert_eq!(seen.ask(Method::GET, "/users/me/identity", Value::Null).await.0, 200);
    }
    assert_eq!(replicas.through(1, &ann).ask(Method::DELETE, "/auth/sessions", Value::Null).await.0, 204);
    for node in 0..3 {
        let seen = replicas.through(node, &ann);
        assert_eq!(seen.ask(Method::GET, "/users/me/identity", Value::Null).await.0, 401, "node {node}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_discarded_on_one_node_is_stopped_on_the_one_that_is_sending_it() {
    let Some(server) = shared_server() else { return };
    let replicas = Replicas::start(server, 3, &[("VELLUM_FEDERATION__FLUSH_WAIT_MS", "200")]).await;
    let peers = [Peer::start().await];
    let (ann, handles) = with_pending(&replicas.nodes[0], &peers, 6).await;
    peers[0].set_mood(Mood::Hangs);
    // Flushed through each of the nodes, so each has attempts in hand.
    for (n, handle) in handles[0].iter().enumerate() {
        replicas.through(n % 3, &ann).flush(std::slice::from_ref(handle)).await;
    }
    let asked = Instant::now();
    for (n, handle) in handles[0].iter().enumerate() {
        replicas.through((n + 1) % 3, &ann).client.discard_revocation(handle).await.unwrap();
    }
    assert!(asked.elapsed() < Duration::from_secs(20), "nobody waits for a lease to run out");
    assert!(ann.pending().await.is_empty());
    let before = peers[0].received_of(MessageType::RelationshipRevoke).len();
    peers[0].set_mood(Mood::Well);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        peers[0].received_of(MessageType::RelationshipRevoke).len(),
        before,
        "nothing is sent any more"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_hears_of_a_delivery_that_another_node_makes() {
    let Some(server) = shared_server() else { return };
    let replicas = Replicas::start(server, 2, &[("VELLUM_FEDERATION__FLUSH_WAIT_MS", "15000")]).await;
    let peers = [Peer::start().await];
    let (ann, handles) = with_pending(&replicas.nodes[0], &peers, 1).await;
    peers[0].set_mood(Mood::Dawdles(Duration::from_secs(6)));
    let through = |node| {
        let (seen, handle) = (replicas.through(node, &ann), handles[0][0].clone());
        async move { seen.flush(&[handle]).await.remove(0) }
    };
    // The second flush signs anew while the first one's attempt is under way; whichever node sends it, both hear.
    let (first, second) = tokio::join!(through(0), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        through(1).await
    });
    assert!(second.delivered, "{second:?}");
    assert!(first.delivered || first.error.is_some(), "{first:?}");
    assert!(ann.pending().await.is_empty());
}

#[tokio::test]
async fn a_node_with_another_key_or_name_does_not_join() {
    let Some(server) = shared_server() else { return };
    let replicas = Replicas::start(server, 1, &[]).await;
    let database = replicas.nodes[0].process.setting("VELLUM_DATABASE__URL").unwrap();
    for (settings, word) in [
        (vec![("VELLUM_HTTP__ORIGIN", replicas.origin.as_str())], "another server key"),
        (vec![("VELLUM_HTTP__ORIGIN", "http://localhost:1")], "another domain"),
        (
            vec![
                ("VELLUM_HTTP__ORIGIN", replicas.origin.as_str()),
                ("VELLUM_SERVER__IDENTITY_KEY", "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk="),
            ],
            "other wrapping keys",
        ),
    ] {
        let mut settings = settings;
        settings.push(("VELLUM_DATABASE__URL", database));
        settings.push(("VELLUM_HTTP__LISTEN", "127.0.0.1:0"));
        let stranger = TestNode::prepared(&settings);
        let told = stranger.process.run(&["serve"]).await.unwrap_err().to_string();
        assert!(told.contains(word), "{word}: {told}");
    }
}

const PEERS: usize = 20;
const ENVELOPES_EACH: usize = 50;
const KILLS: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_envelopes_drain_while_nodes_are_killed_and_started_and_none_is_lost() {
    let Some(server) = shared_server() else { return };
    let settings = [
        ("VELLUM_FEDERATION__RETRY_FIRST_MS", "50"),
        ("VELLUM_FEDERATION__RETRY_LONGEST_MS", "200"),
        ("VELLUM_FEDERATION__FLUSH_WAIT_MS", "0"),
    ];
    let mut replicas = Replicas::start(server, 3, &settings).await;
    let peers = peers(PEERS).await;
    let (ann, handles) = with_pending(&replicas.nodes[0], &peers, ENVELOPES_EACH).await;
    let handles: Vec<Handle> = handles.concat();
    for peer in &peers {
        peer.set_mood(Mood::Dawdles(Duration::from_millis(400)));
    }
    ann.flush(&handles).await;
    let mut dropped: HashMap<Handle, usize> = HashMap::new();
    for round in 0..KILLS {
        let pause = rand::rng().random_range(0..150);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let (asked, killed) = (round % 3, (round + 1) % 3);
        let seen = replicas.through(asked, &ann);
        if round % 4 == 0
            && let Some(row) = seen.pending().await.pop()
            && seen.client.discard_revocation(&row.peer_handle).await.is_ok()
        {
            // What was on the wire before the answer may still be read.
            tokio::time::sleep(Duration::from_millis(50)).await;
            dropped.insert(row.peer_handle.clone(), arrivals(&peers, &row.peer_handle).len());
        }
        let process = &mut replicas.nodes[killed].process;
        process.kill().await.unwrap();
        process.start().await.unwrap();
    }
    for peer in &peers {
        peer.set_mood(Mood::Well);
    }
    let ann = replicas.through(0, &ann);
    eventually("everything has arrived", || async { ann.pending().await.is_empty().then_some(()) }).await;
    assert_each_arrived_once(&peers, &handles, &dropped);
}

/// What one writer was told: the last value that was acknowledged, and the values refused after it.
#[derive(Debug, Default)]
struct Told {
    acknowledged: usize,
    refused: Vec<usize>,
    unanswered: Vec<usize>,
    count: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_crashes_under_load_keeps_what_was_acknowledged_and_nothing_that_was_refused() {
    let Some(server) = PostgresServer::start() else { return };
    let replicas = Replicas::start(&server, 2, &[]).await;
    let ann = replicas.nodes[0].person("ann").await;
    let done = Arc::new(AtomicBool::new(false));
    let writers = (0..8).map(|n| {
        let (seen, done) = (replicas.through(n % 2, &ann), Arc::clone(&done));
        tokio::spawn(async move { write_until(&seen, n, &done).await })
    });
    let writers: Vec<_> = writers.collect();
    let server = Arc::new(server);
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let crashing = Arc::clone(&server);
        tokio::task::spawn_blocking(move || {
            crashing.crash();
            crashing.restart();
        })
        .await
        .unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    done.store(true, Ordering::Relaxed);
    let told: Vec<Told> = join_all(writers).await.into_iter().map(Result::unwrap).collect();
    assert!(told.iter().any(|told| !told.refused.is_empty()), "the crashes were noticed: {told:?}");
    eventually("the nodes recover by themselves", || async {
        let answer = plain_http().get(format!("{}/health/ready", replicas.address(1))).send().await.ok()?;
        (answer.status() == 200).then_some(())
    })
    .await;
    for (n, told) in told.iter().enumerate() {
        assert!(told.acknowledged > 0, "{told:?}");
        let (status, blob) = ann.ask(Method::GET, &format!("/me/blobs/writer{n}"), Value::Null).await;
        assert_eq!(status, 200, "writer {n}");
        let stands: usize = blob["encryptedBlob"].as_str().unwrap().parse().unwrap();
        let after: Vec<usize> = told.unanswered.iter().copied().filter(|v| *v > told.acknowledged).collect();
        assert!(
            stands == told.acknowledged || after.contains(&stands),
            "writer {n} shows {stands}: {told:?}"
        );
        assert!(!told.refused.contains(&stands), "writer {n}: a refused write stands: {told:?}");
    }
}

async fn write_until(seen: &Person, n: usize, done: &AtomicBool) -> Told {
    let mut told = Told::default();
    while !done.load(Ordering::Relaxed) {
        told.count += 1;
        let body = json!({ "encryptedBlob": told.count.to_string() });
        match seen.client.request_json(Method::PUT, &format!("/me/blobs/writer{n}"), Some(&body)).await {
            Ok((200..=204, _)) => told.acknowledged = told.count,
            Ok((503, _)) => {
                told.refused.push(told.count);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(other) => panic!("writer {n}: {other:?}"),
            Err(_) => told.unanswered.push(told.count),
        }
    }
    told
}

/// A step of the history that the running version does not know: compatible one version back.
const TOMORROW: &str = "create table if not exists of_tomorrow (id bigint);
    alter table users add column if not exists of_tomorrow text;";

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_replaced_one_by_one_by_a_newer_version_under_load() {
    let Some(server) = shared_server() else { return };
    let mut replicas = Replicas::start(server, 3, &[]).await;
    let ann = replicas.nodes[0].person("ann").await;
    let done = Arc::new(AtomicBool::new(false));
    let token = ann.client.token().unwrap().expose().to_owned();
    let writers = (0..4).map(|n| {
        let (done, token, origin) = (Arc::clone(&done), token.clone(), replicas.origin.clone());
        tokio::spawn(async move { ask_until(&origin, &token, n, &done).await })
    });
    let writers: Vec<_> = writers.collect();
    for n in 0..3 {
        // As balancers do: a node that is about to stop gets no new connections.
        let port = replicas.take_out(n);
        let process = &mut replicas.nodes[n].process;
        process.stop().await.unwrap();
        process.set("TEST_TOMORROWS_MIGRATION", TOMORROW);
        process.start().await.unwrap();
        replicas.put_back(n, port);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    done.store(true, Ordering::Relaxed);
    let mut served = 0;
    for writer in writers {
        let (good, bad) = writer.await.unwrap();
        assert!(bad.is_empty(), "requests failed: {bad:?}");
        served += good;
    }
    assert!(served > 100, "{served} requests were served meanwhile");
}

/// Writes and reads through the balancer, each request on a connection of its own. Counts what was served, and
/// returns what failed other than by a 503 with `Retry-After`.
async fn ask_until(origin: &str, token: &str, n: usize, done: &AtomicBool) -> (usize, Vec<String>) {
    let (mut good, mut bad) = (0, Vec::new());
    let client =
        reqwest::Client::builder().no_proxy().tls_certs_only([]).pool_max_idle_per_host(0).build().unwrap();
    while !done.load(Ordering::Relaxed) {
        let blob = client.put(format!("{origin}/me/blobs/w{n}")).json(&json!({ "encryptedBlob": "x" }));
        let identity = client.get(format!("{origin}/users/me/identity"));
        for request in [blob, identity] {
            match request.bearer_auth(token).send().await {
                Ok(answer) if answer.status().is_success() => good += 1,
                Ok(answer) if answer.status() == 503 && answer.headers().contains_key("retry-after") => {}
                Ok(answer) => bad.push(answer.status().to_string()),
                Err(error) => bad.push(format!("{error:?}")),
            }
        }
    }
    (good, bad)
}
