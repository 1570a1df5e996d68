//! The delivery's rounds: a look takes some of the peers that something waits for, and a round all of them.

use vellum_actors::user::Flush;
use vellum_protocol::Handle;

use crate::revocations::{after_a_reset, make_pending, sent};
use crate::support::until;

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
    until("every peer has been tried", || async {
        let pending = alice.pending().await;
        pending.len() == PEERS && pending.iter().all(|row| row.attempts > 0)
    })
    .await;
    assert_eq!(sent(&world), 1, "and who is there has it, once");
}
