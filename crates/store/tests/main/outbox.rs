//! The owner's side of the outbox: what is pending, signing it, taking it back.

use futures_util::FutureExt;
use vellum_protocol::MessageType;
use vellum_store::UserId;
use vellum_store::outbox::{self, Lapsed, Outcome, Retry, State};

use crate::support::{DELIVERED, Db, NEVER, T0, handle, refused, rejected, retry, t};

const BOB: &str = "bob@peer.example";
const CARL: &str = "carl@peer.example";

fn postponed(error: &str, next: i64) -> Outcome {
    refused(error, t(next))
}

async fn withdraw_signatures(db: &Db, user: &UserId) -> Vec<Lapsed> {
    let user = user.clone();
    db.write(move |tx| async move { outbox::withdraw_signatures(tx, &user).await }.boxed()).await
}

async fn discard(db: &Db, user: &UserId, peer: &str) -> bool {
    let (user, peer) = (user.clone(), handle(peer));
    db.write(move |tx| async move { outbox::discard(tx, &user, &peer).await }.boxed()).await.is_some()
}

#[tokio::test]
async fn a_revocation_goes_from_unsigned_to_queued_to_delivering_and_is_gone_when_delivered() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    db.await_signature(&alice, BOB, T0).await;
    let unsigned = db.pending_for(&alice, BOB).await.unwrap();
    assert_eq!((unsigned.state, unsigned.created_at), (State::AwaitingSignature, T0));
    assert_eq!((unsigned.next_attempt_at, unsigned.expires_at, unsigned.attempts), (None, None, 0));
    assert!(db.lease("x:1", NEVER, 8).await.is_empty(), "nothing is sent unsigned");

    let id = db.queue(&alice, BOB, t(5000), t(10)).await;
    assert_eq!(id, unsigned.id, "the same row");
    let queued = db.pending_for(&alice, BOB).await.unwrap();
    assert_eq!(queued.state, State::Queued);
    assert_eq!((queued.next_attempt_at, queued.expires_at), (Some(t(10)), Some(t(5000))));
    assert_eq!(queued.created_at, T0, "pending since the beginning");

    let first = db.lease_one("x:1", t(10)).await;
    assert_eq!((&first.id, first.attempts, first.maybe_arrived), (&id, 0, false));
    assert_eq!(first.envelope.content.to, handle(BOB));
    let under_way = db.pending_for(&alice, BOB).await.unwrap();
    assert_eq!((under_way.state, under_way.next_attempt_at), (State::Delivering, None));

    let lost = Outcome::Retry(Retry { maybe_arrived: true, ..retry("cut", t(100)) });
    assert!(db.finish(&first, lost, t(20)).await);
    let again = db.pending_for(&alice, BOB).await.unwrap();
    assert_eq!((again.state, again.attempts), (State::Queued, 1));
    assert_eq!(again.last_error.as_deref(), Some("cut"));
    assert_eq!((again.last_attempt_at, again.next_attempt_at), (Some(t(20)), Some(t(100))));

    let second = db.lease_one("x:2", t(100)).await;
    assert_eq!((second.attempts, second.maybe_arrived), (1, true));
    assert!(db.finish(&second, postponed("later", 200), t(110)).await);
    let third = db.lease_one("x:3", t(200)).await;
    assert!(third.maybe_arrived, "what may have arrived once stays so");
    assert_eq!(third.envelope, first.envelope, "the signed envelope is never touched");
    assert!(db.finish(&third, DELIVERED, t(210)).await);
    assert!(db.pending(&alice).await.is_empty());
}

#[tokio::test]
async fn a_rejected_revocation_stays_in_sight_and_is_not_sent_again() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    db.queue(&alice, BOB, NEVER, T0).await;
    let leased = db.lease_one("x:1", T0).await;
    assert!(db.finish(&leased, rejected("no such user"), t(1)).await);
    let row = db.pending_for(&alice, BOB).await.unwrap();
    assert_eq!((row.state, row.attempts), (State::Rejected, 1));
    assert_eq!(row.last_error.as_deref(), Some("no such user"));
    assert!(db.lease("x:2", t(1_000_000), 8).await.is_empty());
    assert!(discard(&db, &alice, BOB).await, "its owner can drop it");
}

#[tokio::test]
async fn what_is_discarded_is_one_users_row_for_exactly_one_peer() {
    let db = Db::new().await;
    let (alice, amy) = (db.user("alice@example.org").await, db.user("amy@example.org").await);
    for user in [&alice, &amy] {
        db.await_signature(user, BOB, T0).await;
        db.await_signature(user, CARL, t(1)).await;
    }
    assert!(!discard(&db, &alice, "Bob@peer.example").await, "handles are compared exactly");
    assert!(discard(&db, &alice, BOB).await);
    assert!(!discard(&db, &alice, BOB).await);
    assert_eq!(db.pending(&alice).await.len(), 1);
    assert_eq!(db.pending(&amy).await.len(), 2);
}

#[tokio::test]
async fn making_a_revocation_pending_again_takes_its_signature_away_and_keeps_its_history() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    let id = db.queue(&alice, BOB, NEVER, T0).await;
    let leased = db.lease_one("x:1", T0).await;
    assert!(db.finish(&leased, postponed("down", 50), t(5)).await);
    db.await_signature(&alice, BOB, t(10)).await;
    let row = db.pending_for(&alice, BOB).await.unwrap();
    assert_eq!((row.id, row.state), (id, State::AwaitingSignature));
    assert_eq!((row.next_attempt_at, row.expires_at), (None, None));
    assert_eq!((row.created_at, row.last_error.as_deref()), (T0, Some("down")));
    assert!(db.lease("x:2", t(1_000_000), 8).await.is_empty(), "there is nothing to send");
    assert_eq!(db.pending(&alice).await.len(), 1, "one row a peer");
}

#[tokio::test]
async fn a_newer_signature_takes_the_place_of_one_that_is_under_way() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    let id = db.queue(&alice, BOB, t(1000), T0).await;
    let old = db.lease_one("x:1", T0).await;
    assert_eq!(db.queue(&alice, BOB, t(9000), t(500)).await, id);
    let new = db.lease_one("x:2", t(500)).await;
    assert_ne!(new.envelope, old.envelope);
    assert_eq!((new.attempts, new.maybe_arrived, new.expires_at), (0, false, t(9000)));
    for outcome in [DELIVERED, rejected("no"), postponed("down", 0)] {
        assert!(!db.finish(&old, outcome, t(501)).await, "the old attempt counts no more");
    }
    assert_eq!(db.pending_for(&alice, BOB).await.unwrap().state, State::Delivering);
    assert!(db.finish(&new, DELIVERED, t(502)).await);
}

#[tokio::test]
async fn withdrawing_signatures_unsigns_revocations_and_gives_back_every_other_message() {
    let db = Db::new().await;
    let (alice, amy) = (db.user("alice@example.org").await, db.user("amy@example.org").await);
    db.await_signature(&alice, "unsigned@peer.example", T0).await;
    db.queue(&alice, "rejected@peer.example", NEVER, T0).await;
    let leased = db.lease_one("x:0", T0).await;
    db.finish(&leased, rejected("no"), T0).await;
    db.queue(&alice, "sent@peer.example", NEVER, T0).await;
    let sent = db.lease_one("x:1", T0).await;
    db.queue(&alice, BOB, NEVER, T0).await;
    db.queue_of(&alice, MessageType::FriendAccept, CARL, "an invitation", NEVER, T0).await;
    db.queue(&amy, BOB, NEVER, T0).await;
    db.queue_of(&amy, MessageType::FriendInvite, CARL, "another", NEVER, T0).await;

    let lapsed = withdraw_signatures(&db, &alice).await;
    assert_eq!(
        lapsed,
        [Lapsed {
            user_id: alice.clone(),
            peer_handle: handle(CARL),
            message_type: MessageType::FriendAccept,
            subject: "an invitation".into(),
            maybe_arrived: false,
            voids_revocation: false,
            last_error: None,
        }]
    );
    let pending = db.pending(&alice).await;
    assert_eq!(pending.len(), 4);
    assert!(pending.iter().all(|row| row.state == State::AwaitingSignature), "{pending:?}");
    assert!(!db.finish(&sent, DELIVERED, t(1)).await, "the attempt under way counts no more");
    let still_sent: Vec<_> = db.lease("x:2", t(1), 8).await.into_iter().map(|row| row.user_id).collect();
    assert_eq!(still_sent, [amy.clone(), amy], "nobody else's are touched");
}

#[tokio::test]
async fn only_an_unsigned_revocation_is_dropped_by_a_new_relationship() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    db.await_signature(&alice, BOB, T0).await;
    db.queue(&alice, CARL, NEVER, T0).await;
    for peer in [BOB, CARL] {
        let user = alice.clone();
        db.write(move |tx| async move { outbox::drop_unsigned(tx, &user, &handle(peer)).await }.boxed())
            .await;
    }
    let left: Vec<_> = db.pending(&alice).await.into_iter().map(|row| row.peer_handle).collect();
    assert_eq!(left, [handle(CARL)]);
}

#[tokio::test]
async fn a_message_is_withdrawn_by_its_type_and_subject() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    let id = db.queue_of(&alice, MessageType::FriendInvite, BOB, "one", NEVER, T0).await;
    db.queue_of(&alice, MessageType::FriendInvite, BOB, "two", NEVER, T0).await;
    db.queue_of(&alice, MessageType::FriendReject, BOB, "one", NEVER, T0).await;
    let withdraw = |subject: &'static str| {
        let user = alice.clone();
        db.write(move |tx| {
            async move { outbox::withdraw(tx, &user, MessageType::FriendInvite, subject).await }.boxed()
        })
    };
    assert_eq!(withdraw("one").await.map(|removed| removed.id), Some(id));
    assert_eq!(withdraw("one").await, None);
    assert_eq!(db.lease("x:1", T0, 8).await.len(), 2);
    assert!(db.pending(&alice).await.is_empty(), "only revocations are shown as pending");
}

#[tokio::test]
async fn an_owner_sees_when_the_peer_may_be_tried_again_where_that_is_later() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    db.queue(&alice, BOB, NEVER, t(10)).await;
    db.write(|tx| {
        async move { vellum_store::peers::note_failure(tx, "peer.example", 1, t(700), "down", t(5)).await }
            .boxed()
    })
    .await;
    assert_eq!(db.pending_for(&alice, BOB).await.unwrap().next_attempt_at, Some(t(700)));
    db.queue(&alice, BOB, NEVER, t(800)).await;
    assert_eq!(db.pending_for(&alice, BOB).await.unwrap().next_attempt_at, Some(t(800)));
}

#[tokio::test]
async fn pending_revocations_outlive_a_restart() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    db.queue(&alice, BOB, NEVER, T0).await;
    db.await_signature(&alice, CARL, t(1)).await;
    let before = db.pending(&alice).await;
    let db = db.reopened().await;
    assert_eq!(db.pending(&alice).await, before);
    assert_eq!(before.len(), 2);
}
