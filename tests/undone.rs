//! What becomes of friendships, invitations and shares that rest on a message, once it has arrived,
//! is refused for good, or was not taken in time.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use vellum_client::http::{Direction, InvitationDelivery, Method, RevocationState};
use vellum_protocol::{Handle, MessageType};

use crate::outcomes::{QUICK, friend, only_row, says, shown};
use crate::support::{Database, Mood, Peer, Person, TestNode, eventually, fields, now};

/// Waits until nothing is in the queue any more.
async fn queue_is_empty(database: &Database) {
    eventually("the queue is empty", || async { (database.count_messages().await == 0).then_some(()) }).await;
}

async fn accept(person: &Person, from: &Handle) -> (u16, Value) {
    let id = person.invitation_from(from).await.id;
    let signed = fields(&person.signer().accept(from, now(), &mut rand::rng()));
    person.ask(Method::POST, &format!("/friends/invitations/{id}/accept"), signed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn anything_else_that_is_refused_for_good_leaves_nothing_behind() {
    let node = TestNode::start().await;
    let (ann, peer, database) = (node.person("ann").await, Peer::start().await, Database::of(&node).await);
    let (bob, carl) = (friend(&node, &ann, &peer, "bob").await, peer.user("carl"));
    let dora = friend(&node, &ann, &peer, "dora").await;
    // Ann's revocation for bob becomes void when she accepts his new invitation.
    ann.client.remove_friend(&bob.handle, None).await.unwrap();
    peer.invite(&bob, &ann.handle()).await;
    peer.invite(&carl, &ann.handle()).await;

    peer.set_mood(says(400, "Original invitation not found"));
    for inviter in [&bob, &carl] {
        let (status, problem) = accept(&ann, &inviter.handle).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invitation_not_found")), "{problem}");
    }
    assert_eq!(ann.friends().await, std::slice::from_ref(&dora.handle));
    let pending = ann.pending().await;
    let states: Vec<_> = pending.iter().map(|row| (&row.peer_handle, row.state)).collect();
    assert_eq!(states, [(&bob.handle, RevocationState::AwaitingSignature)], "it has still to be told");
    ann.client.discard_revocation(&bob.handle).await.unwrap();
    assert_eq!(database.count_messages().await, 0, "expected an empty queue");
    assert_eq!(database.rows_of("invitations").await, [""; 0], "an invitation that is over");

    peer.set_mood(says(400, "Recipient not found"));
    let emil = peer.user("emil").handle;
    let mut signed = fields(&ann.signer().invite(&emil, now(), &mut rand::rng()));
    signed["handle"] = json!(emil);
    assert_eq!(ann.ask(Method::POST, "/friends/invite", signed).await.0, 400);
    assert_eq!(database.count_messages().await, 0, "expected an empty queue");
    assert_eq!(database.rows_of("invitations").await, [""; 0], "an invitation that reached nobody");

    // The one who was refused can begin anew.
    peer.set_mood(Mood::Well);
    peer.invite(&carl, &ann.handle()).await;
    ann.accept(&carl.handle).await;
    ann.await_friends(&[&carl.handle]).await;
    queue_is_empty(&database).await;
    assert_eq!(database.rows_of("invitations").await, [""; 0], "an invitation that was accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_so_already_counts_as_delivered() {
    let node = TestNode::start_with(&[QUICK]).await;
    let (ann, peer, database) = (node.person("ann").await, Peer::start().await, Database::of(&node).await);
    let (bob, carl) = (peer.user("bob"), peer.user("carl"));
    peer.set_mood(says(400, "Invitation already exists"));
    ann.invite(&bob.handle).await;
    queue_is_empty(&database).await;
    let invitations = ann.client.invitations(Direction::Outgoing).await.unwrap();
    let seen: Vec<_> = invitations.iter().map(|one| (&one.to_handle, one.delivery)).collect();
    assert_eq!(seen, [(&bob.handle, Some(InvitationDelivery::Delivered))], "{invitations:?}");

    peer.set_mood(says(400, "Invitation not found"));
    peer.invite(&carl, &ann.handle()).await;
    let id = ann.invitation_from(&carl.handle).await.id;
    let signed = ann.signer().reject(&carl.handle, now(), &mut rand::rng());
    ann.client.reject_invitation(&id, &signed).await.unwrap();
    queue_is_empty(&database).await;
    assert_eq!(peer.received_of(MessageType::FriendReject).len(), 1, "expected one attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acceptance_that_may_have_arrived_is_no_wrong_one_when_it_comes_again() {
    let mut node = TestNode::start_with(&[QUICK]).await;
    let (ann, peer, database) = (node.person("ann").await, Peer::start().await, Database::of(&node).await);
    let gone = || says(400, "Original invitation not found");
    let lost = || Mood::Answers(500, "oops".into());
    for (n, (answers, may_have_arrived)) in [
        (vec![lost()], true),
        (vec![Mood::Answers(200, "<h1>Welcome</h1>".into())], true),
        (vec![says(429, "not so often")], false),
        (vec![says(401, "who are you?")], false),
        (vec![lost(), says(429, "not so often")], true),
    ]
    .into_iter()
    .enumerate()
    {
        let bob = peer.user(&format!("bob{n}"));
        peer.invite(&bob, &ann.handle()).await;
        let what = format!("{answers:?}");
        for (attempts, answer) in (1..).zip(answers) {
            peer.set_mood(answer);
            if attempts == 1 {
                assert_eq!(accept(&ann, &bob.handle).await.0, 200, "{what}");
            }
            eventually("it was tried", || async {
                let row = &shown(&node, &["queue", "list"]).await["rows"][0];
                (row["attempts"].as_i64() >= Some(attempts)).then_some(())
            })
            .await;
        }
        peer.set_mood(gone());
        queue_is_empty(&database).await;
        assert_eq!(ann.friends().await.contains(&bob.handle), may_have_arrived, "after {what}");
        peer.set_mood(Mood::Well);
    }

    // The lease is over before there is an answer; then the node does not live to see one.
    for killed in [false, true] {
        let carl = peer.user(if killed { "carl" } else { "cora" });
        peer.invite(&carl, &ann.handle()).await;
        peer.set_mood(Mood::Hangs);
        let sent = peer.received_of(MessageType::FriendAccept).len();
        assert_eq!(accept(&ann, &carl.handle).await.0, 200);
        eventually("it is sent", || async {
            (peer.received_of(MessageType::FriendAccept).len() > sent).then_some(())
        })
        .await;
        peer.set_mood(gone());
        if killed {
            node.process.kill().await.unwrap();
            node.process.start().await.unwrap();
        } else {
            database.age_leases().await;
            // Whatever is written has the node look at its queue.
            let (status, _) = ann.ask(Method::PATCH, "/users/me/profile", json!({ "firstName": "A" })).await;
            assert_eq!(status, 200);
        }
        queue_is_empty(&database).await;
        let friends = ann.friends().await;
        assert!(friends.contains(&carl.handle), "the peer may have made them friends: {friends:?}");
        peer.set_mood(Mood::Well);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_on_its_way_stands_when_the_acceptance_before_it_arrives() {
    let node = TestNode::start_with(&[QUICK]).await;
    let (ann, peer, database) = (node.person("ann").await, Peer::start().await, Database::of(&node).await);
    let bob = peer.user("bob");
    peer.invite(&bob, &ann.handle()).await;
    let permits = Arc::new(Semaphore::new(0));
    let taken = json!({ "success": true }).to_string();
    peer.set_mood(Mood::Held(Arc::clone(&permits), 202, taken));
    assert_eq!(accept(&ann, &bob.handle).await.0, 200);
    eventually("the acceptance is under way", || async { (peer.received().len() == 1).then_some(()) }).await;
    ann.client.remove_friend(&bob.handle, Some(&ann.revocation(&bob.handle))).await.unwrap();
    permits.add_permits(2);
    eventually("the revocation arrives", || async {
        (peer.received_of(MessageType::RelationshipRevoke).len() == 1).then_some(())
    })
    .await;
    queue_is_empty(&database).await;
    assert_eq!(database.rows_of("invitations").await, [""; 0], "an invitation that is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_was_refused_is_to_be_signed_again_when_there_is_more_to_end() {
    let node = TestNode::start_with(&[QUICK]).await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let bob = friend(&node, &ann, &peer, "bob").await;
    peer.set_mood(says(400, "Recipient not found"));
    ann.client.remove_friend(&bob.handle, Some(&ann.revocation(&bob.handle))).await.unwrap();
    only_row(&ann, "it is refused", |row| row.state == RevocationState::Rejected).await;
    // They begin anew, and bob ends it before he has heard that ann accepts.
    peer.invite(&bob, &ann.handle()).await;
    let permits = Arc::new(Semaphore::new(0));
    let taken = json!({ "success": true }).to_string();
    peer.set_mood(Mood::Held(Arc::clone(&permits), 202, taken));
    assert_eq!(accept(&ann, &bob.handle).await.0, 200);
    eventually("the acceptance is under way", || async {
        (peer.received_of(MessageType::FriendAccept).len() == 2).then_some(())
    })
    .await;
    let kind = MessageType::RelationshipRevoke;
    let revoke = bob.signer.envelope(kind, &ann.handle(), Default::default(), now(), &mut rand::rng());
    let (status, answer) = peer.send(&revoke).await;
    assert_eq!((status, &answer["applied"]), (202, &json!(true)), "{answer}");
    permits.add_permits(1);
    let row = only_row(&ann, "it has to be told", |row| row.state != RevocationState::Rejected).await;
    assert_eq!(row.state, RevocationState::AwaitingSignature, "{row:?}");
}

/// A release's clock cannot be put wrong.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_taken_in_time_is_undone_and_told_where_it_may_have_arrived() {
    use crate::sharing::signed_share;
    use crate::support::Steered;
    use vellum_client::collection_share::SharedCiphertext;
    use vellum_client::signer::{ShareRole, SharedResource};

    let steered = Steered::start(&[QUICK]).await;
    let (node, database) = (&steered.node, Database::of(&steered.node).await);
    let (ann, unclear, refusing) = (node.person("ann").await, Peer::start().await, Peer::start().await);
    let dora = friend(node, &ann, &refusing, "dora").await.handle;
    let of_old = friend(node, &ann, &refusing, "of_old").await;
    ann.client.remove_friend(&of_old.handle, None).await.unwrap();
    let refusing_inviter = refusing.user("inviter");
    let unclear_inviter = unclear.user("inviter");
    refusing.invite(&of_old, &ann.handle()).await;
    refusing.invite(&refusing_inviter, &ann.handle()).await;
    unclear.invite(&unclear_inviter, &ann.handle()).await;
    // After the one nobody knows; after the other nothing has happened.
    unclear.set_mood(Mood::Answers(500, "oops".into()));
    refusing.set_mood(says(429, "not so often"));

    let shared = SharedResource {
        resource_type: "collection".into(),
        resource_id: "c1".into(),
        ciphertext: SharedCiphertext { encrypted_data: "v7B/".into(), nonce: "WoyOsQE8QeFAtxhm".into() },
        role: ShareRole::Viewer,
    };
    let share = signed_share(&ann, &dora, &shared);
    assert_eq!(ann.ask(Method::POST, "/sharing", share).await.0, 200);
    for inviter in [&of_old.handle, &refusing_inviter.handle, &unclear_inviter.handle] {
        assert_eq!(accept(&ann, inviter).await.0, 200);
    }
    for peer in [&unclear, &refusing] {
        ann.invite(&peer.user("invited").handle).await;
    }
    let queued = || async { shown(node, &["queue", "list"]).await["rows"].as_array().unwrap().clone() };
    eventually("each was tried", || async {
        let rows = queued().await;
        assert_eq!(rows.len(), 6, "{rows:?}");
        rows.iter().all(|row| row["lastError"].is_string()).then_some(())
    })
    .await;

    steered.after(300_000);
    // Whatever is written has the node look at its queue.
    assert_eq!(ann.ask(Method::PATCH, "/users/me/profile", json!({ "firstName": "Ann" })).await.0, 200);
    let told = eventually("the windows are closed", || async {
        let rows = queued().await;
        rows.iter().all(|row| row["state"] == "awaiting_signature").then_some(rows)
    })
    .await;
    let mut told: Vec<_> = told.iter().map(|row| row["peerHandle"].as_str().unwrap()).collect();
    told.sort_unstable();
    let invited: Handle = format!("invited@{}", unclear.domain()).parse().unwrap();
    let mut expected = [of_old.handle.as_str(), unclear_inviter.handle.as_str(), invited.as_str()];
    expected.sort_unstable();
    assert_eq!(told, expected, "expected who may believe in what is undone here, and who had to be told");
    assert_eq!(ann.friends().await, [dora]);
    let (_, shares) = ann.ask(Method::GET, "/sharing/outgoing", Value::Null).await;
    assert_eq!(shares["shares"], json!([]), "expected no share that has reached nobody");
    let invitations = ann.client.invitations(Direction::Outgoing).await.unwrap();
    assert!(
        invitations.iter().all(|one| one.delivery == Some(InvitationDelivery::Failed)),
        "{invitations:?}"
    );
    assert_eq!(
        database.rows_of("invitations").await.len(),
        5,
        "three are open again, two say what became of them"
    );
}
