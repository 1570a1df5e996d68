//! Signed times: which revocations are taken, and which shares they end.

use serde_json::{Value, json};
use vellum_client::collection_share::SharedCiphertext;
use vellum_client::http::Method;
use vellum_client::signer::{ShareRole, SharedResource};
use vellum_protocol::{JsonObject, MessageType, UnixMillis};

use crate::sharing::signed_share;
use crate::support::{Peer, PeerUser, Person, TestNode, eventually, now};

const DAY_MILLIS: i64 = 86_400_000;

fn resource(id: &str) -> SharedResource {
    SharedResource {
        resource_type: "collection".into(),
        resource_id: id.into(),
        ciphertext: SharedCiphertext { encrypted_data: "v7B/".into(), nonce: "WoyOsQE8QeFAtxhm".into() },
        role: ShareRole::Viewer,
    }
}

/// Ann on the node under test, and bob at the peer, whose messages have the times of the test.
struct Scene {
    _node: TestNode,
    peer: Peer,
    ann: Person,
    bob: PeerUser,
}

impl Scene {
    async fn set() -> Self {
        let (node, peer) = (TestNode::start().await, Peer::start().await);
        let ann = node.person("ann").await;
        let bob = peer.user("bob");
        Self { _node: node, peer, ann, bob }
    }

    /// Bob sends a message that he has signed at this time.
    async fn send(&self, kind: MessageType, payload: JsonObject, at: UnixMillis) -> (u16, Value) {
        let envelope = self.bob.signer.envelope(kind, &self.ann.handle(), payload, at, &mut rand::rng());
        self.peer.send(&envelope).await
    }

    async fn revoke(&self, at: UnixMillis) -> (u16, Value) {
        self.send(MessageType::RelationshipRevoke, JsonObject::new(), at).await
    }

    /// A revocation of this time is taken; tells whether it has changed anything.
    async fn revokes(&self, at: UnixMillis) -> bool {
        let (status, answer) = self.revoke(at).await;
        assert_eq!((status, &answer["success"]), (202, &json!(true)), "expected that it is taken: {answer}");
        answer["applied"].as_bool().unwrap()
    }

    /// Bob invites at this time, and ann accepts.
    async fn befriend(&self, at: UnixMillis) {
        let (status, answer) = self.send(MessageType::FriendInvite, JsonObject::new(), at).await;
        assert_eq!(status, 202, "expected that the invitation is taken: {answer}");
        self.ann.accept(&self.bob.handle).await;
    }

    /// Bob shares a collection at this time.
    async fn share(&self, id: &str, at: UnixMillis) {
        let (status, answer) = self.send(MessageType::ResourceShare, resource(id).payload(), at).await;
        assert_eq!(status, 202, "expected that the share is taken: {answer}");
    }

    /// Ann's shares in one direction.
    async fn shares(&self, list: &str) -> Vec<Value> {
        let (status, body) = self.ann.ask(Method::GET, &format!("/sharing/{list}"), Value::Null).await;
        assert_eq!(status, 200, "{body}");
        body["shares"].as_array().unwrap().clone()
    }

    /// What of is shared in one direction.
    async fn shared(&self, list: &str) -> Vec<String> {
        let id = |share: &Value| share["resourceId"].as_str().unwrap().to_owned();
        self.shares(list).await.iter().map(id).collect()
    }
}

#[tokio::test]
async fn a_revocation_from_the_future_is_taken_for_five_minutes_and_not_for_its_window() {
    let scene = Scene::set().await;
    scene.befriend(now()).await;
    // A little more: time passes until it is looked at.
    for ahead in [310_000, 3_600_000, 6 * DAY_MILLIS, 8 * DAY_MILLIS] {
        let (status, answer) = scene.revoke(now().plus_millis(ahead)).await;
        let expected = (400, &json!("Message timestamp outside acceptable skew"));
        assert_eq!((status, &answer["message"]), expected, "{ahead} ms ahead");
    }
    assert_eq!(scene.ann.friends().await, std::slice::from_ref(&scene.bob.handle), "nothing has ended");
    assert!(scene.revokes(now().plus_millis(290_000)).await, "a clock that is a little ahead");
    assert!(scene.ann.friends().await.is_empty());
}

#[tokio::test]
async fn a_share_ends_with_a_revocation_of_the_same_moment_and_not_with_an_older_one() {
    let scene = Scene::set().await;
    let start = now().plus_millis(-100_000);
    scene.befriend(start.plus_millis(2_000)).await;
    scene.share("c1", start.plus_millis(1_000)).await;
    assert!(!scene.revokes(start.plus_millis(999)).await, "it is older than the share");
    assert_eq!(scene.shared("incoming").await, ["c1"]);
    assert!(scene.revokes(start.plus_millis(1_000)).await, "of the same moment");
    assert!(scene.shared("incoming").await.is_empty());
    assert_eq!(scene.ann.friends().await, std::slice::from_ref(&scene.bob.handle), "that is newer");
}

#[tokio::test]
async fn a_share_is_dated_by_its_signature_and_never_later_than_it_came() {
    let scene = Scene::set().await;
    // Of a device whose clock is behind, and goes right.
    let behind = |millis: i64| now().plus_millis(millis - 120_000);
    scene.befriend(behind(0)).await;
    scene.share("behind", behind(0)).await;
    assert!(scene.revokes(behind(50)).await);
    assert!(scene.shared("incoming").await.is_empty(), "the revocation is newer by bob's own clock");
    // Of a device whose clock is ahead, and is put right.
    scene.befriend(now()).await;
    scene.share("ahead", now().plus_millis(250_000)).await;
    let came_at = now();
    eventually("the clock goes on", || async { (now() > came_at).then_some(()) }).await;
    assert!(scene.revokes(now()).await);
    assert!(scene.shared("incoming").await.is_empty(), "the share is no newer than its arrival");
}

#[tokio::test]
async fn an_invitation_or_acceptance_from_the_future_is_dated_by_its_arrival() {
    let scene = Scene::set().await;
    let ahead = || now().plus_millis(250_000);
    let later = async || {
        let then = now();
        eventually("the clock goes on", || async { (now() > then).then_some(()) }).await;
        now()
    };
    assert_eq!(scene.send(MessageType::FriendInvite, JsonObject::new(), ahead()).await.0, 202);
    assert!(scene.revokes(later().await).await, "it ends the invitation");
    scene.befriend(ahead()).await;
    assert!(scene.revokes(later().await).await, "it ends what ann has accepted");
    scene.ann.invite(&scene.bob.handle).await;
    assert_eq!(scene.send(MessageType::FriendAccept, JsonObject::new(), ahead()).await.0, 202);
    assert_eq!(scene.ann.friends().await, std::slice::from_ref(&scene.bob.handle));
    assert!(scene.revokes(later().await).await, "it ends what bob has accepted");
    assert!(scene.ann.friends().await.is_empty());
}

#[tokio::test]
async fn what_crossing_invitations_have_begun_is_dated_by_the_peers_clock() {
    let scene = Scene::set().await;
    let start = now().plus_millis(-120_000);
    scene.ann.invite(&scene.bob.handle).await;
    let (_, answer) = scene.send(MessageType::FriendInvite, JsonObject::new(), start).await;
    assert_eq!(answer["friends"], true, "expected friends: {answer}");
    assert!(!scene.revokes(start.plus_millis(-1)).await, "it is older");
    assert!(scene.revokes(start.plus_millis(1)).await, "it is newer");
    assert!(scene.ann.friends().await.is_empty());
}

#[tokio::test]
async fn what_is_shared_anew_outlives_the_end_of_what_was_before() {
    let scene = Scene::set().await;
    let at = |seconds: i64| now().plus_millis(seconds * 1000 - 200_000);
    scene.befriend(at(0)).await;
    scene.share("again", at(10)).await;
    scene.share("once", at(10)).await;
    // Bob ends it, they begin anew, and he shares one of the two again. His revocation comes last.
    scene.befriend(at(30)).await;
    scene.share("again", at(40)).await;
    assert!(scene.revokes(at(20)).await);
    assert_eq!(scene.shared("incoming").await, ["again"]);
    assert_eq!(scene.ann.friends().await, std::slice::from_ref(&scene.bob.handle));
    assert!(scene.revokes(at(50)).await, "the next one ends it");
    assert!(scene.shared("incoming").await.is_empty());
}

#[tokio::test]
async fn what_ann_shares_ends_with_what_her_friend_has_signed_since() {
    let scene = Scene::set().await;
    scene.befriend(now().plus_millis(-60_000)).await;
    let share = async |id: &str| {
        let body = signed_share(&scene.ann, &scene.bob.handle, &resource(id));
        let (status, share) = scene.ann.ask(Method::POST, "/sharing", body).await;
        assert_eq!(status, 200, "{share}");
        share
    };
    let later = async || {
        let then = now();
        eventually("the clock goes on", || async { (now() > then).then_some(()) }).await;
        now()
    };
    let first = share("again").await;
    share("once").await;
    let signed_at = later().await;
    later().await;
    scene.befriend(now()).await;
    let second = share("again").await;
    assert_eq!((&second["id"], &second["createdAt"]), (&first["id"], &first["createdAt"]), "the same share");
    assert!(scene.revokes(signed_at).await);
    assert_eq!(scene.shared("outgoing").await, ["again"], "expected what was shared after it was signed");
    assert!(scene.revokes(later().await).await);
    assert!(scene.shared("outgoing").await.is_empty());
}

#[tokio::test]
async fn a_share_that_comes_again_is_as_old_and_as_accepted_as_before() {
    let scene = Scene::set().await;
    scene.befriend(now()).await;
    scene.share("c1", now()).await;
    let id = scene.shares("incoming").await[0]["id"].as_str().unwrap().to_owned();
    let path = format!("/sharing/incoming/{id}/accept");
    assert_eq!(scene.ann.ask(Method::POST, &path, Value::Null).await.0, 200);
    let before = scene.shares("incoming").await;
    assert!(before[0]["acceptedAt"].is_string(), "{before:?}");
    let then = now();
    eventually("the clock goes on", || async { (now() > then.plus_millis(5)).then_some(()) }).await;
    scene.share("c1", now()).await;
    assert_eq!(scene.shares("incoming").await, before);
    assert_eq!(scene.ann.ask(Method::POST, &path, Value::Null).await.0, 200);
    assert_eq!(scene.shares("incoming").await, before, "accepting it again changes nothing");
}
