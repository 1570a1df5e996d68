//! The attacker has captured a request on its way between two nodes, or is a node that keeps what its users signed. He
//! would have it carried out again: a revocation, after the two have become friends anew. What stops him: a request's
//! nonce is taken once and remembered in the database for twice the time in which the request is fresh; and an envelope is
//! carried out once, however it is wrapped and however its signature is spelled.

use vellum_protocol::{Domain, Envelope, Json, JsonObject, MessageType};

use crate::support::{Peer, PeerUser, Person, TestNode, now};

struct Scene {
    node: TestNode,
    peer: Peer,
    ann: Person,
    bob: PeerUser,
}

async fn friends() -> Scene {
    let (node, peer) = (TestNode::start().await, Peer::start().await);
    let (ann, bob) = (node.person("ann").await, peer.user("bob"));
    let scene = Scene { node, peer, ann, bob };
    scene.befriend().await;
    scene
}

impl Scene {
    async fn befriend(&self) {
        self.peer.invite(&self.bob, &self.ann.handle()).await;
        self.ann.accept(&self.bob.handle).await;
        self.ann.await_friends(&[&self.bob.handle]).await;
    }

    fn domain(&self) -> Domain {
        Domain::parse(&self.node.process.domain()).unwrap()
    }

    fn revocation(&self) -> Envelope {
        let kind = MessageType::RelationshipRevoke;
        self.bob.signer.envelope(kind, &self.ann.handle(), JsonObject::new(), now(), &mut rand::rng())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captured_request_is_taken_once_however_many_bring_it_at_once_and_after_a_restart() {
    let mut scene = friends().await;
    let captured = scene.peer.request(&scene.domain(), &scene.revocation().to_json());
    let all = futures_util::future::join_all((0..8).map(|_| captured.post())).await;
    let (taken, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(|(status, _)| *status == 202);
    assert_eq!(taken.len(), 1, "{taken:?}");
    for (status, answer) in &refused {
        assert_eq!(*status, 401, "{answer}");
        assert_eq!(answer["message"], "Federation auth failed: Replayed nonce");
    }
    scene.node.process.kill().await.unwrap();
    scene.node.process.start().await.unwrap();
    let (status, answer) = captured.post().await;
    assert_eq!(
        (status, answer["message"].as_str()),
        (401, Some("Federation auth failed: Replayed nonce")),
        "what was remembered survives the process"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_revocation_in_a_new_request_does_not_end_a_new_friendship() {
    let scene = friends().await;
    let revocation = scene.revocation();
    assert_eq!(scene.peer.send(&revocation).await.1["applied"], true, "the honest one is carried out");
    assert!(scene.ann.friends().await.is_empty());
    scene.befriend().await;
    for _ in 0..3 {
        let (status, answer) = scene.peer.send(&revocation).await;
        assert_eq!(status, 202, "it is answered as it was the first time: {answer}");
    }
    // The same signature in other spellings of base64, which the signed text does not cover.
    let json: serde_json::Value = serde_json::from_str(&revocation.to_json().canonical()).unwrap();
    let signature = json["signature"].as_str().unwrap().to_owned();
    for spelled in [signature.trim_end_matches('=').to_owned(), format!(" {signature}\n")] {
        let mut other = json.clone();
        other["signature"] = spelled.clone().into();
        let (status, answer) =
            scene.peer.request(&scene.domain(), &Json::try_from(other).unwrap()).post().await;
        assert!(status == 202 || status == 400, "{spelled:?}: {status} {answer}");
    }
    assert_eq!(
        scene.ann.friends().await,
        std::slice::from_ref(&scene.bob.handle),
        "the new friendship stands"
    );
}

#[tokio::test]
async fn a_captured_request_does_not_last_longer_than_its_nonce_is_remembered() {
    let scene = friends().await;
    let mut captured = scene.peer.request(&scene.domain(), &scene.revocation().to_json());
    for seconds in [-301, 301] {
        captured.timestamp = now().plus_millis(seconds * 1000).to_rfc3339();
        let (status, answer) = captured.post().await;
        let skew = "Federation auth failed: Timestamp outside acceptable skew";
        assert_eq!((status, answer["message"].as_str()), (401, Some(skew)), "{seconds} s");
    }
    captured.timestamp = now().plus_millis(-290_000).to_rfc3339();
    assert_eq!(captured.post().await.0, 202, "within its time it is taken, and its nonce stays for 600 s");
    assert_eq!(captured.post().await.0, 401);
}
