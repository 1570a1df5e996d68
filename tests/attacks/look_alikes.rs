//! The attacker wants a handle that people take for another's: letters of another script, another case, marks that
//! are not seen. What stops him: aliases are ASCII letters, digits and the underscore, unique without regard to
//! case; and a handle counts as it is spelled in its user's document.

use serde_json::json;
use vellum_client::http::Method;

use crate::support::TestNode;

#[tokio::test]
async fn no_alias_looks_like_another() {
    let node = TestNode::start().await;
    node.person("alice").await;
    let mallory = node.user("mallory").await;
    for (alias, status) in [
        ("\u{430}lice", 400),
        ("alice\u{200b}", 400),
        ("al\u{131}ce", 400),
        ("\u{ff41}lice", 400),
        ("alice\u{301}", 400),
        ("\u{202e}ecila", 400),
        (" alice", 400),
        ("alice.", 400),
        ("Alice", 409),
        ("ALICE", 409),
        ("alice", 409),
    ] {
        let (told, answer) = mallory.ask(Method::PATCH, "/users/me/alias", json!({ "alias": alias })).await;
        assert_eq!(told, status, "{alias:?}: {answer}");
    }
    let (status, _) = mallory.ask(Method::PATCH, "/users/me/alias", json!({ "alias": "al1ce" })).await;
    assert_eq!(status, 200, "what is another alias is free");
}
