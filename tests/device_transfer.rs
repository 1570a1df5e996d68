//! A seed handed from one device to another: each step once, and within its minute.

use serde_json::{Value, json};
use vellum_client::http::Method;

use crate::support::{Person, TestNode};

async fn begin(person: &Person) -> String {
    let body = json!({ "receiverEphemeralPub": "receiver" });
    let (status, answer) = person.ask(Method::POST, "/device-transfer", body).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer["expiresAt"].is_string());
    format!("/device-transfer/{}", answer["sessionId"].as_str().unwrap())
}

fn upload() -> Value {
    json!({ "senderEphemeralPub": "sender", "sealedSeed": "sealed", "senderSignature": "signed" })
}

#[tokio::test]
async fn a_seed_goes_in_once_and_out_once() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    let path = begin(&ann).await;
    let early = ann.ask(Method::GET, &path, Value::Null).await;
    assert_eq!(
        (early.0, &early.1["code"], &early.1["title"]),
        (425, &json!("transfer_empty"), &json!("Too Early"))
    );

    let put = format!("{path}/upload");
    ann.ask_for(422, Method::POST, &put, json!({})).await;
    ann.ask_for(200, Method::POST, &put, upload()).await;
    ann.ask_for(409, Method::POST, &put, upload()).await;
    let (status, got) = ann.ask(Method::GET, &path, Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(
        (
            &got["receiverEphemeralPub"],
            &got["senderEphemeralPub"],
            &got["sealedSeed"],
            &got["senderSignature"]
        ),
        (&json!("receiver"), &json!("sender"), &json!("sealed"), &json!("signed"))
    );
    ann.ask_for(410, Method::GET, &path, Value::Null).await;
    ann.ask_for(410, Method::POST, &put, upload()).await;
}

#[tokio::test]
async fn a_transfer_is_its_users_alone_and_three_an_hour() {
    let node = TestNode::start().await;
    let (ann, bob) = (node.person("ann").await, node.person("bob").await);
    let path = begin(&ann).await;
    bob.ask_for(403, Method::GET, &path, Value::Null).await;
    bob.ask_for(403, Method::POST, &format!("{path}/upload"), upload()).await;
    assert_eq!(bob.ask(Method::DELETE, &path, Value::Null).await.0, 200, "nothing of bob's was there");
    ann.ask_for(200, Method::POST, &format!("{path}/upload"), upload()).await;
    ann.ask_for(200, Method::DELETE, &path, Value::Null).await;
    ann.ask_for(410, Method::GET, &path, Value::Null).await;
    ann.ask_for(404, Method::GET, "/device-transfer/unknown", Value::Null).await;

    begin(&ann).await;
    begin(&ann).await;
    let body = json!({ "receiverEphemeralPub": "receiver" });
    let fourth = ann.ask(Method::POST, "/device-transfer", body).await;
    assert_eq!((fourth.0, &fourth.1["code"]), (429, &json!("too_many_requests")));
    begin(&bob).await;
}
