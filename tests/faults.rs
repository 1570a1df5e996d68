//! Deliveries over a network that is against them: whatever happens, the row tells what, and the revocation
//! arrives once it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use vellum_client::http::{PendingRevocation, RevocationState};

use crate::metrics::{scrape, value};
use crate::support::{Database, Fault, FaultProxy, Person, TestNode, now, wait_for};

/// A first pause of half a second, and never more than two: the tests wait for retries.
const IMPATIENT: [(&str, &str); 3] = [
    ("VELLUM_FEDERATION__RETRY_FIRST_MS", "500"),
    ("VELLUM_FEDERATION__RETRY_LONGEST_MS", "2000"),
    ("VELLUM_FEDERATION__FLUSH_WAIT_MS", "100"),
];

/// Two friends on two nodes, the second behind the proxy.
struct Scene {
    ann: Person,
    bob: Person,
    proxy: FaultProxy,
    behind: TestNode,
    /// What the clock of the second node follows: how far it is wrong, in milliseconds.
    clock: std::path::PathBuf,
    _node: TestNode,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn set() -> Self {
        let proxy = FaultProxy::start().await;
        let folder = tempfile::tempdir().unwrap();
        let clock = folder.path().join("clock");
        std::fs::write(&clock, "0").unwrap();
        let settings =
            [("VELLUM_HTTP__ORIGIN", proxy.origin()), ("TEST_CLOCK_FILE", clock.display().to_string())];
        let behind =
            TestNode::start_with(&settings.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
        proxy.lead_to(&behind.process.origin());
        let node = TestNode::start_with(&IMPATIENT).await;
        let (ann, bob) = (node.person("ann").await, behind.person("bob").await);
        ann.befriend(&bob).await;
        bob.await_friends(&[&ann.handle()]).await;
        Self { ann, bob, proxy, behind, clock, _node: node, _folder: folder }
    }

    /// Ann ends the friendship, and an attempt to tell bob's node fails.
    async fn failed_attempt(&self) -> PendingRevocation {
        let (ann, bob) = (&self.ann, self.bob.handle());
        let taken = self.taken().await;
        ann.client.remove_friend(&bob, Some(&ann.revocation(&bob))).await.unwrap();
        let failed = |row: &PendingRevocation| row.attempts > 0 && row.state == RevocationState::Queued;
        let what = "an attempt has failed and the next is due";
        let rows = wait_for(what, || ann.pending(), |rows| rows.iter().any(failed)).await;
        let row = rows.into_iter().find(failed).unwrap();
        assert_eq!(row.peer_handle, bob);
        let (last, next) = (
            row.last_attempt_at.as_ref().unwrap().instant(),
            row.next_attempt_at.as_ref().unwrap().instant(),
        );
        assert!(next > last, "{row:?}");
        assert_eq!(self.bob.friends().await, [ann.handle()], "bob's node has taken nothing");
        assert_eq!(self.taken().await, taken);
        row
    }

    /// How many envelopes bob's node has taken.
    async fn taken(&self) -> u32 {
        let taken = value(&scrape(&self.behind).await, "vellum_inbox_envelopes_total{result=\"accepted\"}");
        taken.map_or(0, |taken| taken as u32)
    }

    /// The fault is over: the revocation arrives, once.
    async fn arrives(&self) {
        wait_for("it is gone here", || self.ann.pending(), |seen| seen.is_empty()).await;
        assert!(self.bob.friends().await.is_empty(), "and has arrived there");
        assert_eq!(self.taken().await, 2, "envelopes taken: the invitation, and the revocation once");
    }

    /// A fault, what the row says of it, and what comes of it.
    async fn survives(&self, fault: Fault, words: &str) {
        self.proxy.set(fault).await;
        let row = self.failed_attempt().await;
        let error = row.last_error.clone().unwrap_or_default();
        assert!(error.contains(words), "{error:?} instead of {words:?}");
        is_soon(&row, 3_000);
        self.proxy.set(Fault::None).await;
        self.arrives().await;
    }
}

/// The next attempt is due within so many milliseconds from now.
fn is_soon(row: &PendingRevocation, millis: i64) {
    let next = row.next_attempt_at.as_ref().unwrap().instant();
    assert!(next.since(now()) <= millis, "{row:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_refuses_connections_is_not_reachable() {
    let scene = Scene::set().await;
    scene.proxy.go_away().await;
    let row = scene.failed_attempt().await;
    assert!(row.last_error.as_ref().unwrap().contains("not reachable"), "{row:?}");
    scene.proxy.come_back().await;
    scene.arrives().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_times_out() {
    Scene::set().await.survives(Fault::Hang, "timed out after 15 s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_byte_by_byte_gets_no_longer_than_any_other() {
    Scene::set().await.survives(Fault::Slow, "timed out after 15 s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_in_its_middle_is_no_confirmation() {
    Scene::set().await.survives(Fault::ResetMidBody, "the connection broke").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_reset_is_no_confirmation() {
    Scene::set().await.survives(Fault::Reset, "the connection broke").await;
}

/// A release's clock cannot be put wrong.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_clock_jumps_refuses_until_it_is_right_again() {
    let scene = Scene::set().await;
    std::fs::write(&scene.clock, "412000").unwrap();
    let row = scene.failed_attempt().await;
    let error = row.last_error.clone().unwrap();
    assert!(
        error.contains("refused (401)") && error.contains("Timestamp outside acceptable skew"),
        "{error}"
    );
    is_soon(&row, 3_000);
    std::fs::write(&scene.clock, "0").unwrap();
    scene.arrives().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_certificate_that_nobody_vouches_for_is_sent_nothing() {
    // Not one of the names that plain http is used for, and still this machine.
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let domain = format!("127.0.0.2:{}", listener.local_addr().unwrap().port());
    let made = rcgen::generate_simple_self_signed(["127.0.0.2".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let sent = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&sent);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if acceptor.accept(stream).await.is_ok() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }
    });

    let node = TestNode::start_with(&IMPATIENT).await;
    let ann = node.person("ann").await;
    Database::of(&node).await.add_messages(&ann, &domain, 1).await;
    node.process.run(&["queue", "retry"]).await.unwrap();
    let failed = |row: &PendingRevocation| row.attempts >= 2 && row.state == RevocationState::Queued;
    let rows = wait_for("two attempts have failed", || ann.pending(), |rows| rows.iter().any(failed)).await;
    let row = rows.into_iter().find(failed).unwrap();
    assert!(row.last_error.as_ref().unwrap().contains("TLS failed"), "{row:?}");
    is_soon(&row, 3_100);
    assert_eq!(sent.load(Ordering::SeqCst), 0, "no handshake has come to its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_error_is_tried_again() {
    let answer = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 4\r\n\r\noops";
    Scene::set().await.survives(Fault::Says(answer), "refused (500): no reason given").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_are_answered_with_patience() {
    let scene = Scene::set().await;
    let answer = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 3\r\ncontent-length: 27\r\n\r\n{\"message\":\"not so often!\"}";
    scene.proxy.set(Fault::Says(answer)).await;
    let row = scene.failed_attempt().await;
    assert!(row.last_error.as_ref().unwrap().contains("refused (429): not so often!"), "{row:?}");
    let pause = row
        .next_attempt_at
        .as_ref()
        .unwrap()
        .instant()
        .since(row.last_attempt_at.as_ref().unwrap().instant());
    // Without having been asked it would be three quarters of a second at most; Retry-After is the shorter of
    // what was asked for and the longest pause of the settings.
    assert!((2_500..=3_100).contains(&pause), "the pause that was asked for is kept: {pause} ms");
    scene.proxy.set(Fault::None).await;
    scene.arrives().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_is_no_answer() {
    Scene::set().await.survives(Fault::Says("SSH-2.0-OpenSSH_9.2\r\n"), "the connection broke").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_json_and_a_web_page_are_no_confirmations() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{\"success\":t",
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 20\r\n\r\n<h1>Please login</h1",
        "HTTP/1.1 204 No Content\r\n\r\n",
    ] {
        Scene::set().await.survives(Fault::Says(answer), "without confirming").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_lives_in_another_hour_is_named() {
    let answer = "HTTP/1.1 401 Unauthorized\r\ndate: Sat, 01 Jan 2000 00:00:00 GMT\r\ncontent-length: 26\r\n\r\n{\"message\":\"stale request\"}";
    let scene = Scene::set().await;
    scene.proxy.set(Fault::Says(answer)).await;
    let row = scene.failed_attempt().await;
    let error = row.last_error.unwrap();
    assert!(error.contains("peer clock is") && error.ends_with("s behind)"), "{error}");
    scene.proxy.set(Fault::None).await;
    scene.arrives().await;
}
