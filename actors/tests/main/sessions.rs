//! Ending sessions: which one, and what is written of it.

use futures_util::FutureExt;
use vellum_actors::sign_in::{self, Device};
use vellum_actors::user::{EndAllSessions, EndOtherSessions, EndSession};
use vellum_actors::{Asker, Error, Origin};
use vellum_store::sessions::{self, Session};
use vellum_store::{SessionId, StoreError, audit};

use crate::sealed::trail;
use crate::support::{Person, T0, World};

/// Signs somebody in.
async fn session(person: &Person) -> SessionId {
    let session = Session {
        id: SessionId::generate(),
        user_id: person.id.clone(),
        created_at: T0,
        last_used_at: T0,
        expires_at: T0.plus_millis(3_600_000),
        user_agent: None,
        ip: None,
        device_id: None,
    };
    let id = session.id.clone();
    let done: Result<(), StoreError> = person
        .node
        .store
        .write(move |tx| async move { sessions::insert(tx, &session, &rand::random()).await }.boxed())
        .await;
    done.unwrap();
    id
}

async fn sessions_of(person: &Person) -> Vec<SessionId> {
    let mut conn = person.node.store.read().await.unwrap();
    let sessions = sessions::of_user(&mut conn, &person.id, T0).await.unwrap();
    sessions.into_iter().map(|session| session.id).collect()
}

#[actix::test]
async fn a_session_is_ended_by_whom_it_belongs_to_and_once() {
    let world = World::new().await;
    let (alice, amy) = (world.a.person("alice").await, world.a.person("amy").await);
    let (one, other) = (session(&alice).await, session(&alice).await);
    let end = async |person: &Person| person.node.ask(&person.id, EndSession { id: one.clone() }).await;
    assert!(matches!(end(&amy).await, Err(Error::SessionNotFound)));
    assert_eq!(sessions_of(&alice).await.len(), 2);
    world.clock.advance(1);
    end(&alice).await.unwrap();
    assert_eq!(sessions_of(&alice).await, [other]);
    assert!(matches!(end(&alice).await, Err(Error::SessionNotFound)));
    assert_eq!(trail(&alice).await[2..], ["session_ended"]);
    assert_eq!(trail(&amy).await.len(), 2, "what was refused is not written");
}

#[actix::test]
async fn all_other_sessions_end_but_the_one_that_asks_and_all_end_with_it() {
    let world = World::new().await;
    let (alice, amy) = (world.a.person("alice").await, world.a.person("amy").await);
    let (asks, hers) = (session(&alice).await, session(&amy).await);
    for _ in 0..3 {
        session(&alice).await;
    }
    let origin = Origin { session: Some(asks.clone()), ip: Some("192.0.2.7".into()), ..Origin::default() };
    let asker = Asker { user: alice.id.clone(), origin };
    world.clock.advance(1);
    alice.node.ask(&asker, EndOtherSessions).await.unwrap();
    assert_eq!(sessions_of(&alice).await, std::slice::from_ref(&asks));
    let mut conn = alice.node.store.read().await.unwrap();
    let written = audit::page(&mut conn, &alice.id, 1, 0).await.unwrap().remove(0);
    drop(conn);
    assert_eq!((written.event.as_str(), written.at), ("other_sessions_ended", world.clock.now()));
    assert_eq!((written.session_id, written.ip.as_deref()), (Some(asks), Some("192.0.2.7")));
    alice.node.ask(&asker, EndAllSessions).await.unwrap();
    assert!(sessions_of(&alice).await.is_empty());
    assert_eq!(sessions_of(&amy).await, [hers]);
}

#[actix::test]
async fn a_session_is_prolonged_in_its_second_half_and_only_then() {
    const DAY: i64 = 24 * 3_600_000;
    let world = World::new().await;
    let alice = world.a.person("alice").await;
    let (node, clock) = (&alice.node, &world.clock);
    let device = Device { user_agent: Some("agent ".repeat(100)), ..Device::default() };
    let opened = sign_in::open_session_for(&node.store, clock, "alice@mail.example", device).await.unwrap();
    assert_eq!(opened.session.user_agent.as_ref().unwrap().chars().count(), 300, "characters that are kept");
    let begun = opened.session.created_at;
    let use_it = async || {
        let known = sign_in::authenticate(node, &opened.token).await.unwrap();
        let known = known.unwrap_or_else(|| panic!("the session is over at {:?}", clock.now()));
        let prolonged = sign_in::prolong(node, &known).await.unwrap();
        let mut conn = node.store.read().await.unwrap();
        let stored = sessions::of_user(&mut conn, &alice.id, clock.now()).await.unwrap().remove(0);
        (prolonged.map(|known| known.session.clone()), stored)
    };
    clock.advance(15 * DAY);
    let (prolonged, stored) = use_it().await;
    assert_eq!(prolonged, None, "half of it is left");
    assert_eq!((stored.last_used_at, stored.expires_at), (begun, begun.plus_millis(30 * DAY)));
    clock.advance(1);
    let (prolonged, stored) = use_it().await;
    let now = clock.now();
    assert_eq!((stored.last_used_at, stored.expires_at), (now, now.plus_millis(30 * DAY)));
    assert_eq!(prolonged, Some(stored), "what is told is what is stored");
    // Beyond its first end.
    clock.advance(30 * DAY - 1);
    assert_eq!(use_it().await.1.expires_at, clock.now().plus_millis(30 * DAY));
    clock.advance(30 * DAY);
    let over = sign_in::authenticate(node, &opened.token).await.unwrap();
    assert!(over.is_none(), "nobody used it for 30 days: {over:?}");
}
