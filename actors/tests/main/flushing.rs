//! What is taken into the outbox with a flush and what is not, at the edges.

use vellum_actors::Error;
use vellum_actors::user::{Flush, FlushItem, ItemRefusal};
use vellum_client::MasterSeed;
use vellum_protocol::{JsonObject, base64};
use vellum_store::users::Keys;

use crate::revocations::{REVOKE, after_a_reset, item};
use crate::support::World;

#[actix::test]
async fn a_nonce_of_64_bytes_is_taken_and_one_of_65_is_not() {
    let (_world, alice, bob) = after_a_reset().await;
    let seed = MasterSeed::generate(&mut rand::rng());
    let (secret, encryption) = (seed.signing_secret(), seed.encryption_key());
    alice.register(Keys { signing: secret.public(), encryption }, None).await.unwrap();
    for (length, refusal) in [(65, Some(ItemRefusal::InvalidNonce.code())), (64, None)] {
        let at = alice.node.clock.now();
        let signed = alice.signer.envelope(REVOKE, &bob.handle, JsonObject::new(), at, &mut rand::rng());
        let mut content = signed.content;
        content.nonce = base64::encode(&vec![7; length]);
        let flushed = alice.flush(vec![item(&bob.handle, content.sign(&secret).into())]).await;
        assert_eq!((flushed[0].delivered, flushed[0].code), (length == 64, refusal), "{flushed:?}");
    }
}

#[actix::test]
async fn without_keys_no_item_is_judged_by_itself() {
    let (_world, alice, bob) = World::with_two_friends().await;
    alice.reset().await;
    // By itself this one would be refused as not pending; but what is missing is not the item's.
    let no_handle = FlushItem { peer_handle: "bob".into(), ..alice.revocation(&bob.handle) };
    let refused = alice.node.ask(&alice.id, Flush { items: vec![no_handle] }).await;
    assert!(matches!(refused, Err(Error::IdentityIncomplete)), "{refused:?}");
}

#[test]
fn programs_tell_refusals_by_words_that_stay() {
    use ItemRefusal::{BadSignature, Duplicate, InvalidNonce, NotPending, StaleTimestamp};
    let words = [NotPending, Duplicate, StaleTimestamp, BadSignature, InvalidNonce].map(ItemRefusal::code);
    assert_eq!(words, ["not_pending", "duplicate", "stale_timestamp", "bad_signature", "invalid_nonce"]);
}
