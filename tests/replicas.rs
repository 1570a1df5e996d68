//! Several nodes on one PostgreSQL database, and what becomes of it all when the database goes away.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use rand::RngExt;
use serde_json::{Value, json};
use vellum_client::http::{ClientError, Method, RevocationState};
use vellum_protocol::{Handle, KmVersion, MessageType};
use vellum_test_database::{PostgresServer, shared_server};

use crate::drain::{MANY_INVITATIONS, arrivals, assert_each_arrived_once, peers, slow_down, with_pending};
use crate::events::Events;
use crate::support::{Database, Mood, Peer, Person, Replicas, TestNode, eventually, plain_http, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ended_on_one_node_is_refused_on_every_other_at_once() {
    let Some(server) = shared_server() else { return };
    let replicas = Replicas::start(server, 3, &[]).await;
    let ann = replicas.nodes[0].person("ann").await;
    for node in 0..3 {
        let seen = replicas.through(node, &ann);
        seen.ask_for(200, Method::GET, "/users/me/identity", Value::Null).await;
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
    peers[0].set_mood(Mood::Takes(Duration::from_secs(5)));
    let through = |node| {
        let (seen, handle) = (replicas.through(node, &ann), handles[0][0].clone());
        async move { seen.flush(&[handle]).await.remove(0) }
    };
    // The second flush signs anew while the first one's attempt is under way. One of the nodes sends it; both hear, long
    // before they would look for themselves.
    let mut events = Events::at(&replicas.address(0), &ann).await;
    let asked = Instant::now();
    let (first, second) = tokio::join!(through(0), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        through(1).await
    });
    assert!(first.delivered && second.delivered, "{first:?} {second:?}");
    assert!(asked.elapsed() < Duration::from_secs(12), "{:?}", asked.elapsed());
    assert!(ann.pending().await.is_empty());
    events.next_of("gone").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discard_stops_what_another_node_sends_although_a_newer_signature_has_taken_its_place() {
    let Some(server) = shared_server() else { return };
    let replicas = Replicas::start(server, 2, &[("VELLUM_FEDERATION__FLUSH_WAIT_MS", "200")]).await;
    let peers = [Peer::start().await];
    let (ann, handles) = with_pending(&replicas.nodes[0], &peers, 3).await;
    // The one node has met the peer, the other waits for its manifest before it can send.
    peers[0].set_mood(Mood::Hangs);
    peers[0].delay_manifest(Duration::from_secs(3));
    replicas.through(1, &ann).flush(&handles[0]).await;
    replicas.through(0, &ann).flush(&handles[0]).await;
    for handle in &handles[0] {
        replicas.through(0, &ann).client.discard_revocation(handle).await.unwrap();
    }
    let before = peers[0].received().len();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(peers[0].received().len(), before, "nothing is sent any more");
    assert!(ann.pending().await.is_empty());
}

/// Sends a signal to a node's process, `STOP` or `CONT`.
#[cfg(debug_assertions)]
async fn signal(node: &TestNode, name: &str) {
    let pid = node.process.pid().unwrap().to_string();
    let sent = tokio::process::Command::new("kill").args(["-s", name, &pid]).status().await.unwrap();
    assert!(sent.success(), "SIG{name} to the node");
}

/// A release's clock cannot be put wrong.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_suspended_does_not_send_what_another_has_sent_meanwhile() {
    let Some(server) = shared_server() else { return };
    let folder = tempfile::tempdir().unwrap();
    let clock = folder.path().join("clock");
    std::fs::write(&clock, "0").unwrap();
    let settings =
        [("VELLUM_FEDERATION__FLUSH_WAIT_MS", "200"), ("TEST_CLOCK_FILE", clock.to_str().unwrap())];
    let replicas = Replicas::start(server, 2, &settings).await;
    let peers = [Peer::start().await];
    let (ann, handles) = with_pending(&replicas.nodes[0], &peers, 1).await;
    let sent = || peers[0].received_of(MessageType::RelationshipRevoke).len();
    // The one node has met the peer, the other waits for its manifest before it can send. The one
    // stands still meanwhile: it may be looking for rows already, and would take this one first.
    peers[0].delay_manifest(Duration::from_secs(8));
    signal(&replicas.nodes[0], "STOP").await;
    let second = replicas.through(1, &ann);
    second.flush(&handles[0]).await;
    assert_eq!(second.pending().await[0].state, RevocationState::Delivering);
    // Two minutes go by, in which the second node is suspended: its lease is over, and the first
    // takes the row.
    std::fs::write(&clock, "120000 120000").unwrap();
    signal(&replicas.nodes[0], "CONT").await;
    ann.ask_for(200, Method::PATCH, "/users/me/profile", json!({ "firstName": "Ann" })).await;
    wait_for("the first node sends it", || async { sent() }, |seen| *seen == 1).await;
    // The second gets the manifest that it has waited for.
    let log = || std::fs::read_to_string(replicas.nodes[1].process.log_path()).unwrap();
    let over =
        || async { (log().contains("the attempt took longer than it may") || sent() > 1).then_some(()) };
    eventually("its attempt is over", over).await;
    assert_eq!(sent(), 1, "both have sent it");
    wait_for("it is delivered", || ann.pending(), |seen| seen.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_of_a_node_that_stays_dead_are_taken_over_when_its_leases_end() {
    let Some(server) = shared_server() else { return };
    let mut replicas = Replicas::start(server, 2, &[("VELLUM_FEDERATION__FLUSH_WAIT_MS", "200")]).await;
    let peers = [Peer::start().await];
    let (ann, handles) = with_pending(&replicas.nodes[0], &peers, 4).await;
    let (first, others) = handles[0].split_at(1);
    // Only whoever has taken something is sent more than one row at a time.
    ann.flush(first).await;
    wait_for("the first has arrived", || ann.pending(), |seen| seen.len() == 3).await;
    peers[0].set_mood(Mood::Hangs);
    replicas.nodes[1].process.kill().await.unwrap();
    ann.flush(others).await;
    wait_for(
        "all are being sent",
        || ann.pending(),
        |seen| seen.iter().all(|row| row.state == RevocationState::Delivering),
    )
    .await;
    replicas.nodes[1].process.start().await.unwrap();
    replicas.nodes[0].process.kill().await.unwrap();
    peers[0].set_mood(Mood::Well);
    let ann = replicas.through(1, &ann);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(ann.pending().await.len(), 3, "leases that may be somebody's are left alone");
    // A minute goes by, and the other node has a reason to look.
    Database::of(&replicas.nodes[1]).await.age_leases().await;
    ann.ask_for(200, Method::PATCH, "/users/me/profile", json!({ "firstName": "Ann" })).await;
    wait_for("the other node delivers", || ann.pending(), |seen| seen.is_empty()).await;
    let arrived = peers[0].received_of(MessageType::RelationshipRevoke);
    assert!(handles[0].iter().all(|handle| !arrivals(&peers, handle).is_empty()), "{arrived:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_put_back_on_the_server_is_recognised_and_shows_nobody_older_keys() {
    let Some(server) = shared_server() else { return };
    let mut replicas = Replicas::start(server, 1, &[]).await;
    let ann = replicas.nodes[0].person("ann").await;
    let process = &mut replicas.nodes[0].process;
    process.stop().await.unwrap();
    let older = server.copy_of(process.setting("VELLUM_DATABASE__URL").unwrap());
    process.start().await.unwrap();
    let seed = vellum_client::MasterSeed::generate(&mut rand::rng());
    let commit = json!({
        "expectedCurrent": 1, "signingKey": seed.signing_secret().public(), "encryptionKey": seed.encryption_key(),
    });
    ann.ask_for(200, Method::POST, "/users/me/km-version/commit", commit).await;
    let mut ann = ann;
    ann.client.set_known_version(KmVersion::new(2));
    for path in ["/users/me/identity", "/users/me/km-version", "/auth/sessions/current"] {
        assert_eq!(ann.ask(Method::GET, path, Value::Null).await.0, 200, "{path}");
    }
    let process = &mut replicas.nodes[0].process;
    process.stop().await.unwrap();
    process.set("VELLUM_DATABASE__URL", &older);
    process.start().await.unwrap();
    assert!(std::fs::read_to_string(process.log_path()).unwrap().contains("put back from a backup"));
    let queue = process.run(&["--json", "queue", "list"]).await.unwrap();
    assert!(queue.contains("\"paused\":true"), "nothing is sent blindly: {queue}");
    for path in ["/users/me/identity", "/users/me/km-version", "/auth/sessions/current"] {
        let (status, problem) = ann.ask(Method::GET, path, Value::Null).await;
        assert_eq!((status, &problem["code"]), (409, &json!("server_rolled_back")), "{path}: {problem}");
    }
    assert!(ann.client.identity().await.unwrap_err().is_rolled_back());
    ann.client.set_known_version(None);
    ann.ask_for(200, Method::GET, "/users/me/identity", Value::Null).await;
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
    let [per_server, per_recipient] = MANY_INVITATIONS;
    let settings = [
        per_server,
        per_recipient,
        ("VELLUM_FEDERATION__RETRY_FIRST_MS", "50"),
        ("VELLUM_FEDERATION__RETRY_LONGEST_MS", "200"),
        ("VELLUM_FEDERATION__FLUSH_WAIT_MS", "0"),
    ];
    let mut replicas = Replicas::start(server, 3, &settings).await;
    let peers = peers(PEERS).await;
    let (ann, handles) = with_pending(&replicas.nodes[0], &peers, ENVELOPES_EACH).await;
    let handles: Vec<Handle> = handles.concat();
    slow_down(&peers, Duration::from_millis(400));
    ann.flush(&handles).await;
    let mut dropped: HashMap<Handle, usize> = HashMap::new();
    for round in 0..KILLS {
        let pause = rand::rng().random_range(0..150);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        // One or two of the three, by lot; the third answers meanwhile.
        let asked = rand::rng().random_range(0..3);
        let others = [(asked + 1) % 3, (asked + 2) % 3];
        let killed = &others[..rand::rng().random_range(1..3)];
        let seen = replicas.through(asked, &ann);
        if (round % 4 == 0 || dropped.is_empty())
            && let Some(row) = seen.pending().await.pop()
            && seen.client.discard_revocation(&row.peer_handle).await.is_ok()
        {
            // What was on the wire before the answer may still be read.
            tokio::time::sleep(Duration::from_millis(50)).await;
            dropped.insert(row.peer_handle.clone(), arrivals(&peers, &row.peer_handle).len());
        }
        for node in killed {
            replicas.nodes[*node].process.kill().await.unwrap();
        }
        for node in killed {
            replicas.nodes[*node].process.start().await.unwrap();
        }
    }
    for peer in &peers {
        peer.set_mood(Mood::Well);
    }
    let ann = replicas.through(0, &ann);
    wait_for("everything has arrived", || ann.pending(), |seen| seen.is_empty()).await;
    assert_each_arrived_once(&peers, &handles, &dropped);
}

/// What one writer was told.
#[derive(Debug, Default)]
struct Told {
    /// The last value that was acknowledged, and how many were.
    acknowledged: usize,
    acknowledgements: usize,
    refused: Vec<usize>,
    unanswered: Vec<usize>,
    count: usize,
}

/// What a writer writes again and again, with a number that counts up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writes {
    /// A blob of its own.
    Blob(usize),
    /// One collection more.
    Collections,
    /// The first name.
    Name,
    /// New keys, from the version that it saw last.
    Keys,
}

impl Writes {
    async fn write(self, seen: &Person, count: usize) -> Result<(u16, Value), ClientError> {
        let text = count.to_string();
        let (method, path, body) = match self {
            Self::Blob(n) => (Method::PUT, format!("/me/blobs/writer{n}"), json!({ "encryptedBlob": text })),
            Self::Collections => {
                (Method::POST, "/library/collections".into(), json!({ "metadataEncrypted": text }))
            }
            Self::Name => (Method::PATCH, "/users/me/profile".into(), json!({ "firstName": text })),
            Self::Keys => {
                let version = seen.client.identity().await?.km_version;
                let seed = vellum_client::MasterSeed::generate(&mut rand::rng());
                let (signing, encryption) = (seed.signing_secret().public(), seed.encryption_key());
                let body = json!({
                    "expectedCurrent": version, "signingKey": signing, "encryptionKey": encryption,
                });
                (Method::POST, "/users/me/km-version/commit".into(), body)
            }
        };
        seen.client.request_json(method, &path, Some(&body)).await
    }

    /// Compares what stands with what the writer was told.
    async fn check(self, seen: &Person, told: &Told) {
        assert!(told.acknowledged > 0, "{self:?}: {told:?}");
        let between = |stands: usize, least: usize| {
            assert!(
                (least..=least + told.unanswered.len()).contains(&stands),
                "{self:?}: {stands} stand: {told:?}"
            );
        };
        let number = |value: &Value| value.as_str().unwrap().parse::<usize>().unwrap();
        match self {
            Self::Blob(n) => {
                let (status, blob) =
                    seen.ask(Method::GET, &format!("/me/blobs/writer{n}"), Value::Null).await;
                assert_eq!(status, 200, "{self:?}");
                told.check_last(number(&blob["encryptedBlob"]));
            }
            Self::Name => {
                let (status, session) = seen.ask(Method::GET, "/auth/sessions/current", Value::Null).await;
                assert_eq!(status, 200, "{self:?}: {session}");
                told.check_last(number(&session["user"]["firstName"]));
            }
            Self::Collections => {
                let (_, all) = seen.ask(Method::GET, "/library/collections", Value::Null).await;
                // The first list makes a collection of its own, without metadata.
                let written =
                    all.as_array().unwrap().iter().filter(|one| !one["metadataEncrypted"].is_null());
                let stand: Vec<usize> = written.map(|one| number(&one["metadataEncrypted"])).collect();
                between(stand.len(), told.acknowledgements);
                assert!(!stand.iter().any(|n| told.refused.contains(n)), "a refused one stands: {told:?}");
            }
            Self::Keys => {
                let version = seen.client.identity().await.unwrap().km_version.get();
                between(usize::try_from(version).unwrap() - 1, told.acknowledgements);
            }
        }
    }
}

impl Told {
    /// What stands is the last that was acknowledged, or a later one that was not answered.
    fn check_last(&self, stands: usize) {
        let later: Vec<usize> = self.unanswered.iter().copied().filter(|n| *n > self.acknowledged).collect();
        assert!(stands == self.acknowledged || later.contains(&stands), "{stands} stands: {self:?}");
        assert!(!self.refused.contains(&stands), "a refused write stands: {self:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_crashes_under_load_keeps_what_was_acknowledged_and_nothing_that_was_refused() {
    let Some(server) = PostgresServer::start() else { return };
    let replicas = Replicas::start(&server, 2, &[]).await;
    let (ann, bob) = (replicas.nodes[0].person("ann").await, replicas.nodes[0].person("bob").await);
    let done = Arc::new(AtomicBool::new(false));
    let kinds =
        [Writes::Blob(0), Writes::Blob(1), Writes::Collections, Writes::Name, Writes::Blob(2), Writes::Keys];
    let writers = kinds.into_iter().enumerate().map(|(n, kind)| {
        let person = if kind == Writes::Keys { &bob } else { &ann };
        let (seen, done) = (replicas.through(n % 2, person), Arc::clone(&done));
        tokio::spawn(async move { write_until(&seen, kind, &done).await })
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
    for node in 0..2 {
        eventually("the nodes recover by themselves", || async {
            let asked = plain_http().get(format!("{}/health/ready", replicas.address(node))).send();
            (asked.await.ok()?.status() == 200).then_some(())
        })
        .await;
    }
    for (kind, told) in kinds.into_iter().zip(&told) {
        kind.check(if kind == Writes::Keys { &bob } else { &ann }, told).await;
    }
}

async fn write_until(seen: &Person, kind: Writes, done: &AtomicBool) -> Told {
    let mut told = Told::default();
    while !done.load(Ordering::Relaxed) {
        told.count += 1;
        match kind.write(seen, told.count).await {
            Ok((200..=204, _)) => {
                told.acknowledged = told.count;
                told.acknowledgements += 1;
            }
            Ok((503, _)) => {
                told.refused.push(told.count);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(other) => panic!("{kind:?}: {other:?}"),
            // Reading the version was refused: nothing was tried.
            Err(error) if error.problem().is_some() => {}
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

#[tokio::test(flavor = "multi_thread")]
async fn nodes_share_the_bounds_on_codes() {
    let Some(server) = shared_server() else { return };
    let email = "ann@people.example";
    let replicas = Replicas::start(server, 2, &[("VELLUM_AUTH__WRONG_CODES_PER_DAY", "40")]).await;
    replicas.nodes[0].user("ann").await;
    let post = async |node: usize, path: &str, code: &str| {
        let body = json!({ "method": "otp", "email": email, "token": code });
        plain_http()
            .post(format!("{}{path}", replicas.address(node)))
            .json(&body)
            .send()
            .await
            .unwrap()
            .status()
    };
    let emails = || replicas.nodes.iter().map(|node| node.process.letters().len()).sum::<usize>();
    for n in 0..2 {
        assert_eq!(post(n, "/auth/verify", "").await, 201);
        wait_for("the email comes", || async { emails() }, |seen| *seen == n + 1).await;
    }
    let code = replicas.nodes[1].process.newest_code(0).await.unwrap();
    for n in 0..2 {
        assert_eq!(post(n, "/auth/verify", "").await, 201, "nothing is sent, on whichever node");
    }
    // Both nodes at once, until each has said that it was wrong more often than the bound.
    let guesses = (0..120).map(|n| {
        let (post, code) = (&post, &code);
        async move {
            let guess = format!("{:08}", (code.parse::<u32>().unwrap() + 1 + n) % 100_000_000);
            let status = post(usize::try_from(n % 2).unwrap(), "/auth/sessions", &guess).await;
            assert!([401, 503].contains(&status.as_u16()), "{status}");
            status == 401
        }
    });
    let wrong =
        futures_util::stream::iter(guesses).buffer_unordered(12).filter(|wrong| std::future::ready(*wrong));
    assert!(wrong.count().await >= 40);
    assert_eq!(Database::of(&replicas.nodes[0]).await.count_wrong_codes(email).await, 40);
    for n in 0..2 {
        assert_eq!(post(n, "/auth/sessions", &code).await, 401, "node {n} takes no digits any more");
    }
    assert_eq!(emails(), 2);
}
