//! The attacker knows an address, can have codes sent to it, and guesses: eight digits, in
//! parallel, under every spelling of the address; or has a right code of an address of their own
//! and tries it at another. A hit would be a session of the victim. What stops it: an account has
//! 200 tries a day, which are counted in the same transaction that compares the code, all spellings
//! share them, a code's hash is bound to its address, and it works once, however many requests
//! bring it at the same moment. `sign_in_flood` has the attacker with many sources.

use serde_json::json;
use vellum_client::http::Method;

use crate::support::{Database, TestNode};

async fn code_for(node: &TestNode, email: &str) -> String {
    let known = node.process.letters().len();
    node.client().request_code(email).await.unwrap();
    node.process.newest_code(known).await.unwrap()
}

async fn guess(node: &TestNode, email: &str, code: &str) -> u16 {
    let body = json!({ "method": "otp", "email": email, "token": code });
    node.client().request_json(Method::POST, "/auth/sessions", Some(&body)).await.unwrap().0
}

/// Codes that are not this one.
fn wrong(right: &str, count: u32) -> Vec<String> {
    let right: u32 = right.parse().unwrap();
    (1..=count).map(|n| format!("{:08}", (right + n) % 100_000_000)).collect()
}

#[tokio::test]
async fn forty_guesses_at_once_have_twenty_tries_between_them() {
    let node = TestNode::start_with(&[("VELLUM_AUTH__WRONG_CODES_PER_DAY", "20")]).await;
    node.user("ann").await;
    let email = "ann@people.example";
    let code = code_for(&node, email).await;
    let wrong = wrong(&code, 40);
    let guesses = wrong.iter().map(|wrong| guess(&node, email, wrong));
    assert!(futures_util::future::join_all(guesses).await.iter().all(|status| *status == 401));
    assert_eq!(guess(&node, email, &code).await, 401, "the right one comes too late");
    assert_eq!(Database::of(&node).await.count_wrong_codes(email).await, 20, "as many as were compared");
    let code = code_for(&node, email).await;
    assert_eq!(guess(&node, email, &code).await, 401, "a new code brings no new tries");
}

#[tokio::test]
async fn other_spellings_of_an_address_bring_no_more_tries() {
    let node = TestNode::start_with(&[("VELLUM_AUTH__WRONG_CODES_PER_DAY", "5")]).await;
    node.user("ann").await;
    let spellings = [
        "ann@people.example",
        "ANN@people.example",
        "Ann@People.Example",
        " ann@people.example",
        "aNN@PEOPLE.EXAMPLE ",
    ];
    let code = code_for(&node, spellings[0]).await;
    for (spelling, wrong) in spellings.iter().zip(wrong(&code, 5)) {
        assert_eq!(guess(&node, spelling, &wrong).await, 401, "{spelling}");
    }
    assert_eq!(guess(&node, spellings[0], &code).await, 401, "five are used up");
    let newer = code_for(&node, spellings[1]).await;
    assert_eq!(guess(&node, spellings[2], &newer).await, 401, "all are the same person's");
}

#[tokio::test]
async fn a_code_for_one_address_opens_no_other() {
    let node = TestNode::start().await;
    node.user("ann").await;
    node.user("mallory").await;
    code_for(&node, "ann@people.example").await;
    let mallorys = code_for(&node, "mallory@people.example").await;
    assert_eq!(guess(&node, "ann@people.example", &mallorys).await, 401);
    for both in ["ann@people.example,mallory@people.example", "ann@people.example\nmallory@people.example"] {
        assert_eq!(guess(&node, both, &mallorys).await, 422, "{both:?} is no address");
    }
    assert_eq!(guess(&node, "mallory@people.example", &mallorys).await, 201);
}

#[tokio::test]
async fn a_code_that_is_brought_many_times_at_once_opens_one_session() {
    let node = TestNode::start().await;
    let ann = node.user("ann").await;
    let code = code_for(&node, "ann@people.example").await;
    let tries = (0..5).map(|_| guess(&node, "ann@people.example", &code));
    let mut statuses = futures_util::future::join_all(tries).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 401, 401, 401, 401]);
    let sessions = ann.ask(Method::GET, "/auth/sessions", serde_json::Value::Null).await.1;
    assert_eq!(sessions.as_array().unwrap().len(), 2, "that one, and the one that ann had");
}

#[tokio::test]
async fn what_is_no_code_spends_a_try_or_is_refused_and_never_compares_equal() {
    let node = TestNode::start().await;
    node.user("ann").await;
    let email = "ann@people.example";
    let code = code_for(&node, email).await;
    let number = json!({ "method": "otp", "email": email, "token": code.parse::<u32>().unwrap() });
    let answer = node.client().request_json(Method::POST, "/auth/sessions", Some(&number)).await.unwrap();
    assert_eq!(answer.0, 422, "a number is no code");
    let fullwidth: String =
        code.chars().map(|digit| char::from_u32(digit as u32 - '0' as u32 + 0xff10).unwrap()).collect();
    for other in [fullwidth, format!("{code}\0"), format!("0{code}"), code[..7].to_owned()] {
        let status = guess(&node, email, &other).await;
        assert!([401, 422].contains(&status), "{other:?}: {status}");
    }
    assert_eq!(guess(&node, email, &code).await, 201);
}
