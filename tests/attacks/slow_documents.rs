//! The attacker has a node, or only an account. His node shows its users' documents a byte at a
//! time. He sends hundreds of signed messages, or looks up hundreds of people there, and each
//! look-up lasts as long as one may. He would hold every place for requests to other nodes, until
//! nobody's messages are taken and nothing is delivered. What stops him: deliveries, look-ups for
//! messages and look-ups for users have places of their own, and of each a peer, and a user, has
//! only a few.

use futures_util::StreamExt;
use serde_json::Value;
use vellum_client::http::{Delivery, Method};
use vellum_protocol::{JsonObject, MessageType};

use crate::support::{Documents, Peer, PeerUser, Person, TestNode, eventually, now};

/// A node with two people, and a peer whose user is a friend of the first.
struct Scene {
    node: TestNode,
    ann: Person,
    ben: Person,
    honest: Peer,
    bob: PeerUser,
}

impl Scene {
    async fn set() -> Self {
        let node = TestNode::start_with(&[("VELLUM_FEDERATION__FLUSH_WAIT_MS", "30000")]).await;
        let (ann, ben, honest) = (node.person("ann").await, node.person("ben").await, Peer::start().await);
        let bob = honest.friend_of(&ann, "bob").await;
        Self { node, ann, ben, honest, bob }
    }

    /// Shows that others are served, while an attack goes on.
    async fn serves(&self) {
        let carol = self.honest.user("carol");
        let (status, answer) = self.honest.try_invite(&carol, &self.ann.handle()).await;
        assert_eq!(status, 202, "an honest peer's message is taken: {answer}");
        let path = format!("/friends/resolve/{}", carol.handle);
        let (status, answer) = self.ben.ask(Method::GET, &path, Value::Null).await;
        assert_eq!(status, 200, "another user finds somebody at an honest peer: {answer}");
        let signed = self.ann.revocation(&self.bob.handle);
        let delivery = self.ann.client.remove_friend(&self.bob.handle, Some(&signed)).await.unwrap();
        assert_eq!(delivery, Delivery::Delivered, "an honest peer is told");
    }
}

/// A peer whose users' documents drip.
async fn dripping() -> Peer {
    let peer = Peer::start().await;
    peer.set_documents(Documents::Drip);
    peer
}

/// Waits until the attack has as many look-ups under way as it gets.
async fn holds_its_places(peers: &[Peer]) {
    let (mut last, mut unchanged) = (0, 0);
    eventually("the attack holds its places", || {
        let asked = peers.iter().map(Peer::documents_asked).sum();
        unchanged = if asked == last { unchanged + 1 } else { 0 };
        last = asked;
        std::future::ready((asked >= 8 && unchanged >= 10).then_some(()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_documents_drip_keeps_nobody_elses_messages_out() {
    let scene = Scene::set().await;
    let evil = [dripping().await];
    let to = scene.ann.handle();
    let invitations: Vec<_> = (0..1050)
        .map(|n| {
            let kind = MessageType::FriendInvite;
            let mallory = evil[0].user(&format!("mallory{}", n % 525));
            let envelope = mallory.signer.envelope(kind, &to, JsonObject::new(), now(), &mut rand::rng());
            evil[0].request(to.domain(), &envelope.to_json())
        })
        .collect();
    let attack = async {
        let posts = invitations.iter().map(|request| async {
            let answer = request.post_for_answer().await;
            (answer.status().as_u16(), answer.headers().contains_key("retry-after"))
        });
        futures_util::stream::iter(posts).buffer_unordered(525).collect::<Vec<_>>().await
    };
    let served = async {
        holds_its_places(&evil).await;
        scene.serves().await;
    };
    let (answers, ()) = tokio::join!(attack, served);
    let odd: Vec<_> = answers.iter().filter(|answer| **answer != (503, true)).collect();
    assert!(odd.is_empty(), "what finds no place, or no answer in time, is to come again: {odd:?}");
    assert!(evil[0].documents_asked() < 200, "{} look-ups at one peer", evil[0].documents_asked());
}

/// One user looks up 560 people at these nodes.
async fn looked_up_by_one_user(evil: Vec<Peer>) {
    let scene = Scene::set().await;
    let mallory = scene.node.person("mallory").await;
    let paths: Vec<_> =
        (0..560).map(|n| format!("/friends/resolve/user{n}@{}", evil[n % evil.len()].domain())).collect();
    let attack =
        futures_util::future::join_all(paths.iter().map(|path| mallory.ask(Method::GET, path, Value::Null)));
    let served = async {
        holds_its_places(&evil).await;
        scene.serves().await;
    };
    let (answers, ()) = tokio::join!(attack, served);
    let odd: Vec<_> = answers.iter().filter(|(status, _)| ![502, 503].contains(status)).collect();
    assert!(odd.is_empty(), "{odd:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_looks_up_people_at_one_slow_node_holds_nobody_else_up() {
    looked_up_by_one_user(vec![dripping().await]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_looks_up_people_at_many_slow_nodes_holds_nobody_else_up() {
    let evil = futures_util::future::join_all((0..10).map(|_| dripping())).await;
    looked_up_by_one_user(evil).await;
}
