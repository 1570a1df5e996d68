//! What is known of a friend: the name, and the two keys, each of which is noticed when it changes.

use vellum_actors::Error;
use vellum_actors::user::UpdateFriend;
use vellum_store::friendships::RemoteUser;

use crate::friendship::as_peer;
use crate::sealed::new_keys;
use crate::support::World;

#[actix::test]
async fn a_friends_name_is_taken_note_of_and_either_key_by_itself_is_a_change() {
    let (world, alice, bob) = World::with_two_friends().await;
    let update = async |peer: RemoteUser| {
        world.clock.advance(1_000);
        let changed = alice.node.ask(&alice.id, UpdateFriend { peer: peer.clone() }).await.unwrap();
        let known = alice.friends().await.remove(0);
        assert_eq!(known.friend, peer);
        (changed, known.keys_changed_at)
    };
    let named = RemoteUser { name: Some("Bob".into()), ..as_peer(&bob) };
    assert_eq!(update(named.clone()).await, (false, None), "a name is no reason to verify him anew");
    let other = new_keys();
    let encrypts = RemoteUser { encryption_key: Some(other.encryption), ..named.clone() };
    let at = world.clock.now().plus_millis(1_000);
    assert_eq!(update(encrypts.clone()).await, (true, Some(at)));
    let signs = RemoteUser { signing_key: other.signing, ..encrypts };
    let at = at.plus_millis(1_000);
    assert_eq!(update(signs.clone()).await, (true, Some(at)));
    assert_eq!(update(RemoteUser { name: None, ..signs }).await, (false, Some(at)), "the mark stays");
    let stranger = alice.node.ask(&alice.id, UpdateFriend { peer: as_peer(&alice) }).await;
    assert!(matches!(stranger, Err(Error::FriendshipNotFound)), "{stranger:?}");
}
