//! A user's devices: those with a wrap secret, which of them is in use, and how one is removed.

use serde_json::{Value, json};
use vellum_client::http::Method;

use crate::support::{Database, Person, TestNode};

const DAY: i64 = 86_400_000;

async fn secret(person: &Person, device: &str) -> (u16, Value) {
    let (status, body) =
        person.ask(Method::GET, &format!("/users/me/devices/{device}/wrap-secret"), Value::Null).await;
    (status, if status == 200 { body["secret"].clone() } else { body["code"].clone() })
}

async fn remove(person: &Person, device: &str) -> u16 {
    person.ask(Method::DELETE, &format!("/users/me/devices/{device}"), Value::Null).await.0
}

/// Signs somebody in by a code, from a device with a name or without.
async fn sign_in(node: &TestNode, person: &Person, device: Option<&str>) -> Person {
    let known = node.process.letters().len();
    person.client.request_code("ann@people.example").await.unwrap();
    let code = node.process.newest_code(known).await.unwrap();
    let mut body = json!({ "method": "otp", "email": "ann@people.example", "token": code });
    if let Some(device) = device {
        body["deviceId"] = json!(device);
    }
    let mut client = node.client();
    let (status, answer) = client.request_json(Method::POST, "/auth/sessions", Some(&body)).await.unwrap();
    assert_eq!(status, 201, "{answer}");
    client.set_token(Some(serde_json::from_value(answer["token"].clone()).unwrap()));
    Person::new(client)
}

/// The names of the devices, and the one that the person's session is on.
async fn devices(person: &Person) -> (Vec<String>, Option<String>) {
    let all = person.client.devices().await.unwrap();
    let current: Vec<_> = all.iter().filter(|device| device.current).collect();
    assert!(current.len() <= 1, "{all:?}");
    let current = current.first().map(|device| device.device_id.clone());
    (all.into_iter().map(|device| device.device_id).collect(), current)
}

#[tokio::test]
async fn a_session_learns_its_device_at_sign_in_or_when_it_reads_a_secret() {
    let node = TestNode::start().await;
    let ann = node.user("ann").await;
    assert_eq!(devices(&ann).await, (vec![], None));
    assert_eq!(secret(&ann, "ann-desk").await.0, 200);
    assert_eq!(secret(&ann, "ann-phone").await.0, 200);
    let both = vec!["ann-desk".to_owned(), "ann-phone".to_owned()];
    assert_eq!(devices(&ann).await, (both.clone(), Some("ann-phone".into())), "the last that it read for");

    let desk = sign_in(&node, &ann, Some("ann-desk")).await;
    assert_eq!(devices(&desk).await, (both.clone(), Some("ann-desk".into())), "as it said at sign-in");
    let other = sign_in(&node, &ann, None).await;
    assert_eq!(devices(&other).await, (both.clone(), None));
    assert_eq!(secret(&other, "ann-desk").await.0, 200);
    assert_eq!(devices(&other).await, (both.clone(), Some("ann-desk".into())));
    assert_eq!(devices(&ann).await, (both, Some("ann-phone".into())), "each session has its own");

    let ben = node.user("ben").await;
    assert_eq!(devices(&ben).await, (vec![], None), "another user's devices are not shown");
}

#[tokio::test]
async fn a_removed_device_has_no_secret_and_its_place_is_free() {
    let node = TestNode::start().await;
    let (ann, ben) = (node.user("ann").await, node.user("ben").await);
    let before = secret(&ann, "device-000").await;
    assert_eq!(secret(&ann, "device-000").await, before, "it stays as long as it is there");
    for n in 1..100 {
        assert_eq!(secret(&ann, &format!("device-{n:03}")).await.0, 200);
    }
    assert_eq!(secret(&ann, "device-100").await, (409, json!("too_many_devices")));
    assert_eq!(remove(&ben, "device-000").await, 404, "another user's device is not there for ben");
    assert_eq!(secret(&ann, "device-000").await, before);

    assert_eq!(remove(&ann, "device-000").await, 204);
    assert_eq!(remove(&ann, "device-000").await, 404);
    assert_eq!(devices(&ann).await.0.len(), 99);
    assert_eq!(secret(&ann, "device-100").await.0, 200, "one of the hundred places is free");
    assert_eq!(secret(&ann, "device-000").await, (409, json!("too_many_devices")));
    assert_eq!(remove(&ann, "device-100").await, 204);
    let after = secret(&ann, "device-000").await;
    assert_eq!(after.0, 200);
    assert_ne!(after, before, "what was sealed with the old one opens no more");

    let trail = ann.ask(Method::GET, "/users/me/audit", Value::Null).await.1;
    let removed = trail["data"].as_array().unwrap().iter().filter(|line| line["event"] == "device_removed");
    let removed: Vec<&Value> = removed.collect();
    assert_eq!(removed.len(), 2, "{trail}");
    assert!(removed.iter().all(|line| line["sessionId"].is_string() && line["ip"] == "127.0.0.1"), "{trail}");
}

#[tokio::test]
async fn the_time_of_a_devices_use_is_written_once_a_day() {
    let node = TestNode::start().await;
    let (ann, database) = (node.user("ann").await, Database::of(&node).await);
    let used = async || ann.client.devices().await.unwrap()[0].last_used_at.clone().unwrap();
    secret(&ann, "ann-desk").await;
    let first = used().await;
    for _ in 0..3 {
        secret(&ann, "ann-desk").await;
    }
    assert_eq!(used().await, first, "not for every reading");
    database.age_devices(DAY - 60_000).await;
    let aged = used().await;
    secret(&ann, "ann-desk").await;
    assert_eq!(used().await, aged, "within the day");
    database.age_devices(60_000).await;
    secret(&ann, "ann-desk").await;
    assert!(used().await.instant() >= first.instant(), "after a day it is written again");
}
