//! The attacker has a list of addresses and wants to know which have an account here: who is a customer, whom
//! to write a convincing letter to. No answer without a session may tell: not by its status, its body, its
//! headers, nor by the work behind it (which shows as time). What stops it: known and unknown addresses take
//! the same steps up to the letter itself, which is sent later and by somebody else.

use std::collections::BTreeMap;

use reqwest::Response;
use serde_json::{Value, json};

use crate::support::{Authenticator, Database, PostOffice, TestNode, plain_http};

const KNOWN: &str = "ann@people.example";
const UNKNOWN: &str = "nobody@people.example";

/// All that an answer tells but for what is different in every answer.
async fn told(answer: Response) -> (u16, BTreeMap<String, String>, Value) {
    let status = answer.status().as_u16();
    let mut headers = BTreeMap::new();
    for (name, value) in answer.headers() {
        if !["date", "x-request-id"].contains(&name.as_str()) {
            // Lists come in any order.
            let mut parts: Vec<&str> = value.to_str().unwrap().split(", ").collect();
            parts.sort_unstable();
            headers.insert(name.to_string(), parts.join(", "));
        }
    }
    (status, headers, answer.json().await.unwrap_or_default())
}

async fn post(node: &TestNode, path: &str, body: &Value) -> (u16, BTreeMap<String, String>, Value) {
    told(plain_http().post(format!("{}{path}", node.process.origin())).json(body).send().await.unwrap()).await
}

#[tokio::test]
async fn every_answer_on_the_way_to_a_session_is_the_same_for_known_and_unknown_addresses() {
    let node = TestNode::start().await;
    node.user("ann").await;
    for body in [json!({}), json!({ "language": "de" })] {
        let ask = async |email: &str| {
            let mut body = body.clone();
            body["email"] = json!(email);
            post(&node, "/auth/verify", &body).await
        };
        assert_eq!(ask(KNOWN).await, ask(UNKNOWN).await);
        assert_eq!(ask(KNOWN).await.0, 201);
    }
    for token in ["12345678", "", "no code at all"] {
        let guess = async |email: &str| {
            post(&node, "/auth/sessions", &json!({ "method": "otp", "email": email, "token": token })).await
        };
        for _ in 0..7 {
            assert_eq!(guess(KNOWN).await, guess(UNKNOWN).await, "{token}: before and after the fifth try");
        }
    }
    node.process.newest_code(0).await.expect("the known one gets letters");
}

#[tokio::test]
async fn an_unknown_address_costs_the_node_the_same_writes_as_a_known_one() {
    let node = TestNode::start().await;
    node.user("ann").await;
    let database = Database::of(&node).await;
    // How many rows each table gained or lost by asking for a code twice.
    let work = async |email: &str| {
        let mut tables = Vec::new();
        for _ in 0..2 {
            let before = database.snapshot().await;
            assert_eq!(post(&node, "/auth/verify", &json!({ "email": email })).await.0, 201);
            let changes = before.difference(&database.snapshot().await);
            tables.extend(changes.into_iter().map(|line| line.split(':').next().unwrap().to_owned()));
        }
        tables
    };
    let (known, unknown) = (work(KNOWN).await, work(UNKNOWN).await);
    assert!(!known.is_empty());
    assert_eq!(known, unknown);
}

#[tokio::test]
async fn a_wrong_code_is_a_write_whether_an_email_has_gone_or_not() {
    let node = TestNode::start().await;
    node.user("ann").await;
    let database = Database::of(&node).await;
    for is_asked in [false, true, false] {
        for email in [KNOWN, UNKNOWN] {
            if is_asked {
                assert_eq!(post(&node, "/auth/verify", &json!({ "email": email })).await.0, 201);
            } else {
                database.forget_codes().await;
            }
            let before = database.snapshot().await;
            let body = json!({ "method": "otp", "email": email, "token": "12345678" });
            assert_eq!(post(&node, "/auth/sessions", &body).await.0, 401);
            let changes = before.difference(&database.snapshot().await);
            let changed = changes.iter().filter(|line| line.contains("wrong_codes:")).count();
            assert!(changed > 0, "{email}, a code is live: {is_asked}: {changes:?}");
        }
    }
}

#[tokio::test]
async fn used_up_emails_and_tries_cost_the_same_for_known_and_unknown_addresses() {
    for registration in ["invite", "open"] {
        let settings =
            [("VELLUM_AUTH__REGISTRATION", registration), ("VELLUM_AUTH__WRONG_CODES_PER_DAY", "2")];
        let node = TestNode::start_with(&settings).await;
        node.user("ann").await;
        let database = Database::of(&node).await;
        // The answers to four requests for a code and four wrong ones, and the rows that each of
        // them changed.
        let work = async |email: &str| {
            let mut steps = Vec::new();
            for path in ["/auth/verify", "/auth/sessions"] {
                for _ in 0..4 {
                    let before = database.snapshot().await;
                    let body = json!({ "method": "otp", "email": email, "token": "no code" });
                    let (status, _, mut answer) = post(&node, path, &body).await;
                    if let Some(problem) = answer.as_object_mut() {
                        problem.remove("instance");
                    }
                    // The node's run gives itself a new name now and then.
                    let changes = before.difference(&database.snapshot().await);
                    let changes = changes.iter().filter_map(|line| line.split(':').next());
                    let tables: Vec<String> =
                        changes.filter(|table| !table.ends_with(" epochs")).map(str::to_owned).collect();
                    steps.push((status, answer, tables));
                }
            }
            steps
        };
        let (known, unknown) = (work(KNOWN).await, work(UNKNOWN).await);
        assert_eq!(known, unknown, "registration: {registration}");
        let changed: Vec<bool> = known.iter().map(|(_, _, tables)| !tables.is_empty()).collect();
        // A code that is refused uncounted costs a write, too.
        assert_eq!(changed, [true, true, false, false, true, true, true, true], "{known:?}");
    }
}

#[tokio::test]
async fn options_to_sign_in_with_a_passkey_name_nobodys_passkeys() {
    const APP: &str = "https://app.example";
    let node = TestNode::start_with(&[("VELLUM_HTTP__CLIENT_ORIGINS", APP)]).await;
    let ann = node.person("ann").await;
    Database::of(&node).await.add_passkey(&ann, "annspasskey").await;
    let options = "/auth/passkeys/authenticate/options";
    for body in [json!({}), json!({ "email": KNOWN }), json!({ "email": UNKNOWN })] {
        let (status, _, options) = post(&node, options, &body).await;
        assert_eq!((status, &options["allowCredentials"]), (200, &json!([])));
    }
    // A known credential with a wrong signature is refused as an unknown one is.
    let answer_with = async |id: &str| {
        let (_, _, options) = post(&node, options, &json!({})).await;
        let mut answer = Authenticator::at(APP).get(&options);
        answer["id"] = json!(id);
        answer["rawId"] = json!(id);
        answer["response"]["userHandle"] = json!("AAAA");
        let (status, _, mut body) = post(&node, "/auth/passkeys/authenticate/verify", &answer).await;
        body.as_object_mut().unwrap().remove("instance");
        (status, body)
    };
    let refused = answer_with("annspasskey").await;
    assert_eq!(refused.0, 401);
    assert_eq!(refused, answer_with("nobodyspasskey0").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_an_answer_does_not_tell_a_known_address_from_an_unknown_one() {
    // At a mail server that lets everybody wait, a letter that an answer waited for would show in every single pair.
    let office = PostOffice::closed().await;
    let node = TestNode::start_with(&[("VELLUM_MAIL__SMTP_URL", &office.url())]).await;
    node.user("ann").await;
    let time = async |path: &str, email: &str| {
        let begun = std::time::Instant::now();
        post(&node, path, &json!({ "method": "otp", "email": email, "token": "12345678" })).await;
        begun.elapsed()
    };
    for path in ["/auth/verify", "/auth/sessions"] {
        // Pairs in both orders, so that whatever else this machine does falls on both alike: only which of the two took
        // longer counts. By chance alone fewer than 6 or more than 54 of 60 happen once in a hundred billion runs.
        let mut known_was_longer = 0;
        for pair in 0..60 {
            let (known, unknown) = if pair % 2 == 0 {
                let known = time(path, KNOWN).await;
                (known, time(path, UNKNOWN).await)
            } else {
                let unknown = time(path, UNKNOWN).await;
                (time(path, KNOWN).await, unknown)
            };
            known_was_longer += u32::from(known > unknown);
        }
        assert!((6..=54).contains(&known_was_longer), "{path}: {known_was_longer} of 60");
    }
}
