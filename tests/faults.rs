//! Deliveries over a network that is against them: whatever happens, the row tells what, and the revocation
//! arrives once it is over.

use vellum_client::http::{PendingRevocation, RevocationState};

use crate::support::{Fault, FaultProxy, Person, TestNode, eventually, now};

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
    _nodes: (TestNode, TestNode),
}

impl Scene {
    async fn set() -> Self {
        let proxy = FaultProxy::start().await;
        let behind = TestNode::start_with(&[("VELLUM_HTTP__ORIGIN", &proxy.origin())]).await;
        proxy.lead_to(&behind.process.origin());
        let node = TestNode::start_with(&IMPATIENT).await;
        let (ann, bob) = (node.person("ann").await, behind.person("bob").await);
        ann.befriend(&bob).await;
        bob.await_friends(&[&ann.handle()]).await;
        Self { ann, bob, proxy, _nodes: (node, behind) }
    }

    /// Ann ends the friendship, and an attempt to tell bob's node fails.
    async fn failed_attempt(&self) -> PendingRevocation {
        let (ann, bob) = (&self.ann, self.bob.handle());
        ann.client.remove_friend(&bob, Some(&ann.revocation(&bob))).await.unwrap();
        let row = eventually("an attempt fails", || async {
            ann.pending().await.into_iter().find(|row| row.attempts > 0)
        })
        .await;
        assert_eq!(row.peer_handle, bob);
        assert!(matches!(row.state, RevocationState::Queued | RevocationState::Delivering), "{row:?}");
        assert_eq!(self.bob.friends().await, [ann.handle()], "bob's node has taken nothing");
        row
    }

    /// The fault is over: the revocation arrives.
    async fn arrives(&self) {
        eventually("it is gone here", || async { self.ann.pending().await.is_empty().then_some(()) }).await;
        assert!(self.bob.friends().await.is_empty(), "and has arrived there");
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
    if let Some(next) = &row.next_attempt_at {
        let next = next.instant();
        assert!(next.since(now()) <= millis, "{row:?}");
    }
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
    if let Some(next) = &row.next_attempt_at {
        let pause = next.instant().since(now());
        // Without having been asked it would be three quarters of a second at most.
        assert!(pause > 1_000, "the pause that was asked for is kept: {row:?}");
    }
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
