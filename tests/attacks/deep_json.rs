//! The attacker needs no account: he posts JSON that is nested a hundred thousand levels deep, or longer than
//! allowed. He would overflow the parser's stack and end the process, or its memory. What stops him: parsers with
//! a bound on depth, and a bound on length before anything is parsed.

use serde_json::json;

use crate::support::{TestNode, plain_http};

#[tokio::test]
async fn deep_and_long_bodies_are_refused_and_the_node_lives() {
    let node = TestNode::start().await;
    let origin = node.process.origin();
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    let objects = format!("{}1{}", "{\"a\":".repeat(9_000), "}".repeat(9_000));
    let long = json!({ "email": "a".repeat(200_000) }).to_string();
    for path in ["/auth/verify", "/auth/sessions", "/federation/inbox"] {
        for (body, expected) in [(&deep, 400..=422), (&objects, 400..=422), (&long, 413..=413)] {
            let request =
                plain_http().post(format!("{origin}{path}")).header("content-type", "application/json");
            let answer = request.body(body.clone()).send().await.unwrap();
            let status = answer.status().as_u16();
            assert!(expected.contains(&status), "{path}: {status}");
        }
    }
    let good =
        plain_http().post(format!("{origin}/auth/verify")).json(&json!({ "email": "nobody@people.example" }));
    assert_eq!(good.send().await.unwrap().status(), 201);
}
