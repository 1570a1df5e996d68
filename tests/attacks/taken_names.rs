//! The attacker has an account on the node of somebody who has had an alias and given it up. He
//! would take the old name, and speak for friendships that other nodes still keep under it. What
//! stops him: an alias that was shown with a key belongs to whoever showed it, for good; they may
//! take it back, and nobody else ever gets it.

use serde_json::{Value, json};
use vellum_client::http::Method;

use crate::support::{Database, Person, TestNode};

async fn set(person: &Person, alias: &str) -> (u16, String) {
    let (status, answer) = person.ask(Method::PATCH, "/users/me/alias", json!({ "alias": alias })).await;
    (status, answer["code"].as_str().unwrap_or_default().to_owned())
}

async fn is_available(person: &Person, alias: &str) -> bool {
    let path = format!("/users/alias/check?alias={alias}");
    let (status, answer) = person.ask(Method::GET, &path, Value::Null).await;
    assert_eq!(status, 200, "{answer}");
    answer["available"].as_bool().unwrap()
}

fn taken() -> (u16, String) {
    (409, "alias_taken".to_owned())
}

fn given() -> (u16, String) {
    (200, String::new())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_that_was_shown_with_a_key_is_its_owners_for_good() {
    let node = TestNode::start().await;
    let (ann, ben) = (node.person("Ann").await, node.user("ben").await);
    assert_eq!(set(&ben, "ann").await, taken(), "in use");
    assert_eq!(set(&ann, "annie").await, given());
    for spelling in ["Ann", "ann", "ANN"] {
        assert_eq!(set(&ben, spelling).await, taken(), "given up, but it was shown: {spelling}");
        assert!(!is_available(&ben, spelling).await, "{spelling}");
        assert!(is_available(&ann, spelling).await, "its owner may take it back: {spelling}");
    }
    assert_eq!(set(&ann, "ANN").await, given(), "in whatever spelling");
    assert_eq!(set(&ben, "annie").await, taken(), "that was shown, too");
    let (status, _) = node.client().request_json(Method::GET, "/.well-known/user/annie", None).await.unwrap();
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_come_after_the_alias_show_it_too_and_a_reset_does_not_free_it() {
    let node = TestNode::start().await;
    let (mut ann, ben) = (node.user("ann").await, node.user("ben").await);
    assert_eq!(set(&ann, "ann").await, given());
    ann.new_keys().await;
    ann.client.reset_identity().await.unwrap();
    assert_eq!(set(&ann, "annie").await, given(), "without keys");
    assert_eq!(set(&ben, "ann").await, taken(), "shown before the reset");
    assert_eq!(set(&ben, "annie").await, taken(), "in use");
    assert_eq!(set(&ann, "anna").await, given());
    assert_eq!(set(&ben, "annie").await, given(), "never shown with a key: free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_that_an_earlier_version_has_shown_is_not_freed_by_a_reset() {
    let node = TestNode::start().await;
    let (ann, ben) = (node.person("ann").await, node.user("ben").await);
    // That version did not note what it showed.
    Database::of(&node).await.forget_shown_aliases().await;
    ann.client.reset_identity().await.unwrap();
    assert_eq!(set(&ann, "annie").await, given(), "without keys");
    assert_eq!(set(&ben, "ann").await, taken(), "shown before the reset");
}
