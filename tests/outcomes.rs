//! What the outcome of an attempt leaves behind: at the message's row, in the record of the peer, and of what rests on
//! the message.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use vellum_client::http::{Direction, InvitationDelivery, Method, PendingRevocation, RevocationState};
use vellum_protocol::{Handle, MessageType, Timestamp};

use crate::drain::with_pending;
use crate::support::{Database, Mood, Peer, PeerUser, Person, TestNode, eventually, fields, now};

/// Nobody waits for long for what does not come.
const QUICK: (&str, &str) = ("VELLUM_FEDERATION__FLUSH_WAIT_MS", "300");

fn says(status: u16, message: &str) -> Mood {
    Mood::Answers(status, json!({ "message": message }).to_string())
}

/// What the operator sees of something.
async fn shown(node: &TestNode, words: &[&str]) -> Value {
    let words = [words, &["--json"]].concat();
    serde_json::from_str(&node.process.run(&words).await.unwrap()).unwrap()
}

/// Somebody on the peer who is a friend, which the peer has been told.
async fn friend(node: &TestNode, person: &Person, peer: &Peer, alias: &str) -> PeerUser {
    let friend = peer.friend_of(person, alias).await;
    node.process.run(&["queue", "watch"]).await.unwrap();
    friend
}

async fn record(node: &TestNode, peer: &Peer) -> Value {
    shown(node, &["peer", "show", peer.domain().as_str()]).await
}

/// Waits until nothing is in the queue any more.
async fn queue_is_empty(database: &Database) {
    eventually("the queue is empty", || async { (database.count_messages().await == 0).then_some(()) }).await;
}

/// Somebody's only pending revocation, once this holds for it.
async fn only_row(
    person: &Person,
    what: &str,
    holds: impl Fn(&PendingRevocation) -> bool,
) -> PendingRevocation {
    eventually(what, || async {
        let mut pending = person.pending().await;
        assert_eq!(pending.len(), 1, "expected one row, seen {pending:?}");
        Some(pending.remove(0)).filter(|row| holds(row))
    })
    .await
}

/// From the last attempt to the next, in milliseconds.
fn pause(last: &str, next: &str) -> i64 {
    let at = |text| Timestamp::parse(text).unwrap().instant();
    at(next).since(at(last))
}

async fn accept(person: &Person, from: &Handle) -> (u16, Value) {
    let id = person.invitation_from(from).await.id;
    let signed = fields(&person.signer().accept(from, now(), &mut rand::rng()));
    person.ask(Method::POST, &format!("/friends/invitations/{id}/accept"), signed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_fail_together_are_one_failure_and_a_delivery_makes_it_good() {
    let settings = [
        ("VELLUM_FEDERATION__RETRY_FIRST_MS", "20000"),
        ("VELLUM_FEDERATION__RETRY_RANDOMIZATION", "0"),
        QUICK,
    ];
    let node = TestNode::start_with(&settings).await;
    let peers = [Peer::start().await];
    let peer = &peers[0];
    let (ann, handles) = with_pending(&node, &peers, 5).await;
    let (first, others) = handles[0].split_at(1);
    // Only who has taken something is sent more than one message at a time.
    ann.flush(first).await;
    eventually("the first has arrived", || async { (ann.pending().await.len() == 4).then_some(()) }).await;
    let well = record(&node, peer).await;
    assert_eq!((&well["failures"], &well["lastError"]), (&json!(0), &Value::Null), "{well}");
    assert!(well["lastDeliveryAt"].is_string(), "{well}");

    let permits = Arc::new(Semaphore::new(0));
    peer.set_mood(Mood::Held(Arc::clone(&permits), 503, String::new()));
    ann.flush(others).await;
    eventually("all are under way", || async {
        (peer.received_of(MessageType::RelationshipRevoke).len() == 5).then_some(())
    })
    .await;
    permits.add_permits(4);
    eventually("all have failed", || async {
        ann.pending().await.iter().all(|row| row.attempts == 1).then_some(())
    })
    .await;
    let failed = record(&node, peer).await;
    assert_eq!((&failed["failures"], &failed["breaker"]), (&json!(1), &json!("half_open")), "{failed}");
    let error = failed["lastError"].as_str().unwrap_or_default();
    assert!(error.contains("refused (503)"), "{failed}");
    let (last, next) = (failed["lastFailureAt"].as_str().unwrap(), failed["nextProbeAt"].as_str().unwrap());
    assert_eq!(pause(last, next), 20_000, "expected the first pause, seen {failed}");

    peer.set_mood(Mood::Well);
    node.process.run(&["queue", "retry"]).await.unwrap();
    eventually("all are delivered", || async { ann.pending().await.is_empty().then_some(()) }).await;
    let well = record(&node, peer).await;
    let expected = (&json!(0), &json!("closed"), &Value::Null, &Value::Null);
    assert_eq!(
        (&well["failures"], &well["breaker"], &well["lastError"], &well["nextProbeAt"]),
        expected,
        "{well}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_told_that_a_peer_is_not_reachable_and_an_operator_why() {
    let node = TestNode::start_with(&[QUICK]).await;
    let ann = node.person("ann").await;
    // A port that nobody listens at.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let domain = format!("localhost:{}", held.local_addr().unwrap().port());
    Database::of(&node).await.add_messages(&ann, &domain, 1).await;
    node.process.run(&["queue", "retry"]).await.unwrap();
    let row = only_row(&ann, "an attempt has failed", |row| row.last_error.is_some()).await;
    assert_eq!(row.last_error.as_deref(), Some("not reachable"), "the owner has chosen the name: {row:?}");
    let peer = shown(&node, &["peer", "show", &domain]).await;
    let cause = peer["lastError"].as_str().unwrap_or_default();
    assert!(cause.len() > "not reachable".len(), "expected the cause as well, seen {peer}");
    assert!(peer["failures"].as_u64() >= Some(1), "{peer}");
}

/// Pauses of half a second, then five.
const STEEP: [(&str, &str); 4] = [
    ("VELLUM_FEDERATION__RETRY_FIRST_MS", "500"),
    ("VELLUM_FEDERATION__RETRY_MULTIPLIER", "10"),
    ("VELLUM_FEDERATION__RETRY_RANDOMIZATION", "0"),
    QUICK,
];

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_makes_the_envelope_wait_and_silence_the_peer() {
    let node = TestNode::start_with(&STEEP).await;
    let ann = node.person("ann").await;
    for (answer, refuses) in [
        (says(400, "not today"), true),
        (says(503, "too busy"), true),
        (Mood::Answers(500, "oops".into()), true),
        (Mood::Answers(503, String::new()), false),
        (Mood::Answers(502, "<h1>Bad Gateway</h1>".into()), false),
    ] {
        let what = format!("{answer:?}");
        let peer = Peer::start().await;
        let bob = friend(&node, &ann, &peer, "bob").await.handle;
        peer.set_mood(answer);
        ann.client.remove_friend(&bob, Some(&ann.revocation(&bob))).await.unwrap();
        let row = only_row(&ann, "two attempts have failed", |row| {
            row.attempts == 2 && row.state == RevocationState::Queued
        })
        .await;
        let row = shown(&node, &["queue", "show", &row.id]).await;
        let own = pause(row["lastAttemptAt"].as_str().unwrap(), row["nextAttemptAt"].as_str().unwrap());
        let peer = record(&node, &peer).await;
        if refuses {
            assert_eq!((own, &peer["failures"]), (5_000, &json!(0)), "{what}: {row} {peer}");
        } else {
            assert_eq!((own, &peer["failures"]), (500, &json!(2)), "{what}: {row} {peer}");
            let last = peer["lastFailureAt"].as_str().unwrap();
            assert_eq!(pause(last, peer["nextProbeAt"].as_str().unwrap()), 5_000, "{what}: {peer}");
        }
        ann.client.discard_revocation(&bob).await.unwrap();
    }
}

/// A release's clock cannot be put wrong.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn a_new_signature_is_sent_at_once_with_a_window_and_a_count_of_its_own() {
    use crate::support::Steered;
    let settings = [
        ("VELLUM_FEDERATION__RETRY_FIRST_MS", "3600000"),
        ("VELLUM_FEDERATION__RETRY_RANDOMIZATION", "0"),
        ("VELLUM_FEDERATION__FLUSH_WAIT_MS", "10000"),
    ];
    let steered = Steered::start(&settings).await;
    let (ann, peer) = (steered.node.person("ann").await, Peer::start().await);
    let bob = friend(&steered.node, &ann, &peer, "bob").await.handle;
    ann.client.remove_friend(&bob, None).await.unwrap();
    peer.set_mood(says(400, "not today"));
    ann.flush(std::slice::from_ref(&bob)).await;
    let old = only_row(&ann, "an attempt has failed", |row| row.last_error.is_some()).await;
    let waits = old.next_attempt_at.as_ref().unwrap().instant().since(now());
    assert!(waits > 60_000, "expected a pause of a third of 290 s, seen {waits} ms");

    steered.after(40_000);
    let at = now().plus_millis(40_000);
    let signed = ann.signer().revoke(&bob, at, &mut rand::rng());
    let item = vellum_client::http::FlushItem { peer_handle: bob, signed };
    let result = ann.client.flush_revocations(&[item]).await.unwrap().remove(0);
    assert_eq!(result.attempts, Some(1), "expected an attempt of its own, seen {result:?}");
    assert_eq!(peer.received_of(MessageType::RelationshipRevoke).len(), 2);
    let new = ann.pending().await.remove(0);
    let window = new.expires_at.as_ref().unwrap().instant().since(at);
    assert_eq!(window, 290_000, "expected the window from its signature on, seen {new:?}");
    assert_eq!((new.id, new.created_at), (old.id, old.created_at), "the same row");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_is_refused_for_good_says_when_and_why() {
    let node = TestNode::start().await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let bob = friend(&node, &ann, &peer, "bob").await.handle;
    peer.set_mood(says(400, "Recipient not found"));
    let begun = now();
    ann.client.remove_friend(&bob, Some(&ann.revocation(&bob))).await.unwrap();
    let row = only_row(&ann, "it is refused", |row| row.state == RevocationState::Rejected).await;
    let seen = (row.attempts, row.last_error.as_deref(), row.next_attempt_at.as_ref());
    assert_eq!(seen, (1, Some("refused (400): Recipient not found"), None));
    let at = row.last_attempt_at.as_ref().map(Timestamp::instant);
    assert!(at.is_some_and(|at| (begun..=now()).contains(&at)), "expected when it was tried, seen {row:?}");
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

    // Whoever was refused can begin anew.
    peer.set_mood(Mood::Well);
    peer.invite(&carl, &ann.handle()).await;
    ann.accept(&carl.handle).await;
    ann.await_friends(&[&carl.handle]).await;
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
    for (n, (first, may_have_arrived)) in [
        (Mood::Answers(500, "oops".into()), true),
        (Mood::Answers(200, "<h1>Welcome</h1>".into()), true),
        (says(429, "not so often"), false),
        (says(401, "who are you?"), false),
    ]
    .into_iter()
    .enumerate()
    {
        let bob = peer.user(&format!("bob{n}"));
        peer.invite(&bob, &ann.handle()).await;
        let what = format!("{first:?}");
        peer.set_mood(first);
        assert_eq!(accept(&ann, &bob.handle).await.0, 200, "{what}");
        eventually("it was tried", || async {
            shown(&node, &["queue", "list"]).await["rows"][0]["lastError"].is_string().then_some(())
        })
        .await;
        peer.set_mood(gone());
        queue_is_empty(&database).await;
        assert_eq!(ann.friends().await.contains(&bob.handle), may_have_arrived, "after {what}");
        peer.set_mood(Mood::Well);
    }

    // The node does not live to see the answer.
    let carl = peer.user("carl");
    peer.invite(&carl, &ann.handle()).await;
    peer.set_mood(Mood::Hangs);
    let sent = peer.received_of(MessageType::FriendAccept).len();
    assert_eq!(accept(&ann, &carl.handle).await.0, 200);
    eventually("it is sent", || async {
        (peer.received_of(MessageType::FriendAccept).len() > sent).then_some(())
    })
    .await;
    node.process.kill().await.unwrap();
    peer.set_mood(gone());
    node.process.start().await.unwrap();
    queue_is_empty(&database).await;
    assert!(ann.friends().await.contains(&carl.handle), "the peer may have made them friends");
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

/// A release's clock cannot be put wrong.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_knows_this_node_no_more_is_asked_for_its_manifest_after_a_minute() {
    use crate::support::Steered;
    let steered = Steered::start(&[QUICK]).await;
    let node = &steered.node;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let bob = friend(node, &ann, &peer, "bob").await.handle;
    peer.set_mood(says(401, "Federation auth failed: another key"));
    peer.change_key();
    steered.after(61_000);
    let at = now().plus_millis(61_000);
    let signed = ann.signer().revoke(&bob, at, &mut rand::rng());
    ann.client.remove_friend(&bob, Some(&signed)).await.unwrap();
    let key = peer.server_key();
    eventually("its new key is noticed", || async {
        (record(node, &peer).await["offeredKey"] == key).then_some(())
    })
    .await;
}
