//! The attacker has captured a request between two nodes and can put the node's clock forward for a
//! moment: by answers to its NTP client, or by waiting for a machine that starts with a wrong
//! clock. He would have the node forget, as over its time, what it knows of the request, and carry
//! it out again when the clock is right; or end everybody's sessions. What stops him: nothing is
//! purged by a wall clock that has not agreed with the boot clock for an hour.

use vellum_client::http::Method;
use vellum_protocol::{Domain, JsonObject, MessageType};

use crate::support::{Peer, TestNode, now, wait_for};

/// 40 days: longer than a session, and than any envelope is remembered.
const AHEAD: &str = "3456000000";

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_ahead_has_forgotten_no_session_no_nonce_and_no_envelope() {
    let folder = tempfile::tempdir().unwrap();
    let clock = folder.path().join("clock");
    std::fs::write(&clock, "0").unwrap();
    let settings = [
        ("TEST_CLOCK_FILE", clock.to_str().unwrap()),
        // The end of a housekeeping round is told there.
        ("VELLUM_LOG__FILTER", "info,vellum_actors::housekeeping=debug"),
    ];
    let (mut node, peer) = (TestNode::start_with(&settings).await, Peer::start().await);
    let (ann, bob) = (node.person("ann").await, peer.user("bob"));
    peer.invite(&bob, &ann.handle()).await;
    ann.accept(&bob.handle).await;
    ann.await_friends(&[&bob.handle]).await;
    let kind = MessageType::RelationshipRevoke;
    let revocation = bob.signer.envelope(kind, &ann.handle(), JsonObject::new(), now(), &mut rand::rng());
    let domain = Domain::parse(&node.process.domain()).unwrap();
    let captured = peer.request(&domain, &revocation.to_json());
    let (status, answer) = captured.post().await;
    assert_eq!((status, &answer["applied"]), (202, &true.into()), "the honest one is carried out");
    peer.invite(&bob, &ann.handle()).await;
    ann.accept(&bob.handle).await;
    ann.await_friends(&[&bob.handle]).await;

    node.process.stop().await.unwrap();
    let rounds = |node: &TestNode| {
        std::fs::read_to_string(node.process.log_path()).unwrap().matches("kept house").count()
    };
    let before = rounds(&node);
    std::fs::write(&clock, AHEAD).unwrap();
    node.process.start().await.unwrap();
    wait_for("a round of housekeeping ends", || async { rounds(&node) }, |seen| *seen > before).await;
    let status = ann.ask(Method::GET, "/users/me/identity", serde_json::Value::Null).await.0;
    assert_eq!(status, 401, "by the wrong clock the session has ended");
    std::fs::write(&clock, "0").unwrap();

    let status = ann.ask(Method::GET, "/users/me/identity", serde_json::Value::Null).await.0;
    assert_eq!(status, 200, "the session is valid");
    let (status, answer) = captured.post().await;
    assert_eq!(
        (status, answer["message"].as_str()),
        (401, Some("Federation auth failed: Replayed nonce")),
        "the captured request is recognised"
    );
    let (status, answer) = peer.send(&revocation).await;
    assert_eq!(status, 202, "the envelope is answered as it was the first time: {answer}");
    assert_eq!(ann.friends().await, std::slice::from_ref(&bob.handle), "the new friendship stands");
}
