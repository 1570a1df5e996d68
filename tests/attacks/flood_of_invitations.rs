//! The attacker has users on a node of his, as many as he likes, or accounts on this one. He would
//! fill somebody's list of invitations, so that honest ones are not found and the disk is. What
//! stops him: so many open ones a recipient and sending server, so many a recipient; the oldest of
//! the server that has most gives way, and all of them expire.

use serde_json::{Value, json};
use vellum_client::http::{Direction, Method};
use vellum_protocol::MessageType;

use crate::support::{Database, Mood, Peer, Person, TestNode, fields, now};

const DAY_MILLIS: i64 = 86_400_000;

/// Who invites this person, oldest first: aliases.
async fn inviters(person: &Person) -> Vec<String> {
    let open = person.client.invitations(Direction::Incoming).await.unwrap();
    open.into_iter().map(|invitation| invitation.from_handle.alias().to_string()).collect()
}

async fn node_with(settings: &[(&str, &str)]) -> (TestNode, Person) {
    let node = TestNode::start_with(settings).await;
    let ann = node.person("ann").await;
    (node, ann)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_has_twenty_open_invitations_to_one_person() {
    let (node, ann) = node_with(&[]).await;
    let (ben, peer) = (node.person("ben").await, Peer::start().await);
    for n in 0..20 {
        peer.invite(&peer.user(&format!("user{n}")), &ann.handle()).await;
    }
    let database = Database::of(&node).await;
    let before = database.rows_of("invitations").await;
    let one_more = peer.user("one_more");
    let (status, answer) = peer.try_invite(&one_more, &ann.handle()).await;
    assert_eq!((status, answer["message"].as_str()), (400, Some("Too many invitations")), "{answer}");
    assert_eq!(database.rows_of("invitations").await, before, "nothing is stored");

    peer.invite(&one_more, &ben.handle()).await;
    let other = Peer::start().await;
    other.invite(&other.user("honest"), &ann.handle()).await;
    let first = ann.client.invitations(Direction::Incoming).await.unwrap().remove(0);
    let path = format!("/friends/invitations/{}", first.id);
    ann.ask_for(200, Method::DELETE, &path, Value::Null).await;
    peer.invite(&one_more, &ann.handle()).await;
    assert_eq!(inviters(&ann).await.len(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_of_the_server_that_has_most_gives_way() {
    let settings = [("VELLUM_INVITATIONS__PER_SERVER", "3"), ("VELLUM_INVITATIONS__PER_RECIPIENT", "6")];
    let (node, ann) = node_with(&settings).await;
    let (ben, cat) = (node.person("ben").await, node.person("cat").await);
    let (many, few) = (Peer::start().await, Peer::start().await);
    few.invite(&few.user("few0"), &ann.handle()).await;
    for alias in ["many0", "many1", "many2"] {
        many.invite(&many.user(alias), &ann.handle()).await;
    }
    ben.invite(&ann.handle()).await;
    cat.invite(&ann.handle()).await;
    assert_eq!(inviters(&ann).await, ["few0", "many0", "many1", "many2", "ben", "cat"]);

    few.invite(&few.user("few1"), &ann.handle()).await;
    assert_eq!(inviters(&ann).await, ["few0", "many1", "many2", "ben", "cat", "few1"]);
    // Each of the three has two now.
    few.invite(&few.user("few2"), &ann.handle()).await;
    assert_eq!(inviters(&ann).await, ["many1", "many2", "ben", "cat", "few1", "few2"]);
    let dot = node.person("dot").await;
    dot.invite(&ann.handle()).await;
    assert_eq!(inviters(&ann).await, ["many2", "ben", "cat", "few1", "few2", "dot"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn this_node_counts_like_any_other_server() {
    let (node, ann) = node_with(&[("VELLUM_INVITATIONS__PER_SERVER", "1")]).await;
    let (ben, cat) = (node.person("ben").await, node.person("cat").await);
    ben.invite(&ann.handle()).await;
    let signed = cat.signer().invite(&ann.handle(), now(), &mut rand::rng());
    let mut body = fields(&signed);
    body["handle"] = json!(ann.handle());
    let (status, problem) = cat.ask(Method::POST, "/friends/invite", body).await;
    assert_eq!((status, problem["code"].as_str()), (400, Some("too_many_invitations")), "{problem}");
    assert_eq!(problem["message"], "Too many invitations");
    assert!(cat.client.invitations(Direction::Outgoing).await.unwrap().is_empty(), "nothing is stored");
    assert_eq!(inviters(&ann).await, ["ben"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_whose_accept_is_under_way_is_not_an_open_one() {
    let settings = [("VELLUM_INVITATIONS__PER_SERVER", "1"), ("VELLUM_FEDERATION__FLUSH_WAIT_MS", "300")];
    let (_node, ann) = node_with(&settings).await;
    let peer = Peer::start().await;
    let bob = peer.user("bob");
    peer.invite(&bob, &ann.handle()).await;
    peer.set_mood(Mood::Answers(503, String::new()));
    ann.accept(&bob.handle).await;
    peer.invite(&peer.user("carl"), &ann.handle()).await;
    assert_eq!(inviters(&ann).await, ["carl"]);
    assert_eq!(ann.friends().await, [bob.handle], "it has not given way");
}

#[tokio::test(flavor = "multi_thread")]
async fn invitations_expire_on_both_sides() {
    let (node, ann) = node_with(&[("VELLUM_INVITATIONS__DAYS", "2")]).await;
    let (ben, peer) = (node.person("ben").await, Peer::start().await);
    let (bob, carl) = (peer.user("bob"), peer.user("carl"));
    peer.invite(&bob, &ann.handle()).await;
    ann.invite(&carl.handle).await;
    ann.invite(&ben.handle()).await;
    let incoming = ann.client.invitations(Direction::Incoming).await.unwrap().remove(0);
    let (_, shown) = ann.ask(Method::GET, "/friends/invitations?direction=incoming", Value::Null).await;
    let times = ["createdAt", "expiresAt"].map(|name| {
        let text = shown["invitations"][0][name].as_str().unwrap_or_else(|| panic!("no {name} in {shown}"));
        vellum_protocol::Timestamp::parse(text).unwrap().instant().0
    });
    assert_eq!(times[1] - times[0], 2 * DAY_MILLIS, "{shown}");

    let database = Database::of(&node).await;
    database.age_invitations(2 * DAY_MILLIS - 60_000).await;
    assert_eq!(inviters(&ann).await, ["bob"], "a minute before");
    database.age_invitations(60_000).await;
    for (person, direction) in
        [(&ann, Direction::Incoming), (&ann, Direction::Outgoing), (&ben, Direction::Incoming)]
    {
        assert_eq!(person.client.invitations(direction).await.unwrap(), [], "{direction:?}");
    }
    let accept = fields(&ann.signer().accept(&bob.handle, now(), &mut rand::rng()));
    let path = format!("/friends/invitations/{}", incoming.id);
    for (method, end) in [(Method::POST, "/accept"), (Method::POST, "/reject"), (Method::DELETE, "")] {
        let (status, problem) = ann.ask(method, &format!("{path}{end}"), accept.clone()).await;
        let expected = (400, Some("invitation_not_found"));
        assert_eq!((status, problem["code"].as_str()), expected, "{end}: {problem}");
    }
    let kind = MessageType::FriendAccept;
    let late = carl.signer.envelope(kind, &ann.handle(), Default::default(), now(), &mut rand::rng());
    let (status, answer) = peer.send(&late).await;
    let words = answer["message"].as_str();
    assert_eq!((status, words), (400, Some("Original invitation not found")), "{answer}");
    assert!(ann.friends().await.is_empty());

    // None of them is in the way of a new one.
    peer.invite(&bob, &ann.handle()).await;
    ann.invite(&carl.handle).await;
    ann.invite(&ben.handle()).await;
    ben.accept(&ann.handle()).await;
    ann.accept(&bob.handle).await;
    ann.await_friends(&[&ben.handle(), &bob.handle]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_invitation_does_not_cross_with_a_new_one() {
    let (node, ann) = node_with(&[("VELLUM_INVITATIONS__DAYS", "1")]).await;
    let (ben, peer) = (node.person("ben").await, Peer::start().await);
    let bob = peer.user("bob");
    ann.invite(&bob.handle).await;
    ann.invite(&ben.handle()).await;
    Database::of(&node).await.age_invitations(DAY_MILLIS).await;
    peer.invite(&bob, &ann.handle()).await;
    assert_eq!(ben.invite(&ann.handle()).await.status, "pending");
    assert_eq!(inviters(&ann).await, ["bob", "ben"]);
    assert!(ann.friends().await.is_empty(), "what has expired invites nobody");
}
