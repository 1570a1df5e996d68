//! The delivery's side of the outbox: who may send what, when, and whose outcome counts.

use std::collections::HashMap;

use futures_util::FutureExt;
use futures_util::future::join_all;
use sqlx::{Connection, SqliteConnection};
use vellum_protocol::{MessageType, UnixMillis};
use vellum_store::outbox::{self, FailureScope, Lapsed, Leased, Outcome, Retry, State, Wanted};
use vellum_store::{UserId, peers};

use crate::support::{DELIVERED, Db, NEVER, T0, envelope, handle, refused, rejected, retry, t};

fn per_domain(leased: &[Leased]) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for row in leased {
        *counts.entry(row.peer_handle.domain().folded()).or_default() += 1;
    }
    counts
}

/// Revocations of one user to `count` people at a node, due one after the other from `from` on.
async fn queue_many(db: &Db, domain: &str, count: i64, from: i64) -> UserId {
    let user = db.user(&format!("owner-of-{domain}@example.org")).await;
    for n in 0..count {
        db.queue(&user, &format!("user{n:02}@{domain}"), NEVER, t(from + n)).await;
    }
    user
}

fn postponed(next: UnixMillis) -> Outcome {
    refused("down", next)
}

async fn expire(db: &Db, now: UnixMillis) -> Vec<Lapsed> {
    db.write(move |tx| async move { outbox::expire(tx, now).await }.boxed()).await
}

async fn expire_leases(db: &Db, now: UnixMillis) -> Vec<String> {
    db.write(move |tx| async move { outbox::expire_leases(tx, now).await }.boxed()).await
}

async fn release(db: &Db, prefix: &'static str) -> u64 {
    db.write(move |tx| async move { outbox::release_leases(tx, prefix).await }.boxed()).await
}

async fn next_due(db: &Db) -> Option<UnixMillis> {
    outbox::next_due(&mut db.store.read().await.unwrap()).await.unwrap()
}

async fn note_failure(db: &Db, domain: &'static str, failures: u32, retry_at: UnixMillis) {
    db.write(move |tx| {
        async move { peers::note_failure(tx, domain, failures, retry_at, "down", T0).await }.boxed()
    })
    .await;
}

#[tokio::test]
async fn one_peer_gets_no_more_at_once_than_its_limit_counting_what_is_under_way() {
    let db = Db::new().await;
    queue_many(&db, "a.example", 6, 0).await;
    queue_many(&db, "b.example", 1, 0).await;
    let first = db.lease("x:1", t(100), 2).await;
    assert_eq!(per_domain(&first), HashMap::from([("a.example".into(), 2), ("b.example".into(), 1)]));
    assert!(db.lease("x:2", t(100), 2).await.is_empty(), "a's two are under way");
    let a = first.iter().find(|row| row.peer_handle.domain().as_str() == "a.example").unwrap();
    assert!(db.finish(a, DELIVERED, t(101)).await);
    assert_eq!(db.lease("x:3", t(101), 2).await.len(), 1, "one place is free again");
    assert_eq!(db.lease("x:4", t(101), 4).await.len(), 2, "a wider limit counts them too");
}

/// Leases so many rows for `peer.example`, beginning behind this user.
async fn lease_after(db: &Db, last: Option<&UserId>, rows: u32, now: UnixMillis) -> Vec<Leased> {
    let last = last.cloned();
    let leased = db.write(move |tx| {
        async move {
            let (domain, until) = ("peer.example", now.plus_millis(60_000));
            let wanted = Wanted { domain, rows, last_user: last.as_ref(), token: "x:1", now, until };
            outbox::lease_due(tx, &wanted).await
        }
        .boxed()
    });
    leased.await
}

#[tokio::test]
async fn users_take_turns_at_one_peer_however_much_one_of_them_has_queued() {
    let db = Db::new().await;
    let heavy = db.user("heavy@example.org").await;
    for n in 0..40 {
        db.queue(&heavy, &format!("friend{n}@peer.example"), NEVER, t(n)).await;
    }
    let light = [db.user("one@example.org").await, db.user("two@example.org").await];
    for user in &light {
        db.queue(user, "friend@peer.example", NEVER, t(1000)).await;
    }
    let first = db.lease("x:1", t(1000), 3).await;
    let served = |user: &UserId| first.iter().filter(|row| row.user_id == *user).count();
    assert_eq!(
        (served(&heavy), served(&light[0]), served(&light[1])),
        (1, 1, 1),
        "each has a turn although forty rows are older"
    );
    for row in &first {
        assert!(db.finish(row, DELIVERED, t(1001)).await);
    }
    let rest = db.lease("x:2", t(1001), 3).await;
    assert_eq!(rest.len(), 3, "places that nobody else wants are not left empty");
    let handles: Vec<_> = rest.iter().map(|row| row.peer_handle.alias().to_string()).collect();
    assert_eq!(handles, ["friend1", "friend2", "friend3"], "the oldest first");
}

#[tokio::test]
async fn the_next_user_has_the_next_turn_and_behind_the_last_comes_the_first() {
    let db = Db::new().await;
    for n in 0..4 {
        let user = db.user(&format!("user{n}@example.org")).await;
        for friend in ["one", "two"] {
            db.queue(&user, &format!("{friend}@peer.example"), NEVER, T0).await;
        }
    }
    let mut served = Vec::new();
    for _ in 0..4 {
        let leased = lease_after(&db, served.last(), 2, t(1)).await;
        assert_eq!(leased.len(), 2, "rows of a turn");
        served.extend(leased.into_iter().map(|row| row.user_id));
    }
    let (first, second) = served.split_at(4);
    let distinct: std::collections::HashSet<_> = first.iter().collect();
    assert_eq!(distinct.len(), 4, "one row each before anybody has a second: {served:?}");
    assert_eq!(first, second, "in the same order again");
    assert!(lease_after(&db, served.last(), 2, t(1)).await.is_empty(), "all are leased");
}

#[tokio::test]
async fn a_domain_is_one_peer_however_its_handles_spell_it() {
    let db = Db::new().await;
    let user = db.user("alice@example.org").await;
    for peer in ["bob@Peer.example", "bob@peer.EXAMPLE", "bob@peer.example"] {
        db.queue(&user, peer, NEVER, T0).await;
    }
    assert_eq!(db.lease("x:1", T0, 1).await.len(), 1);
}

#[tokio::test]
async fn no_row_is_leased_twice_however_many_ask_at_once() {
    let db = Db::new().await;
    queue_many(&db, "a.example", 20, 0).await;
    let words = ["x:0", "x:1", "x:2", "x:3", "x:4", "x:5", "x:6", "x:7"];
    let shares = join_all(words.map(|word| db.lease(word, t(100), 20))).await;
    let all: Vec<_> = shares.iter().flatten().collect();
    let distinct: std::collections::HashSet<_> = all.iter().map(|row| row.id.clone()).collect();
    assert_eq!((all.len(), distinct.len()), (20, 20));
    for (word, share) in words.iter().zip(&shares) {
        assert!(share.iter().all(|row| row.token == *word));
    }
}

#[tokio::test]
async fn a_peer_with_failures_on_its_record_gets_one_probe_at_a_time() {
    let db = Db::new().await;
    queue_many(&db, "a.example", 5, 0).await;
    note_failure(&db, "a.example", 3, t(200)).await;
    assert!(db.lease("x:1", t(199), 8).await.is_empty(), "it is not its time yet");
    let probe = db.lease("x:2", t(200), 8).await;
    assert_eq!(probe.len(), 1);
    assert!(db.lease("x:3", t(200), 8).await.is_empty(), "the probe is under way");
    db.finish(&probe[0], DELIVERED, t(201)).await;
    db.write(|tx| async move { peers::note_delivery(tx, "a.example", t(201)).await }.boxed()).await;
    assert_eq!(db.lease("x:4", t(201), 8).await.len(), 4, "it is up: all may go");
}

#[tokio::test]
async fn a_queue_says_what_waits_for_its_peer_and_whether_the_peer_may_be_tried() {
    let db = Db::new().await;
    assert_eq!(db.queue_of_peer("a.example").await.due_at(), None, "nothing is queued");
    queue_many(&db, "a.example", 3, 5).await;
    queue_many(&db, "b.example", 1, 0).await;
    let queue = db.queue_of_peer("a.example").await;
    assert_eq!((queue.row_due, queue.due_at(), queue.leased), (Some(t(5)), Some(t(5)), 0));
    assert_eq!((queue.has_failed, queue.delivered_at), (false, UnixMillis(0)), "nothing is known of it");
    note_failure(&db, "a.example", 1, t(700)).await;
    let failed = db.queue_of_peer("a.example").await;
    assert_eq!((failed.has_failed, failed.due_at()), (true, Some(t(700))));
    db.write(|tx| async move { peers::note_delivery(tx, "a.example", t(9)).await }.boxed()).await;
    let lease =
        |rows| Wanted { domain: "a.example", rows, last_user: None, token: "x:1", now: t(6), until: t(90) };
    db.write(move |tx| async move { outbox::lease_due(tx, &lease(1)).await.map(drop) }.boxed()).await;
    let well = db.queue_of_peer("a.example").await;
    assert_eq!((well.has_failed, well.delivered_at, well.leased), (false, t(9), 1));
    assert_eq!(well.due_at(), Some(t(6)), "the next row");
    db.write(|tx| async move { peers::set_paused(tx, "a.example", true).await }.boxed()).await;
    let paused = db.queue_of_peer("a.example").await;
    assert_eq!((paused.row_due, paused.due_at()), (Some(t(6)), None));
    let all = outbox::queues(&mut db.store.read().await.unwrap()).await.unwrap();
    assert_eq!(all, [paused, db.queue_of_peer("b.example").await]);
    db.write(|tx| async move { vellum_store::node_state::pause_deliveries(tx, true).await }.boxed()).await;
    assert_eq!(db.queue_of_peer("b.example").await.due_at(), None, "all are paused");
}

#[tokio::test]
async fn the_next_row_is_due_after_those_that_are_due_already() {
    let db = Db::new().await;
    queue_many(&db, "a.example", 3, 10).await;
    let next = async |now| {
        outbox::next_due_after(&mut db.store.read().await.unwrap(), "a.example", now).await.unwrap()
    };
    assert_eq!(next(t(9)).await, Some(t(10)));
    assert_eq!(next(t(10)).await, Some(t(11)));
    assert_eq!(next(t(12)).await, None);
}

#[tokio::test]
async fn what_was_leased_and_not_sent_goes_back_as_it_was() {
    let db = Db::new().await;
    queue_many(&db, "a.example", 1, 0).await;
    let leased = db.lease_one("x:1", t(1)).await;
    let hand_back = |token: &'static str| {
        let id = leased.id.clone();
        db.write(move |tx| async move { outbox::hand_back(tx, &id, token).await }.boxed())
    };
    hand_back("x:2").await;
    assert!(db.lease("x:3", t(1), 8).await.is_empty(), "another's lease stands");
    hand_back("x:1").await;
    let again = db.lease_one("x:4", t(1)).await;
    assert_eq!((again.attempts, again.maybe_arrived), (0, false));
}

#[tokio::test]
async fn a_pause_holds_back_every_row_to_the_peer_and_no_other() {
    let db = Db::new().await;
    queue_many(&db, "a.example", 2, 0).await;
    queue_many(&db, "b.example", 1, 0).await;
    for until in [500, 300] {
        db.write(move |tx| async move { peers::pause_until(tx, "a.example", t(until)).await }.boxed()).await;
    }
    assert_eq!(per_domain(&db.lease("x:1", t(499), 8).await), HashMap::from([("b.example".into(), 1)]));
    assert_eq!(db.lease("x:2", t(500), 8).await.len(), 2, "a pause is no failure: all may go");
}

#[tokio::test]
async fn nothing_is_leased_before_it_is_due_or_after_its_window() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    db.queue(&alice, "bob@peer.example", t(1000), T0).await;
    let first = db.lease_one("x:1", T0).await;
    db.finish(&first, postponed(t(500)), t(1)).await;
    assert!(db.lease("x:2", t(499), 8).await.is_empty());
    assert!(db.lease("x:3", t(1000), 8).await.is_empty());
    assert_eq!(db.lease("x:4", t(999), 8).await.len(), 1);
}

#[tokio::test]
async fn an_outcome_counts_only_while_its_lease_stands() {
    for outcome in [DELIVERED, rejected("no"), postponed(t(9))] {
        let db = Db::new().await;
        let alice = db.user("alice@example.org").await;
        let bob = "bob@peer.example";

        db.queue(&alice, bob, NEVER, T0).await;
        let discarded = db.lease_one("x:1", T0).await;
        let user = alice.clone();
        db.write(move |tx| {
            async move { outbox::discard(tx, &user, &handle("bob@peer.example")).await }.boxed()
        })
        .await;
        assert!(!db.finish(&discarded, outcome.clone(), t(1)).await, "discarded: {outcome:?}");
        assert!(db.pending(&alice).await.is_empty(), "it does not come back");

        db.queue(&alice, bob, NEVER, T0).await;
        let reset = db.lease_one("x:2", T0).await;
        db.await_signature(&alice, bob, t(1)).await;
        let before = db.pending(&alice).await;
        assert!(!db.finish(&reset, outcome.clone(), t(2)).await, "reset: {outcome:?}");
        assert_eq!(db.pending(&alice).await, before);

        db.queue(&alice, bob, NEVER, T0).await;
        let lapsed = db.lease_one("x:3", T0).await;
        assert!(expire_leases(&db, t(59_999)).await.is_empty());
        assert_eq!(expire_leases(&db, t(60_000)).await, ["peer.example"]);
        let before = db.pending(&alice).await;
        assert_eq!(before[0].state, State::Queued);
        assert!(!db.finish(&lapsed, outcome.clone(), t(60_000)).await, "lapsed: {outcome:?}");
        assert_eq!(db.pending(&alice).await, before);
        let again = db.lease_one("x:4", t(60_000)).await;
        assert!(again.maybe_arrived, "nobody knows how the lapsed attempt ended");
        let before = db.pending(&alice).await;
        assert!(!db.finish(&lapsed, outcome.clone(), t(60_001)).await, "leased again: {outcome:?}");
        assert_eq!(db.pending(&alice).await, before);
        assert!(db.finish(&again, outcome.clone(), t(60_002)).await, "the one that stands counts");
        assert!(!db.finish(&again, outcome, t(60_003)).await, "and only once");
    }
}

#[tokio::test]
async fn a_closed_window_unsigns_revocations_and_gives_back_every_other_message() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    let (bob, carl) = ("bob@peer.example", "carl@peer.example");
    db.queue_of(&alice, MessageType::FriendAccept, bob, "closed", t(1000), T0).await;
    let accept = db.lease_one("x:0", T0).await;
    db.finish(&accept, postponed(t(2000)), t(10)).await;
    db.queue(&alice, bob, t(1000), T0).await;
    let leased = db.lease_one("x:1", T0).await;
    db.finish(&leased, postponed(t(2000)), t(10)).await;
    db.queue(&alice, carl, t(1001), T0).await;
    db.queue_of(&alice, MessageType::FriendInvite, bob, "open", t(1001), T0).await;
    assert!(expire(&db, t(999)).await.is_empty());

    let lapsed = expire(&db, t(1000)).await;
    assert_eq!(
        lapsed,
        [Lapsed {
            user_id: alice.clone(),
            peer_handle: handle(bob),
            message_type: MessageType::FriendAccept,
            subject: "closed".into(),
            maybe_arrived: false,
            voids_revocation: false,
            last_error: Some("down".into()),
        }]
    );
    let row = db.pending_for(&alice, bob).await.unwrap();
    assert_eq!((row.state, row.expires_at, row.next_attempt_at), (State::AwaitingSignature, None, None));
    assert_eq!((row.attempts, row.last_error.as_deref()), (1, Some("down")), "its history is kept");
    assert_eq!(row.last_attempt_at, Some(t(10)));
    assert_eq!(db.pending_for(&alice, carl).await.unwrap().state, State::Queued);
    assert!(expire(&db, t(1000)).await.is_empty(), "each is given back once");
    assert_eq!(db.lease("x:2", t(1000), 8).await.len(), 2, "carl's revocation and the open invitation");
}

#[tokio::test]
async fn a_window_does_not_close_on_an_attempt_that_is_under_way() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    db.queue(&alice, "bob@peer.example", t(1000), T0).await;
    db.queue_of(&alice, MessageType::FriendAccept, "carl@peer.example", "s", t(1000), T0).await;
    let leased = db.lease("x:1", t(990), 8).await;
    assert!(expire(&db, t(2000)).await.is_empty());
    for row in &leased {
        assert!(db.finish(row, DELIVERED, t(2001)).await);
    }
    assert_eq!(leased.len(), 2);
}

#[tokio::test]
async fn leases_are_handed_back_by_the_word_they_begin_with() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    for (word, peer) in [("a%:1", "one@x.example"), ("a%:2", "two@x.example"), ("ab:1", "three@x.example")] {
        db.queue(&alice, peer, NEVER, T0).await;
        db.lease_one(word, T0).await;
    }
    assert_eq!(release(&db, "a%:").await, 2, "the word is no pattern");
    let states: Vec<_> = db.pending(&alice).await.into_iter().map(|row| row.state).collect();
    assert_eq!(states, [State::Queued, State::Queued, State::Delivering]);
    assert!(db.lease("c:1", T0, 8).await.iter().all(|row| row.maybe_arrived));
    assert_eq!(release(&db, "").await, 3, "an empty word is in front of every word");
}

#[tokio::test]
async fn the_next_thing_to_do_is_the_earliest_of_attempts_leases_and_windows() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    assert_eq!(next_due(&db).await, None);
    db.await_signature(&alice, "unsigned@a.example", T0).await;
    assert_eq!(next_due(&db).await, None, "an unsigned revocation waits for its owner");
    db.queue(&alice, "bob@b.example", t(5000), t(100)).await;
    assert_eq!(next_due(&db).await, Some(t(100)), "an attempt");
    note_failure(&db, "b.example", 3, t(700)).await;
    assert_eq!(next_due(&db).await, Some(t(700)), "its peer's wait");
    note_failure(&db, "b.example", 4, t(9000)).await;
    assert_eq!(next_due(&db).await, Some(t(5000)), "its window closes before");
    db.queue(&alice, "carl@c.example", t(90_000), t(200)).await;
    assert_eq!(next_due(&db).await, Some(t(200)));
    let carl = db.lease_one("x:1", t(200)).await;
    db.write(|tx| async move { peers::note_delivery(tx, "b.example", T0).await }.boxed()).await;
    let bob = db.lease_one("x:2", t(300)).await;
    assert_eq!(next_due(&db).await, Some(t(60_200)), "a lease's end");
    db.finish(&bob, DELIVERED, t(301)).await;
    db.finish(&carl, rejected("no"), t(301)).await;
    assert_eq!(next_due(&db).await, None, "a rejected one waits for its owner too");
}

#[tokio::test]
async fn a_wider_window_reaches_the_signed_revocations_of_that_peer_and_nothing_else() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    let (bob, carl) = ("bob@a.example", "carl@a.example");
    db.queue(&alice, bob, t(1000), T0).await;
    db.lease_one("x:1", T0).await;
    db.queue(&alice, carl, t(1000), t(10)).await;
    db.queue(&alice, "long@a.example", t(90_000), T0).await;
    db.queue(&alice, "dan@b.example", t(1000), T0).await;
    db.await_signature(&alice, "unsigned@a.example", T0).await;
    db.queue_of(&alice, MessageType::FriendInvite, bob, "s", t(1000), T0).await;
    db.write(|tx| async move { outbox::widen_windows(tx, "a.example", 50_000).await }.boxed()).await;
    let ends: HashMap<_, _> = db
        .pending(&alice)
        .await
        .into_iter()
        .map(|row| (row.peer_handle.to_string(), row.expires_at))
        .collect();
    assert_eq!(ends[bob], Some(t(50_000)), "from its own timestamp, while it is under way too");
    assert_eq!(ends[carl], Some(t(50_010)));
    assert_eq!(ends["long@a.example"], Some(t(90_000)), "no window is narrowed");
    assert_eq!(ends["dan@b.example"], Some(t(1000)));
    assert_eq!(ends["unsigned@a.example"], None);
    assert_eq!(expire(&db, t(1000)).await.len(), 1, "the invitation's window closed as before");
}

/// A measurement, not a test: `cargo test --release -p vellum-store -- --ignored --nocapture a_hundred_thousand`.
#[tokio::test]
#[ignore = "prints how long finding work in a large queue takes"]
async fn a_hundred_thousand_rows_over_two_thousand_peers_are_looked_at_quickly() {
    const PEERS: i64 = 2000;
    let db = Db::new().await;
    let user = db.user("owner@example.org").await;
    for peer in 0..PEERS {
        let user = user.clone();
        db.write(move |tx| {
            async move {
                let domain = format!("node{peer}.example");
                for n in 0..50 {
                    let envelope =
                        envelope(MessageType::RelationshipRevoke, &format!("user{n}@{domain}"), t(n));
                    outbox::queue(tx, &user, &envelope, "", NEVER, None, t(n)).await?;
                }
                if peer % 2 == 0 {
                    peers::note_failure(tx, &domain, 9, t(3_600_000 + peer), "down", T0).await?;
                }
                Ok(())
            }
            .boxed()
        })
        .await;
    }
    let timed = |what: &'static str, started: std::time::Instant| println!("{what}: {:?}", started.elapsed());
    for _ in 0..3 {
        let started = std::time::Instant::now();
        assert!(next_due(&db).await.is_some());
        timed("what is due when", started);
        let started = std::time::Instant::now();
        let leased = db.lease("x:1", t(1000), 1).await;
        timed("that, and a lease for each of 1,000 peers", started);
        assert!(!leased.is_empty());
        let started = std::time::Instant::now();
        for row in &leased {
            db.finish(row, DELIVERED, t(1000)).await;
        }
        timed("record the outcomes, one by one", started);
    }
}

#[tokio::test]
async fn only_what_the_peer_refused_counts_as_a_refusal_and_a_new_signature_begins_anew() {
    let db = Db::new().await;
    let user = db.user("ann@example.org").await;
    db.queue(&user, "bob@a.example", NEVER, t(0)).await;
    let unreached = || Outcome::Retry(Retry { scope: FailureScope::Peer, ..retry("down", t(0)) });
    for (outcome, attempts, refusals) in
        [(unreached(), 1, 0), (postponed(t(0)), 2, 1), (unreached(), 3, 1), (postponed(t(0)), 4, 2)]
    {
        let leased = db.lease_one("x:1", t(1)).await;
        assert!(db.finish(&leased, outcome, t(2)).await);
        let leased = db.lease_one("x:2", t(3)).await;
        assert_eq!((leased.attempts, leased.refusals), (attempts, refusals));
        release(&db, "x:2").await;
    }
    db.queue(&user, "bob@a.example", NEVER, t(4)).await;
    let leased = db.lease_one("x:3", t(5)).await;
    assert_eq!((leased.attempts, leased.refusals), (0, 0));
}

#[tokio::test]
async fn a_lease_stands_until_the_row_goes_or_another_takes_it() {
    let db = Db::new().await;
    let user = db.user("ann@example.org").await;
    let id = db.queue(&user, "bob@a.example", NEVER, t(0)).await;
    let is_leased = |word: &'static str| {
        let id = id.clone();
        db.write(move |tx| async move { outbox::is_leased(tx, &id, word).await }.boxed())
    };
    assert!(!is_leased("x:1").await);
    db.lease_one("x:1", t(1)).await;
    assert!(is_leased("x:1").await && !is_leased("x:2").await);
    db.queue(&user, "bob@a.example", NEVER, t(2)).await;
    assert!(!is_leased("x:1").await, "signed anew");
    db.lease_one("x:2", t(3)).await;
    let (owner, peer) = (user.clone(), handle("bob@a.example"));
    db.write(move |tx| async move { outbox::discard(tx, &owner, &peer).await }.boxed()).await;
    assert!(!is_leased("x:2").await, "discarded");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_set_aside_and_the_others_are_leased() {
    // Only there can the test write past the functions that keep such a row out.
    let db = Db::on_sqlite().await;
    let user = db.user("ann@example.org").await;
    let broken = db.queue(&user, "bob@a.example", NEVER, t(0)).await;
    db.queue(&user, "carl@a.example", NEVER, t(1)).await;
    let mut other = SqliteConnection::connect(&db.url()).await.unwrap();
    sqlx::query("update outbox set envelope = '{}' where id = $1")
        .bind(broken.to_string())
        .execute(&mut other)
        .await
        .unwrap();
    other.close().await.unwrap();
    let leased = db.lease("x:1", t(1), 100).await;
    assert_eq!(leased.into_iter().map(|row| row.peer_handle).collect::<Vec<_>>(), [handle("carl@a.example")]);
    let row = db.pending_for(&user, "bob@a.example").await.unwrap();
    assert_eq!(row.state, State::Rejected);
    assert!(row.last_error.unwrap().contains("no longer read"));
    assert_eq!(next_due(&db).await, Some(t(60_001)), "nothing else is due than the end of the other's lease");
}
