//! The delivery's rounds: a look takes some of the peers that something waits for, and a round all of them. What one attempt
//! says of a peer holds for those beside it.

use vellum_actors::user::Flush;
use vellum_protocol::Handle;
use vellum_store::peers;

use crate::revocations::{after_a_reset, make_pending, queue, sent};
use crate::support::{Hang, Mood, Person, wait_for};

/// More than two looks take.
const PEERS: usize = 150;

#[actix::test]
async fn a_round_goes_through_more_peers_than_one_look_takes() {
    let (world, alice, bob) = after_a_reset().await;
    // Nobody answers there. Half of them come before bob's node in the order of domains, half of them behind it.
    let away = (0..PEERS).map(|n| format!("carl@{}{n:03}.example", if n % 2 == 0 { "a" } else { "z" }));
    let mut items = Vec::new();
    for peer in away {
        make_pending(&alice, &peer).await;
        items.push(alice.revocation(&Handle::parse(&peer).unwrap()));
    }
    items.push(alice.revocation(&bob.handle));
    let queued = alice.node.ask(&alice.id, Flush { items }).await.unwrap();
    assert!(queued.iter().all(Result::is_ok));
    alice.node.wake_delivery();
    wait_for(
        "every peer has been tried",
        || alice.pending(),
        |pending| pending.len() == PEERS && pending.iter().all(|row| row.attempts > 0),
    )
    .await;
    assert_eq!(sent(&world), 1, "and who is there has it, once");
}

async fn failures(who: &Person, peer: &Person) -> u32 {
    let mut conn = who.node.store.read().await.unwrap();
    peers::find(&mut conn, &peer.handle.domain().folded()).await.unwrap().unwrap().failures
}

#[actix::test]
async fn a_delivery_that_began_before_a_failure_and_ends_after_it_clears_the_peers_record() {
    let (world, alice, bob) = after_a_reset().await;
    let carl = world.b.person("carl").await;
    make_pending(&alice, carl.handle.as_str()).await;
    let hang = Hang::new();
    world.wire.set(&world.b.node, Mood::Hangs(hang.clone()));
    queue(&alice, &bob).await;
    wait_for("the first is on its way", || async { sent(&world) }, |seen| *seen == 1).await;
    assert_eq!(failures(&alice, &bob).await, 0);
    world.wire.set(&world.b.node, Mood::Down);
    assert!(!alice.flush(vec![alice.revocation(&carl.handle)]).await[0].delivered);
    assert_eq!(failures(&alice, &bob).await, 1);
    world.wire.set(&world.b.node, Mood::Up);
    hang.let_go();
    wait_for("the first has arrived", || alice.pending(), |seen| seen.len() == 1).await;
    assert_eq!(failures(&alice, &bob).await, 0);
}
