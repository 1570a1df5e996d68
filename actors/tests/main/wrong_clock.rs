//! A wall clock that was ahead for a while: what is valid by the right time is still there when it
//! is right again.

use futures_util::FutureExt;
use vellum_actors::housekeeping;
use vellum_actors::user::{Flush, Receive, Received};
use vellum_store::outbox::PendingRevocation;
use vellum_store::sessions::{self, Session};
use vellum_store::transport_nonces::{self, TransportNonce};
use vellum_store::{SessionId, StoreError, applied_envelopes};

use crate::friendship::invite_from;
use crate::revocations::{REVOKE, after_a_reset};
use crate::support::{Hang, Mood, Person, T0, World, until, wait_for};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// What the token of the session hashes to.
const TOKEN: [u8; 32] = [5; 32];

/// Opens a session for 30 days and remembers a request's nonce for 600 s.
async fn remember(person: &Person, world: &World) {
    let now = world.clock.now();
    let session = Session {
        id: SessionId::generate(),
        user_id: person.id.clone(),
        created_at: now,
        last_used_at: now,
        expires_at: now.plus_millis(30 * DAY),
        user_agent: None,
        ip: None,
        device_id: None,
    };
    let done: Result<(), StoreError> = person
        .node
        .store
        .write(move |tx| {
            async move {
                sessions::insert(tx, &session, &TOKEN).await?;
                assert!(transport_nonces::remember(tx, &nonce(now.plus_millis(600_000)), now).await?);
                Ok(())
            }
            .boxed()
        })
        .await;
    done.unwrap();
}

fn nonce(until: vellum_protocol::UnixMillis) -> TransportNonce {
    TransportNonce { sender: "peer.example".into(), nonce: "nonce".into(), until }
}

/// Whether the session, the nonce, and the envelope are known, now.
async fn known(person: &Person, from: &Person, world: &World) -> (bool, bool, bool) {
    let now = world.clock.now();
    let session = person.node.store.session(&TOKEN, now).await.unwrap().is_some();
    let replayed: Result<bool, StoreError> = person
        .node
        .store
        .write(move |tx| {
            async move { Ok(!transport_nonces::remember(tx, &nonce(now.plus_millis(1)), now).await?) }.boxed()
        })
        .await;
    let mut conn = person.node.store.read().await.unwrap();
    let envelope = applied_envelopes::find(&mut conn, from.handle.as_str(), "revocation").await.unwrap();
    (session, replayed.unwrap(), envelope.is_some())
}

#[actix::test]
async fn a_clock_that_was_ahead_for_a_minute_has_forgotten_nothing_that_is_valid() {
    let (world, alice, bob) = World::with_two_people().await;
    // The clocks have agreed for long, so that what is over is purged.
    world.clock.advance(3 * HOUR);
    housekeeping::sweep(&bob.node).await.unwrap();
    remember(&bob, &world).await;
    let signed_at = world.clock.now();
    let revoke =
        || Receive { message_type: REVOKE, signed_at, ..invite_from(&alice, &bob.handle, "revocation", "s") };
    let first = bob.node.ask(&bob.id, revoke()).await.unwrap();

    world.clock.set_forward(40 * DAY);
    housekeeping::sweep(&bob.node).await.unwrap();
    let session = bob.node.store.session(&TOKEN, world.clock.now()).await.unwrap();
    assert!(session.is_none(), "by the wrong clock it has ended");
    world.clock.advance(60_000);
    housekeeping::sweep(&bob.node).await.unwrap();
    world.clock.set_forward(-40 * DAY);
    housekeeping::sweep(&bob.node).await.unwrap();
    assert_eq!(known(&bob, &alice, &world).await, (true, true, true));
    let again: Received = bob.node.ask(&bob.id, revoke()).await.unwrap();
    assert_eq!(again, first, "it is answered as it was the first time");
}

#[actix::test]
async fn what_is_over_is_purged_when_the_clocks_have_agreed_for_an_hour() {
    let world = World::new().await;
    let bob = world.b.person("bob").await;
    remember(&bob, &world).await;
    let count = || async {
        housekeeping::sweep(&bob.node).await.unwrap();
        let mut conn = bob.node.store.read().await.unwrap();
        sessions::of_user(&mut conn, &bob.id, T0).await.unwrap().len()
    };
    // The clock is put forward when the session has ended, so the clocks have to agree anew.
    world.clock.advance(31 * DAY);
    world.clock.set_forward(10_000);
    assert_eq!(count().await, 1, "not by a clock that was just set");
    world.clock.advance(HOUR - 1);
    assert_eq!(count().await, 1, "not before an hour is over");
    world.clock.advance(1);
    assert_eq!(count().await, 0);
}

#[actix::test]
async fn what_is_sent_late_waits_for_a_new_lease() {
    let (world, alice, bob) = after_a_reset().await;
    let sent = || world.wire.count(&bob.node, REVOKE);
    let hang = Hang::new();
    // Longer than a manifest is kept: the attempt waits for it.
    world.clock.advance(2 * HOUR);
    let asked = world.wire.asked(&bob.node);
    world.wire.set(&bob.node, Mood::Hangs(hang.clone()));
    let items = vec![alice.revocation(&bob.handle)];
    let (node, id) = (alice.node.clone(), alice.id.clone());
    let flushed = actix::spawn(async move { node.ask(&id, Flush { items }).await.is_ok() });
    wait_for("the manifest is asked for", || async { world.wire.asked(&bob.node) }, |seen| *seen > asked)
        .await;
    assert!(flushed.await.unwrap());
    // The machine is suspended for two minutes.
    world.clock.advance(120_000);
    hang.let_go();
    let over = |row: &PendingRevocation| row.last_error.is_some();
    until("the attempt is over", || async { sent() > 0 || alice.pending().await.iter().any(over) }).await;
    assert_eq!(sent(), 0, "nothing is sent on a lease that is over");
    world.wire.set(&bob.node, Mood::Up);
    world.advance(HOUR);
    wait_for("the next attempt delivers it", || alice.pending(), |seen| seen.is_empty()).await;
    assert_eq!(sent(), 1);
}
