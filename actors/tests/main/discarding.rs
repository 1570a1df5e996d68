//! Revocations that are taken back on their way, and nodes that stop or start with some of them in hand.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use vellum_actors::Error;
use vellum_actors::operators::{self, Paused};
use vellum_actors::user::{DiscardRevocation, Flush, Scope, UserCommand};
use vellum_protocol::Handle;
use vellum_store::StoreError;
use vellum_store::outbox::{self, State, Wanted, overview};

use crate::revocations::{after_a_reset, item, make_pending, queue, sent};
use crate::support::{Hang, Mood, Person, World, in_time, wait_for};

/// Keeps a user's actor from what comes after it.
struct Dawdle;

impl UserCommand for Dawdle {
    type Output = ();
    const NAME: &'static str = "dawdle";

    async fn run(self, _: Scope) -> Result<(), Error> {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(())
    }
}

#[actix::test]
async fn two_people_of_one_node_who_discard_what_they_have_for_each_other_do_not_wait_for_each_other() {
    let (world, alice, _) = World::with_two_people().await;
    let carol = world.a.person("carol").await;
    let node = &alice.node;
    operators::pause(&node.store, Paused::Everything, true).await.unwrap();
    for (one, other) in [(&alice, &carol), (&carol, &alice)] {
        make_pending(one, other.handle.as_str()).await;
        let signed = one.signer.revoke(&other.handle, world.clock.now(), &mut rand::rng());
        let flush = Flush { items: vec![item(&other.handle, signed)] };
        node.ask(&one.id, flush).await.unwrap();
    }
    // Both discards stand in their actor's mailbox before what each has for the other gets there.
    let discards = [(&alice, &carol), (&carol, &alice)].map(|(one, other)| async {
        let discard = node.ask(&one.id, DiscardRevocation { peer: other.handle.clone() });
        tokio::join!(node.ask(&one.id, Dawdle), discard).1
    });
    let resume = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        operators::pause(&node.store, Paused::Everything, false).await.unwrap();
        node.wake_delivery();
        wait_for(
            "both are under way",
            || async {
                let mut conn = node.store.read().await.unwrap();
                overview::depths(&mut conn).await.unwrap()
            },
            |depths| depths.iter().any(|depth| depth.state == State::Delivering && depth.rows == 2),
        )
        .await;
    };
    let both =
        tokio::time::timeout(Duration::from_secs(5), async { tokio::join!(join_all(discards), resume).0 });
    let both = both.await.expect("neither waits for the other");
    // On a slow database one's message may have been carried out before that one's discard had its turn.
    assert!(both.iter().all(|done| matches!(done, Ok(_) | Err(Error::NotPending))), "{both:?}");
    assert!(both.iter().any(Result::is_ok), "{both:?}");
    world.settled().await;
    assert!(alice.pending().await.is_empty() && carol.pending().await.is_empty());
}

async fn discard(alice: &Person, bob: &Person) {
    in_time(alice.node.ask(&alice.id, DiscardRevocation { peer: bob.handle.clone() })).await.unwrap();
}

/// Shows that the delivery goes on, and that what it had in hand before is over: another row to the same
/// peer is sent and confirmed.
async fn another_is_delivered(alice: &Person) {
    make_pending(alice, "nobody@b.example").await;
    let nobody = Handle::parse("nobody@b.example").unwrap();
    let flushed = alice.flush(vec![alice.revocation(&nobody)]).await;
    assert!(flushed[0].delivered, "{flushed:?}");
}

#[actix::test]
async fn what_is_discarded_while_its_attempt_hangs_is_gone_at_once_and_not_sent_again() {
    let (world, alice, bob) = after_a_reset().await;
    let hang = Hang::new();
    world.wire.set(&world.b.node, Mood::Hangs(hang.clone()));
    queue(&alice, &bob).await;
    wait_for("the attempt hangs", || async { sent(&world) }, |seen| *seen == 1).await;
    discard(&alice, &bob).await;
    assert!(alice.pending().await.is_empty());
    hang.let_go();
    world.wire.set(&world.b.node, Mood::Up);
    world.advance(120_000);
    another_is_delivered(&alice).await;
    assert_eq!(sent(&world), 2, "the one that hung, and the other one");
    assert!(alice.pending().await.is_empty());
}

#[actix::test]
async fn what_is_discarded_before_its_envelope_has_left_never_leaves() {
    let (world, alice, bob) = after_a_reset().await;
    let (posted, asked) = (sent(&world), world.wire.asked(&world.b.node));
    // The manifest has to be fetched anew, and that is where the attempt hangs.
    world.clock.advance(300_000);
    let hang = Hang::new();
    world.wire.set(&world.b.node, Mood::Hangs(hang.clone()));
    queue(&alice, &bob).await;
    wait_for("the attempt hangs", || async { world.wire.asked(&world.b.node) }, |seen| *seen > asked).await;
    discard(&alice, &bob).await;
    world.wire.set(&world.b.node, Mood::Up);
    hang.let_go();
    world.advance(120_000);
    another_is_delivered(&alice).await;
    assert_eq!(sent(&world) - posted, 1, "only the other one was sent");
    assert!(bob.has_friend(&alice).await, "bob was never told");
}

#[actix::test]
async fn a_flush_that_is_discarded_under_way_is_answered_so() {
    let (world, alice, bob) = after_a_reset().await;
    world.wire.set(&world.b.node, Mood::Hangs(Hang::new()));
    let flush = alice.flush(vec![alice.revocation(&bob.handle)]);
    let discarding = async {
        wait_for("the attempt hangs", || async { sent(&world) }, |seen| *seen == 1).await;
        discard(&alice, &bob).await;
    };
    let (flushed, ()) = in_time(Box::pin(async { tokio::join!(flush, discarding) })).await;
    assert!(!flushed[0].delivered && flushed[0].state.is_none());
    assert!(flushed[0].error.as_deref().unwrap().contains("discarded"), "{flushed:?}");
}

#[actix::test]
async fn a_reset_during_a_hanging_attempt_leaves_the_revocation_pending() {
    let (world, mut alice, bob) = after_a_reset().await;
    let hang = Hang::new();
    world.wire.set(&world.b.node, Mood::Hangs(hang.clone()));
    queue(&alice, &bob).await;
    wait_for("the attempt hangs", || async { sent(&world) }, |seen| *seen == 1).await;
    assert_eq!(alice.reset().await, 1, "it is still to be told");
    alice.renew_keys().await;
    world.wire.set(&world.b.node, Mood::Up);
    hang.let_go();
    let flushed = alice.flush(vec![alice.revocation(&bob.handle)]).await;
    assert!(flushed[0].delivered, "{flushed:?}");
    assert!(!bob.has_friend(&alice).await && alice.pending().await.is_empty());
}

#[actix::test]
async fn discarding_what_is_not_pending_is_refused() {
    let (_world, alice, bob) = World::with_two_people().await;
    let refused = alice.node.ask(&alice.id, DiscardRevocation { peer: bob.handle.clone() }).await;
    assert!(matches!(refused, Err(Error::NotPending)), "{refused:?}");
}

#[actix::test]
async fn stopping_hands_back_what_is_under_way_and_starts_nothing() {
    let (world, alice, bob) = after_a_reset().await;
    world.wire.set(&world.b.node, Mood::Hangs(Hang::new()));
    queue(&alice, &bob).await;
    wait_for("the attempt hangs", || async { sent(&world) }, |seen| *seen == 1).await;
    in_time(world.a.node.stop_delivery()).await;
    assert_eq!(alice.pending().await[0].state, State::Queued, "as it was");
    world.wire.set(&world.b.node, Mood::Up);
    world.advance(3_600_000);
    in_time(world.a.node.stop_delivery()).await;
    assert_eq!(sent(&world), 1, "nothing starts any more");
}

#[actix::test]
async fn what_an_earlier_run_had_in_hand_is_taken_up_at_the_start() {
    let (world, alice, bob) = after_a_reset().await;
    in_time(world.a.node.stop_delivery()).await;
    queue(&alice, &bob).await;
    let now = world.clock.now();
    let leased: Result<_, StoreError> = alice
        .node
        .store
        .write(move |tx| {
            async move {
                let (domain, token) = ("b.example", "a.example.an-earlier-run:1");
                let until = now.plus_millis(60_000);
                let wanted = Wanted { domain, rows: 9, last_user: None, token, now, until };
                outbox::lease_due(tx, &wanted).await
            }
            .boxed()
        })
        .await;
    assert_eq!(leased.unwrap().len(), 1);
    // Starting takes the leases of its own name back; the stopped delivery itself sends nothing.
    world.a.start_delivery().await;
    assert_eq!(alice.pending().await[0].state, State::Queued);
}
