//! Friendships, invitations, and whom a reset has to tell.

use futures_util::FutureExt;
use vellum_protocol::Handle;
use vellum_store::applied_envelopes::{self, AppliedEnvelope};
use vellum_store::friendships::{self, Friendship};
use vellum_store::invitations::{self, Direction, Invitation, Status};
use vellum_store::{InvitationId, StoreError, UserId, outbox, shares};

use crate::support::{Db, T0, handle, peer, t};

const OWN: &str = "alice@home.example";
const BOB: &str = "bob@peer.example";

async fn establish(db: &Db, user: &UserId, friend: &'static str, now: i64, revocable_from: i64) {
    let user = user.clone();
    db.write(move |tx| {
        async move { friendships::establish(tx, &user, &peer(friend, 2), t(now), t(revocable_from)).await }
            .boxed()
    })
    .await;
}

async fn friends(db: &Db, user: &UserId) -> Vec<Friendship> {
    friendships::of_user(&mut db.store.read().await.unwrap(), user).await.unwrap()
}

fn invitation(user: &UserId, direction: Direction, other: &str) -> Invitation {
    let (from, to) = match direction {
        Direction::Incoming => (handle(other), handle(OWN)),
        Direction::Outgoing => (handle(OWN), handle(other)),
    };
    Invitation {
        id: InvitationId::generate(),
        local_user_id: user.clone(),
        direction,
        origin_server: from.domain().to_string(),
        from,
        to,
        status: Status::Pending,
        signature: Some("a signature".into()),
        peer: Some(peer(other, 3)),
        created_at: T0,
        revocable_from: T0,
    }
}

async fn insert(db: &Db, invitation: &Invitation) -> Result<(), StoreError> {
    let invitation = invitation.clone();
    db.store.write(move |tx| async move { invitations::insert(tx, &invitation).await }.boxed()).await
}

async fn whom_to_tell(db: &Db, user: &UserId) -> Vec<Handle> {
    outbox::peers_of_user(&mut db.store.read().await.unwrap(), user).await.unwrap()
}

#[tokio::test]
async fn everybody_with_a_relationship_is_told_of_a_reset_once_and_nobody_else() {
    let db = Db::new().await;
    let (alice, amy) = (db.user("alice@example.org").await, db.user("amy@example.org").await);
    assert!(whom_to_tell(&db, &alice).await.is_empty());
    establish(&db, &alice, BOB, 0, 0).await;
    insert(&db, &invitation(&alice, Direction::Incoming, "inviter@peer.example")).await.unwrap();
    insert(&db, &invitation(&alice, Direction::Outgoing, "invited@peer.example")).await.unwrap();
    insert(&db, &invitation(&alice, Direction::Outgoing, BOB)).await.unwrap();
    establish(&db, &amy, "stranger@peer.example", 0, 0).await;
    let expected = [BOB, "invited@peer.example", "inviter@peer.example"].map(handle);
    assert_eq!(whom_to_tell(&db, &alice).await, expected);
}

#[tokio::test]
async fn somebody_elsewhere_with_the_users_own_alias_is_told_too() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    let namesake = "alice@other.example";
    for direction in [Direction::Incoming, Direction::Outgoing] {
        let only = invitation(&alice, direction, namesake);
        insert(&db, &only).await.unwrap();
        assert_eq!(whom_to_tell(&db, &alice).await, [handle(namesake)], "{direction:?}");
        db.write(move |tx| async move { invitations::delete(tx, &only.id).await }.boxed()).await;
    }
}

#[tokio::test]
async fn a_friendship_ends_by_the_friends_clock_and_only_if_it_is_not_newer() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    establish(&db, &alice, BOB, 500, 100).await;
    let end = |cutoff: i64| {
        let user = alice.clone();
        db.write(move |tx| async move { friendships::end(tx, &user, &handle(BOB), t(cutoff)).await }.boxed())
    };
    assert_eq!(end(99).await, 0);
    assert_eq!(friends(&db, &alice).await.len(), 1);
    assert_eq!(end(100).await, 1);
    assert!(friends(&db, &alice).await.is_empty());
}

#[tokio::test]
async fn a_friendship_made_anew_under_another_key_to_seal_for_is_marked_too() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    establish(&db, &alice, BOB, 10, 10).await;
    establish(&db, &alice, BOB, 20, 20).await;
    assert_eq!(friends(&db, &alice).await[0].keys_changed_at, None, "the keys are the same");
    let (user, mut other) = (alice.clone(), peer(BOB, 2));
    other.encryption_key = peer(BOB, 3).encryption_key;
    db.write(move |tx| async move { friendships::establish(tx, &user, &other, t(30), t(30)).await }.boxed())
        .await;
    assert_eq!(friends(&db, &alice).await[0].keys_changed_at, Some(t(30)), "nobody has compared it");
}

#[tokio::test]
async fn a_friendship_made_anew_has_its_own_beginning() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    establish(&db, &alice, BOB, 10, 10).await;
    let mark = alice.clone();
    db.write(move |tx| {
        async move { friendships::update_peer(tx, &mark, &peer(BOB, 9), Some(t(20))).await }.boxed()
    })
    .await;
    let changed = friends(&db, &alice).await.remove(0);
    assert_eq!((changed.keys_changed_at, changed.established_at), (Some(t(20)), t(10)));
    assert_eq!(changed.friend, peer(BOB, 9));
    establish(&db, &alice, BOB, 900, 900).await;
    let anew = friends(&db, &alice).await;
    assert_eq!(anew.len(), 1, "one friendship a handle");
    assert_eq!(anew[0].established_at, t(900));
    assert_eq!(
        anew[0].keys_changed_at,
        Some(t(900)),
        "the key is another one again, and nobody has compared it"
    );
    establish(&db, &alice, BOB, 901, 901).await;
    assert_eq!(friends(&db, &alice).await[0].keys_changed_at, Some(t(900)), "still");
    let user = alice.clone();
    let ended = db
        .write(move |tx| async move { friendships::end(tx, &user, &handle(BOB), t(899)).await }.boxed())
        .await;
    assert_eq!(ended, 0, "an older revocation does not reach it");
}

#[tokio::test]
async fn a_key_that_signs_is_noted_when_it_is_another_one_and_confirmed_while_it_is_the_same() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    establish(&db, &alice, BOB, 10, 10).await;
    let note = async |friend: &'static str, seed: u8, at: i64| {
        let user = alice.clone();
        db.write(move |tx| {
            async move { friendships::note_signing_key(tx, &user, &peer(friend, seed), t(at)).await }.boxed()
        })
        .await
    };
    let confirm = async |seed: u8| {
        let user = alice.clone();
        db.write(move |tx| {
            let key = peer(BOB, seed).signing_key;
            async move { friendships::confirm_signing_key(tx, &user, &handle(BOB), &key).await }.boxed()
        })
        .await
    };
    assert!(!note(BOB, 2, 20).await, "the same");
    assert!(!note("bob@elsewhere.example", 3, 20).await, "no friend");
    assert_eq!(friends(&db, &alice).await[0].keys_changed_at, None);
    assert!(note(BOB, 3, 30).await);
    assert!(!note(BOB, 3, 40).await);
    let changed = friends(&db, &alice).await.remove(0);
    assert_eq!((changed.friend, changed.keys_changed_at), (peer(BOB, 3), Some(t(30))));
    assert_eq!((changed.established_at, changed.revocable_from), (t(10), t(10)));
    assert!(!confirm(2).await);
    assert_eq!(friends(&db, &alice).await[0].keys_changed_at, Some(t(30)));
    assert!(confirm(3).await);
    assert_eq!(friends(&db, &alice).await[0].keys_changed_at, None);
}

#[tokio::test]
async fn the_oldest_of_the_server_that_has_most_gives_way_however_the_server_is_spelled() {
    let db = Db::new().await;
    let (alice, amy) = (db.user("alice@example.org").await, db.user("amy@example.org").await);
    let from =
        |who: &str, at: i64| Invitation { created_at: t(at), ..invitation(&alice, Direction::Incoming, who) };
    for (who, at) in [
        ("first@quiet.example", 1),
        ("loud1@loud.example", 2),
        ("loud2@LOUD.example", 3),
        ("loud3@Loud.Example", 4),
        ("second@quiet.example", 5),
        ("one@other.example", 6),
    ] {
        insert(&db, &from(who, at)).await.unwrap();
    }
    let accepted = Invitation { status: Status::Accepted, ..from("waits@loud.example", 0) };
    insert(&db, &accepted).await.unwrap();
    insert(&db, &invitation(&alice, Direction::Outgoing, "out@loud.example")).await.unwrap();
    insert(&db, &invitation(&amy, Direction::Incoming, "amys@loud.example")).await.unwrap();
    let mut conn = db.store.read().await.unwrap();
    let counted = invitations::count_incoming(&mut conn, &alice, "loud.example").await.unwrap();
    assert_eq!((counted.all, counted.of_server), (6, 3));
    drop(conn);
    let left = async |count: u64| {
        let user = alice.clone();
        db.write(move |tx| async move { invitations::displace_incoming(tx, &user, count).await }.boxed())
            .await;
        let mut conn = db.store.read().await.unwrap();
        let open = invitations::pending_of_user(&mut conn, &alice, Some(Direction::Incoming), t(0));
        let open = open.await.unwrap();
        open.into_iter().map(|open| open.from.alias().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(left(1).await, ["first", "loud2", "loud3", "second", "one"]);
    assert_eq!(left(3).await, ["second", "one"], "first, loud2, and of three equals the oldest");
    let mut conn = db.store.read().await.unwrap();
    assert!(invitations::by_id(&mut conn, &alice, &accepted.id).await.unwrap().is_some(), "not open");
    let others = invitations::count_incoming(&mut conn, &amy, "loud.example").await.unwrap();
    assert_eq!(others.all, 1, "somebody else's");
}

#[tokio::test]
async fn open_invitations_expire_and_accepted_ones_do_not() {
    let db = Db::new().await;
    let (alice, amy) = (db.user("alice@example.org").await, db.user("amy@example.org").await);
    for user in [&alice, &amy] {
        for (who, at, status) in [
            ("old@peer.example", 9, Status::Pending),
            ("new@peer.example", 11, Status::Pending),
            ("waits@peer.example", 1, Status::Accepted),
        ] {
            let made = invitation(user, Direction::Incoming, who);
            insert(&db, &Invitation { created_at: t(at), status, ..made }).await.unwrap();
        }
    }
    let user = alice.clone();
    let expire =
        db.write(move |tx| async move { invitations::expire_of_user(tx, &user, t(10)).await }.boxed());
    assert_eq!(expire.await, 1);
    assert_eq!(db.write(|tx| async move { invitations::purge(tx, t(10)).await }.boxed()).await, 1, "amy's");
    for user in [&alice, &amy] {
        assert_eq!(whom_to_tell(&db, user).await, ["new@peer.example", "waits@peer.example"].map(handle));
    }
}

#[tokio::test]
async fn the_same_invitation_stands_once() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    let first = invitation(&alice, Direction::Incoming, BOB);
    insert(&db, &first).await.unwrap();
    let second = insert(&db, &invitation(&alice, Direction::Incoming, BOB)).await;
    assert!(matches!(second, Err(StoreError::Duplicate(_))));
    insert(&db, &invitation(&alice, Direction::Outgoing, BOB)).await.expect("the other way is another one");
    let mut conn = db.store.read().await.unwrap();
    let found = invitations::with_peer(&mut conn, &alice, Direction::Incoming, &handle(BOB)).await.unwrap();
    assert_eq!(found, Some(first), "it comes back as it was stored");
}

#[tokio::test]
async fn an_accepted_invitation_is_out_of_sight_and_can_be_opened_again() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    let stored = invitation(&alice, Direction::Incoming, BOB);
    insert(&db, &stored).await.unwrap();
    for (status, changed, visible) in
        [(Status::Accepted, true, 0), (Status::Accepted, false, 0), (Status::Pending, true, 1)]
    {
        let id = stored.id.clone();
        let done =
            db.write(move |tx| async move { invitations::set_status(tx, &id, status).await }.boxed()).await;
        assert_eq!(done, changed);
        let mut conn = db.store.read().await.unwrap();
        let listed =
            invitations::pending_of_user(&mut conn, &alice, Some(Direction::Incoming), t(-1)).await.unwrap();
        assert_eq!(listed.len(), visible);
        assert!(invitations::by_id(&mut conn, &alice, &stored.id).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_revocation_ends_invitations_of_both_directions_with_that_peer_only() {
    let db = Db::new().await;
    let alice = db.user("alice@example.org").await;
    for direction in [Direction::Incoming, Direction::Outgoing] {
        insert(&db, &invitation(&alice, direction, BOB)).await.unwrap();
        insert(&db, &invitation(&alice, direction, "bob@elsewhere.example")).await.unwrap();
    }
    let newer =
        Invitation { revocable_from: t(1), ..invitation(&alice, Direction::Outgoing, "new@peer.example") };
    insert(&db, &newer).await.unwrap();
    for (who, expected) in [(BOB, 2), (BOB, 0), ("new@peer.example", 0)] {
        let user = alice.clone();
        let ended = db
            .write(move |tx| async move { invitations::end(tx, &user, &handle(who), T0).await }.boxed())
            .await;
        assert_eq!(ended, expected, "{who}");
    }
    let user = alice.clone();
    assert_eq!(
        db.write(move |tx| async move { shares::end(tx, &user, &handle(BOB), T0).await }.boxed()).await,
        0
    );
    assert_eq!(whom_to_tell(&db, &alice).await.len(), 2);
}

#[tokio::test]
async fn an_envelope_is_carried_out_once_a_sender_and_nonce() {
    let db = Db::new().await;
    let envelope = AppliedEnvelope {
        sender_handle: BOB.into(),
        nonce: "n".into(),
        recipient_handle: OWN.into(),
        message_type: "FRIEND_INVITE".into(),
        signature: "s".into(),
        applied: true,
        friends: false,
        signed_at: T0,
        applied_at: T0,
    };
    let insert = |envelope: AppliedEnvelope| {
        db.store
            .write(move |tx| async move { applied_envelopes::insert(tx, &envelope, t(1000)).await }.boxed())
    };
    insert(envelope.clone()).await.unwrap();
    let other = AppliedEnvelope { signature: "another".into(), ..envelope.clone() };
    assert!(matches!(insert(other).await, Err(StoreError::Duplicate(_))));
    let by_carl = AppliedEnvelope { sender_handle: "carl@peer.example".into(), ..envelope.clone() };
    insert(by_carl).await.expect("a nonce is one sender's own");
    let found = applied_envelopes::find(&mut db.store.read().await.unwrap(), BOB, "n").await.unwrap();
    assert_eq!(found, Some(envelope));
    let purged = db.write(|tx| async move { applied_envelopes::purge(tx, t(999)).await }.boxed()).await;
    assert_eq!(purged, 0);
    assert_eq!(db.write(|tx| async move { applied_envelopes::purge(tx, t(1000)).await }.boxed()).await, 2);
}
