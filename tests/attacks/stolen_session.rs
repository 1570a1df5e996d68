//! The attacker has copied a session's token from a device that its owner then locks out. He would gain the
//! account for as long as sessions live. What stops him: a session is looked up in the database at each request,
//! so it ends at once, and with it what it has open.

use serde_json::Value;
use vellum_client::http::Method;

use crate::support::{Person, TestNode};

async fn works(thief: &Person) -> bool {
    match thief.ask(Method::GET, "/users/me/identity", Value::Null).await.0 {
        200 => true,
        401 => false,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_stolen_token_ends_with_its_session_however_that_is_ended() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    for ending in ["/auth/sessions/others", "/auth/sessions/all", "/auth/sessions"] {
        let mut owner = Person::new(node.client());
        owner.client.set_token(Some(node.token("ann@people.example").await));
        let thief = ann.seen_through(node.client());
        let mut thief = thief;
        thief.client.set_token(Some(node.token("ann@people.example").await));
        assert!(works(&thief).await, "the copy works until then");
        let by = if ending == "/auth/sessions" { &thief } else { &owner };
        let (status, answer) = by.ask(Method::DELETE, ending, Value::Null).await;
        assert!(matches!(status, 200 | 204), "{ending}: {status} {answer}");
        assert!(!works(&thief).await, "{ending}");
    }
}
