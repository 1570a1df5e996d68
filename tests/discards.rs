//! A discard on one node, while another node on the same database waits to send an envelope that
//! has lost its row since. Nothing is sent once the discard is answered.

use std::time::Duration;

use vellum_client::http::RevocationState;
use vellum_protocol::MessageType;
use vellum_test_database::shared_server;

use crate::support::{Database, Mood, Peer, PeerUser, Person, Replicas, TestNode, eventually};

/// Two nodes. The second has a revocation in hand, and waits for the peer's manifest before it
/// sends it; the first has met the peer.
struct Scene {
    replicas: Replicas,
    peer: Peer,
    ann: Person,
    bob: PeerUser,
    /// How many requests for the manifest were over before the second node asked.
    asked_before: usize,
}

/// Sends a signal to a node's process, `STOP` or `CONT`.
async fn signal(node: &TestNode, name: &str) {
    let pid = node.process.pid().unwrap().to_string();
    let sent = tokio::process::Command::new("kill").args(["-s", name, &pid]).status().await.unwrap();
    assert!(sent.success(), "SIG{name} to the node");
}

/// Has a node stand still; the balancer passes nothing to it. Gives its port.
async fn suspend(replicas: &Replicas, node: usize) -> u16 {
    signal(&replicas.nodes[node], "STOP").await;
    replicas.take_out(node)
}

async fn resume(replicas: &Replicas, node: usize, port: u16) {
    replicas.put_back(node, port);
    signal(&replicas.nodes[node], "CONT").await;
}

impl Scene {
    async fn set() -> Option<Self> {
        let replicas =
            Replicas::start(shared_server()?, 2, &[("VELLUM_FEDERATION__FLUSH_WAIT_MS", "200")]).await;
        let (ann, peer) = (replicas.nodes[0].person("ann").await, Peer::start().await);
        let ann = replicas.through(0, &ann);
        // What only one of them is to do, the other does not even try: it stands still meanwhile.
        let port = suspend(&replicas, 1).await;
        let bob = peer.friend_of(&ann, "bob").await;
        ann.client.remove_friend(&bob.handle, None).await.unwrap();
        let database = Database::of(&replicas.nodes[0]).await;
        eventually("only the revocation is left to be told", || async {
            (database.count_messages().await == 1).then_some(())
        })
        .await;
        resume(&replicas, 1, port).await;

        let port = suspend(&replicas, 0).await;
        peer.set_mood(Mood::Hangs);
        peer.delay_manifest(Duration::from_secs(8));
        let asked_before = peer.manifests_over();
        let second = replicas.through(1, &ann);
        second.flush(std::slice::from_ref(&bob.handle)).await;
        eventually("the second node has it in hand", || async {
            (second.pending().await[0].state == RevocationState::Delivering).then_some(())
        })
        .await;
        resume(&replicas, 0, port).await;
        let scene = Self { replicas, peer, ann, bob, asked_before };
        assert_eq!(scene.sent(), 0, "expected that the second node waits for the manifest");
        Some(scene)
    }

    /// How many revocations have been sent.
    fn sent(&self) -> usize {
        self.peer.received_of(MessageType::RelationshipRevoke).len()
    }

    /// Ann discards the revocation on the first node: the second does not send it either.
    async fn discards(&self) {
        self.ann.client.discard_revocation(&self.bob.handle).await.unwrap();
        let sent = self.sent();
        self.peer.set_mood(Mood::Well);
        self.peer.delay_manifest(Duration::ZERO);
        eventually("the second node waits for the manifest no more", || async {
            (self.peer.manifests_over() > self.asked_before).then_some(())
        })
        .await;
        // Anything else that it sends to this peer goes after what it might still have sent.
        let carl = self.peer.user("carl").handle;
        self.replicas.through(1, &self.ann).invite(&carl).await;
        eventually("the invitation arrives", || async {
            (!self.peer.received_of(MessageType::FriendInvite).is_empty()).then_some(())
        })
        .await;
        let seen = self.peer.received_of(MessageType::RelationshipRevoke);
        assert_eq!(seen.len(), sent, "expected that nothing is sent after the discard, seen {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discard_stops_the_attempt_whose_row_a_newer_signature_has_taken() {
    let Some(scene) = Scene::set().await else { return };
    scene.ann.flush(std::slice::from_ref(&scene.bob.handle)).await;
    scene.discards().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discard_stops_the_attempt_whose_signature_a_reset_has_taken_back() {
    let Some(mut scene) = Scene::set().await else { return };
    scene.ann.client.reset_identity().await.unwrap();
    scene.ann.new_keys().await;
    scene.discards().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discard_stops_the_attempt_whose_signature_ending_the_next_friendship_has_taken_back() {
    let Some(scene) = Scene::set().await else { return };
    let Scene { replicas, peer, ann, bob, .. } = &scene;
    // The second node would have to ask for the manifest first.
    let port = replicas.take_out(1);
    peer.invite(bob, &ann.handle()).await;
    ann.accept(&bob.handle).await;
    ann.client.remove_friend(&bob.handle, None).await.unwrap();
    replicas.put_back(1, port);
    scene.discards().await;
}
