//! Sharing with a friend: what each side holds, on one node and on two, and what is refused.

use vellum_actors::inbox::Refusal;
use vellum_actors::user::{
    AcceptShare, DropShare, EndShare, Keeps, LONGEST_RESOURCE_ID, RESOURCE_TYPES, Receive, Received, Share,
    Shared, UserCommand,
};
use vellum_actors::{Error, sharing};
use vellum_client::collection_share::SharedCiphertext;
use vellum_client::signer::{ShareRole, SharedResource};
use vellum_protocol::{Json, JsonObject, MessageType, UnixMillis};
use vellum_store::invitations::{Direction, Status};
use vellum_store::outbox;
use vellum_store::shares::{self, Resource, Role, Share as StoredShare};

use crate::friendship::{as_peer, invite_from};
use crate::revocations::REVOKE;
use crate::support::{Mood, Person, T0, World, fields, until, wait_for};

async fn ask<C: UserCommand>(person: &Person, command: C) -> Result<C::Output, Error> {
    person.node.ask(&person.id, command).await
}

fn route(id: &str) -> Resource {
    Resource { kind: "route".into(), id: id.into() }
}

/// A route, for a friend to change, as the client sends and signs it.
fn share_of(owner: &Person, friend: &Person, id: &str) -> Share {
    let shared = SharedResource {
        resource_type: "route".into(),
        resource_id: id.into(),
        ciphertext: SharedCiphertext { encrypted_data: "sealed".into(), nonce: "nonce".into() },
        role: ShareRole::Editor,
    };
    let signed = owner.signer.share(&friend.handle, &shared, owner.node.clock.now(), &mut rand::rng());
    Share {
        recipient: friend.handle.clone(),
        resource: route(id),
        encrypted_data: Some("sealed".into()),
        nonce: Some("nonce".into()),
        role: Role::Editor,
        signed: Some(fields(signed)),
        keeps: Keeps::Nothing,
    }
}

async fn shares_of(person: &Person, direction: Direction) -> Vec<StoredShare> {
    shares::of_user(&mut person.node.store.read().await.unwrap(), &person.id, direction).await.unwrap()
}

async fn made_by(person: &Person) -> Vec<StoredShare> {
    shares_of(person, Direction::Outgoing).await
}

async fn held_by(person: &Person) -> Vec<StoredShare> {
    shares_of(person, Direction::Incoming).await
}

fn resources(shares: &[StoredShare]) -> Vec<&str> {
    shares.iter().map(|share| share.resource.id.as_str()).collect()
}

/// Alice and amy, friends on one node.
async fn with_two_friends_of_one_node() -> (World, Person, Person) {
    let world = World::new().await;
    let (alice, amy) = (world.a.person("alice").await, world.a.person("amy").await);
    world.befriend(&alice, &amy).await;
    (world, alice, amy)
}

#[actix::test]
async fn a_share_with_a_friend_elsewhere_is_theirs_to_accept_and_to_remove() {
    let (world, alice, bob) = World::with_two_friends().await;
    let made = sharing::share(&alice.node, &alice.id, share_of(&alice, &bob, "r")).await.unwrap();
    let expected = StoredShare {
        id: made.id.clone(),
        user_id: alice.id.clone(),
        direction: Direction::Outgoing,
        peer_handle: bob.handle.clone(),
        peer_user_id: None,
        resource: route("r"),
        encrypted_data: Some("sealed".into()),
        nonce: Some("nonce".into()),
        role: Role::Editor,
        status: Status::Pending,
        created_at: T0,
        accepted_at: None,
        unverified_key: None,
    };
    assert_eq!((&made, made_by(&alice).await), (&expected, vec![expected.clone()]));
    let held = held_by(&bob).await.remove(0);
    let theirs = StoredShare {
        id: held.id.clone(),
        user_id: bob.id.clone(),
        direction: Direction::Incoming,
        peer_handle: alice.handle.clone(),
        ..expected
    };
    assert_eq!(held, theirs);

    world.clock.advance(1_000);
    let accepted = ask(&bob, AcceptShare { id: held.id.clone() }).await.unwrap();
    let at = Some(world.clock.now());
    assert_eq!(accepted, StoredShare { status: Status::Accepted, accepted_at: at, ..theirs });
    world.clock.advance(1_000);
    let again = ask(&bob, AcceptShare { id: held.id.clone() }).await.unwrap();
    assert_eq!(again, accepted, "it is accepted already");
    let others = ask(&bob, AcceptShare { id: made.id.clone() }).await;
    assert!(matches!(others, Err(Error::ShareNotFound)), "alice's own row: {others:?}");

    ask(&bob, DropShare { id: held.id.clone() }).await.unwrap();
    assert!(held_by(&bob).await.is_empty());
    assert_eq!(made_by(&alice).await, [made], "she is not told");
    for gone in [
        ask(&bob, DropShare { id: held.id.clone() }).await,
        ask(&bob, AcceptShare { id: held.id }).await.map(drop),
    ] {
        assert!(matches!(gone, Err(Error::ShareNotFound)), "{gone:?}");
    }
}

/// What a caller has read before may be replaced by the time its command runs.
#[actix::test]
async fn a_change_of_the_role_keeps_the_payload_as_it_is_and_the_other_way_round() {
    let (_world, alice, amy) = with_two_friends_of_one_node().await;
    let share = || Share { signed: None, ..share_of(&alice, &amy, "r") };
    ask(&alice, share()).await.unwrap();
    let (data, nonce) = (Some("sealed anew".to_owned()), Some("another".to_owned()));
    let payload = Share {
        encrypted_data: data.clone(),
        nonce: nonce.clone(),
        role: Role::Viewer,
        keeps: Keeps::Role,
        ..share()
    };
    ask(&alice, payload).await.unwrap();
    assert_eq!(held_by(&amy).await[0].role, Role::Editor, "only the payload was to change");
    ask(&alice, Share { role: Role::Viewer, keeps: Keeps::Payload, ..share() }).await.unwrap();
    let held = held_by(&amy).await.remove(0);
    assert_eq!((held.encrypted_data, held.nonce, held.role), (data, nonce, Role::Viewer));
    let unknown = Share { resource: route("unknown"), keeps: Keeps::Role, ..share() };
    let unknown = ask(&alice, unknown).await;
    assert!(matches!(unknown, Err(Error::ShareNotFound)), "{unknown:?}");
}

#[actix::test]
async fn a_share_on_one_node_is_accepted_on_both_sides_at_once_and_ends_on_both() {
    let (world, alice, amy) = with_two_friends_of_one_node().await;
    let Shared { share: made, outcome } =
        ask(&alice, Share { signed: None, ..share_of(&alice, &amy, "r") }).await.unwrap();
    assert!(outcome.is_none(), "nothing is on its way");
    assert_eq!((made.status, made.accepted_at), (Status::Accepted, Some(T0)));
    assert_eq!((&made.peer_handle, made.peer_user_id.as_ref()), (&amy.handle, Some(&amy.id)));
    let held = held_by(&amy).await.remove(0);
    assert_ne!(held.id, made.id);
    let mirrored = StoredShare {
        id: held.id.clone(),
        user_id: amy.id.clone(),
        direction: Direction::Incoming,
        peer_handle: alice.handle.clone(),
        peer_user_id: Some(alice.id.clone()),
        ..made.clone()
    };
    assert_eq!(held, mirrored);
    assert!(held_by(&alice).await.is_empty() && made_by(&amy).await.is_empty());

    ask(&alice, share_of(&alice, &amy, "other")).await.unwrap();
    let not_hers = ask(&amy, EndShare { id: held.id }).await;
    assert!(
        matches!(not_hers, Err(Error::ShareNotFound)),
        "who was shared with does not end it: {not_hers:?}"
    );
    ask(&alice, EndShare { id: made.id }).await.unwrap();
    assert_eq!(resources(&made_by(&alice).await), ["other"]);
    assert_eq!(resources(&held_by(&amy).await), ["other"]);
    let others = held_by(&amy).await.remove(0).id;
    ask(&amy, DropShare { id: others }).await.unwrap();
    assert_eq!((made_by(&alice).await.len(), held_by(&amy).await.len()), (1, 0));
    assert!(world.wire.posted_to(&world.a.node).is_empty());
}

#[actix::test]
async fn what_is_shared_again_is_one_share_with_what_was_said_last() {
    let (_world, alice, bob) = World::with_two_friends().await;
    let first = sharing::share(&alice.node, &alice.id, share_of(&alice, &bob, "r")).await.unwrap();
    let held = held_by(&bob).await.remove(0);
    ask(&bob, AcceptShare { id: held.id.clone() }).await.unwrap();
    let shared = SharedResource {
        resource_type: "route".into(),
        resource_id: "r".into(),
        ciphertext: SharedCiphertext { encrypted_data: "anew".into(), nonce: "another".into() },
        role: ShareRole::Viewer,
    };
    let signed = alice.signer.share(&bob.handle, &shared, alice.node.clock.now(), &mut rand::rng());
    let again = Share {
        encrypted_data: Some("anew".into()),
        nonce: Some("another".into()),
        role: Role::Viewer,
        signed: Some(fields(signed)),
        ..share_of(&alice, &bob, "r")
    };
    let second = sharing::share(&alice.node, &alice.id, again).await.unwrap();
    assert_eq!((second.id, second.role), (first.id, Role::Viewer));
    let now = held_by(&bob).await;
    assert_eq!((now.len(), &now[0].id, now[0].role), (1, &held.id, Role::Viewer));
    assert_eq!((now[0].encrypted_data.as_deref(), now[0].nonce.as_deref()), (Some("anew"), Some("another")));
    assert_eq!(now[0].status, Status::Accepted, "nobody is asked again");
}

#[actix::test]
async fn a_share_is_refused_with_the_reason_and_leaves_nothing_behind() {
    let (world, alice, bob) = World::with_two_friends().await;
    let (carl, amy) = (world.b.person("carl").await, world.a.person("amy").await);
    world.wire.set(&world.b.node, Mood::Down);
    let good = || share_of(&alice, &bob, "r");
    let refused = async |share: Share| ask(&alice, share).await.expect_err("it is refused");
    for stranger in [&carl, &amy] {
        let stranger = refused(share_of(&alice, stranger, "r")).await;
        assert!(matches!(stranger, Error::NotAFriend), "{stranger:?}");
    }
    let unsigned = refused(Share { signed: None, ..good() }).await;
    assert!(matches!(unsigned, Error::EnvelopeRequired), "{unsigned:?}");
    for nothing in [None, Some(String::new())] {
        let data = refused(Share { encrypted_data: nothing.clone(), ..good() }).await;
        let nonce = refused(Share { nonce: nothing, ..good() }).await;
        assert!(
            matches!((&data, &nonce), (Error::PayloadRequired, Error::PayloadRequired)),
            "{data} {nonce}"
        );
    }
    for altered in [
        Share { resource: route("another"), ..good() },
        Share { encrypted_data: Some("another".into()), ..good() },
        Share { role: Role::Viewer, ..good() },
    ] {
        let altered = refused(altered).await;
        assert!(matches!(altered, Error::BadSignature), "{altered:?}");
    }
    assert!(made_by(&alice).await.is_empty());
    world.settled().await;
    assert_eq!(world.wire.count(&world.b.node, MessageType::ResourceShare), 0);
}

#[actix::test]
async fn a_share_that_is_ended_before_it_has_left_never_arrives_and_what_has_arrived_stays() {
    let (world, alice, bob) = World::with_two_friends().await;
    sharing::share(&alice.node, &alice.id, share_of(&alice, &bob, "arrived")).await.unwrap();
    let first = made_by(&alice).await.remove(0);
    world.wire.set(&world.b.node, Mood::Answers(503, "{}"));
    let second = ask(&alice, share_of(&alice, &bob, "late")).await.unwrap();
    wait_for(
        "it was tried in vain",
        || async { world.wire.count(&world.b.node, MessageType::ResourceShare) },
        |seen| *seen == 2,
    )
    .await;
    for id in [first.id.clone(), second.share.id] {
        ask(&alice, EndShare { id }).await.unwrap();
    }
    assert!(made_by(&alice).await.is_empty());
    let again = ask(&alice, EndShare { id: first.id }).await;
    assert!(matches!(again, Err(Error::ShareNotFound)), "{again:?}");
    world.wire.set(&world.b.node, Mood::Up);
    // Late enough for another attempt, and in time for the envelope to be taken.
    world.advance(60_000);
    world.settled().await;
    assert_eq!(resources(&held_by(&bob).await), ["arrived"]);
}

#[actix::test]
async fn a_share_that_the_friends_node_refuses_for_good_is_gone() {
    let (world, alice, bob) = World::with_two_friends().await;
    world.wire.set(&world.b.node, Mood::Answers(400, r#"{"message":"Recipient not found"}"#));
    let refused = sharing::share(&alice.node, &alice.id, share_of(&alice, &bob, "r")).await;
    assert!(matches!(refused, Err(Error::ShareRefused)), "{refused:?}");
    assert!(made_by(&alice).await.is_empty());
}

/// A RESOURCE_SHARE of alice's for bob, as it comes out of the inbox, with these members in its payload.
fn received(
    alice: &Person,
    bob: &Person,
    nonce: &str,
    members: &[(&str, &str)],
    signed_at: UnixMillis,
) -> Receive {
    let payload: JsonObject = members.iter().map(|(name, text)| (*name, Json::from(*text))).collect();
    let signature = format!("signature of {nonce}");
    Receive {
        message_type: MessageType::ResourceShare,
        payload,
        signed_at,
        ..invite_from(alice, &bob.handle, nonce, &signature)
    }
}

#[actix::test]
async fn of_what_arrives_only_a_friends_share_of_a_known_kind_with_all_its_parts_is_taken() {
    let (world, alice, bob) = World::with_two_friends().await;
    let carl = world.a.person("carl").await;
    let whole = |kind, id| {
        [
            ("resourceType", kind),
            ("resourceId", id),
            ("encryptedData", "sealed"),
            ("nonce", "n"),
            ("role", "editor"),
        ]
    };
    let longest = "ü".repeat(LONGEST_RESOURCE_ID);
    let (too_long, good) = (format!("{longest}x"), whole("route", &longest));
    for part in 0..4 {
        let without: Vec<_> = good.into_iter().filter(|(name, _)| *name != good[part].0).collect();
        let mut empty = good;
        empty[part].1 = "";
        for (what, members) in [("none", without.as_slice()), ("empty", empty.as_slice())] {
            let refused = ask(&bob, received(&alice, &bob, "refused", members, T0)).await;
            let right = matches!(refused, Err(Error::Message(Refusal::MissingResource)));
            assert!(right, "{what}: {} {refused:?}", good[part].0);
        }
    }
    for members in
        [whole("song", "r"), whole("Route", "r"), whole("route", &too_long), whole("song", &too_long)]
    {
        let refused = ask(&bob, received(&alice, &bob, "refused", &members, T0)).await;
        assert!(matches!(refused, Err(Error::Message(Refusal::UnknownResource))), "{members:?}: {refused:?}");
    }
    let stranger = ask(&bob, received(&carl, &bob, "refused", &good, T0)).await;
    assert!(matches!(stranger, Err(Error::Message(Refusal::NotAFriend))), "{stranger:?}");
    assert!(held_by(&bob).await.is_empty());

    let taken = Received { applied: true, friends: false };
    assert_eq!(ask(&bob, received(&alice, &bob, "longest", &good, T0)).await.unwrap(), taken);
    for kind in RESOURCE_TYPES {
        let members = whole(kind, "r");
        assert_eq!(ask(&bob, received(&alice, &bob, kind, &members, T0)).await.unwrap(), taken, "{kind}");
    }
    let mut unknown_role = whole("map", "of no role");
    unknown_role[4].1 = "owner";
    ask(&bob, received(&alice, &bob, "role", &unknown_role, T0)).await.unwrap();
    let held = held_by(&bob).await;
    let role = |id: &str| held.iter().find(|share| share.resource.id == id).unwrap().role;
    assert_eq!((held.len(), role(&longest), role("of no role")), (6, Role::Editor, Role::Viewer));
}

#[actix::test]
async fn a_revocation_that_ends_a_share_and_not_the_friendship_leaves_the_acceptance_on_its_way() {
    let (world, alice, bob) = World::with_two_people().await;
    alice.invite(&bob).await.unwrap();
    world.wire.set(&world.a.node, Mood::Down);
    bob.accept_from(&alice).await.unwrap();
    // She has signed it on a device whose clock is behind, and the revocation on that device as well.
    let members =
        [("resourceType", "route"), ("resourceId", "r"), ("encryptedData", "sealed"), ("nonce", "n")];
    ask(&bob, received(&alice, &bob, "share", &members, T0.plus_millis(-2_000))).await.unwrap();
    let revoke = Receive {
        message_type: REVOKE,
        payload: JsonObject::new(),
        ..received(&alice, &bob, "revocation", &[], T0.plus_millis(-1_000))
    };
    let revoked = ask(&bob, revoke).await.unwrap();
    assert_eq!((revoked.applied, held_by(&bob).await.len()), (true, 0));
    assert!(bob.has_friend(&alice).await, "that began later");
    let waits = outbox::next_due(&mut bob.node.store.read().await.unwrap()).await.unwrap();
    assert!(waits.is_some(), "the acceptance");
    world.wire.set(&world.a.node, Mood::Up);
    world.advance(20_000);
    until("alice is told", || alice.has_friend(&bob)).await;
    assert_eq!(alice.friends().await[0].friend, as_peer(&bob));
}
