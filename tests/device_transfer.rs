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
    assert_eq!(ann.ask(Method::POST, &put, json!({})).await.0, 422);
    assert_eq!(ann.ask(Method::POST, &put, upload()).await.0, 200);
    assert_eq!(ann.ask(Method::POST, &put, upload()).await.0, 409);
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
    assert_eq!(ann.ask(Method::GET, &path, Value::Null).await.0, 410);
    assert_eq!(ann.ask(Method::POST, &put, upload()).await.0, 410);
}

#[tokio::test]
async fn a_transfer_is_its_users_alone_and_three_an_hour() {
    let node = TestNode::start().await;
    let (ann, bob) = (node.person("ann").await, node.person("bob").await);
    let path = begin(&ann).await;
    assert_eq!(bob.ask(Method::GET, &path, Value::Null).await.0, 403);
    assert_eq!(bob.ask(Method::POST, &format!("{path}/upload"), upload()).await.0, 403);
    assert_eq!(bob.ask(Method::DELETE, &path, Value::Null).await.0, 200, "nothing of bob's was there");
    assert_eq!(ann.ask(Method::POST, &format!("{path}/upload"), upload()).await.0, 200);
    assert_eq!(ann.ask(Method::DELETE, &path, Value::Null).await.0, 200);
    assert_eq!(ann.ask(Method::GET, &path, Value::Null).await.0, 410);
    assert_eq!(ann.ask(Method::GET, "/device-transfer/unknown", Value::Null).await.0, 404);

    begin(&ann).await;
    begin(&ann).await;
    let body = json!({ "receiverEphemeralPub": "receiver" });
    let fourth = ann.ask(Method::POST, "/device-transfer", body).await;
    assert_eq!((fourth.0, &fourth.1["code"]), (429, &json!("too_many_requests")));
    begin(&bob).await;
}
