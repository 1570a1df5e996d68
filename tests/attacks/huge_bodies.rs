//! The attacker has an account, or none, and sends bodies that are small as bytes and huge in
//! memory, or many that never end. He would fill the node's memory, or take the places of
//! everybody's requests. What stops him: a bound on the values of a body before anything is built
//! of it, and bounds on the bytes of bodies that are held at once: for all, for each user, and for
//! each address without a session.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use vellum_client::http::Method;

use super::peak_memory;
use crate::support::{Person, TestNode, plain_http, wait_for};

const KIB: usize = 1024;

async fn put(node: &TestNode, person: &Person, body: Vec<u8>) -> (u16, Option<String>, Value) {
    let request = plain_http().put(format!("{}/me/blobs/t", node.process.origin()));
    let request = request.bearer_auth(person.client.token().unwrap().expose());
    let answer = request.header("content-type", "application/json").body(body).send().await.unwrap();
    let wait = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    (answer.status().as_u16(), wait, answer.json().await.unwrap_or_default())
}

/// A body with an ignored member that has so many values, itself among them.
fn with_values(values: usize) -> Vec<u8> {
    let numbers = vec!["0"; values - 1].join(",");
    format!("{{\"encryptedBlob\":\"AgE=\",\"ignored\":[{numbers}]}}").into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_millions_of_values_costs_no_more_memory_than_its_bytes() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    let mut bomb = b"{\"encryptedBlob\":\"AgE=\",\"ignored\":[".to_vec();
    while bomb.len() < 16 * KIB * KIB - 10 {
        bomb.extend_from_slice(b"[0],");
    }
    bomb.extend_from_slice(b"[0]]}");
    assert!(bomb.len() < 16 * KIB * KIB, "it is within the limit for a blob");
    let before = peak_memory(&node);
    let ((first, _, answer), (second, _, _)) =
        tokio::join!(put(&node, &ann, bomb.clone()), put(&node, &ann, bomb));
    assert_eq!((first, &answer["code"]), (413, &json!("too_many_values")), "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("100000"), "it says the limit: {answer}");
    assert_eq!(second, 413);
    let grown = peak_memory(&node) - before;
    assert!(grown < 200_000, "{grown} kB more for two bodies of 16 MiB; a tree of one took 720 MB");
}

#[tokio::test]
async fn a_hundred_thousand_values_are_the_most_wherever_they_are() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    // The object, its first member, and the others.
    let (status, _, answer) = put(&node, &ann, with_values(99_998)).await;
    assert_eq!(status, 200, "{answer}");
    let (status, _, answer) = put(&node, &ann, with_values(99_999)).await;
    assert_eq!((status, &answer["code"]), (413, &json!("too_many_values")));
    // What is in a text is no value.
    let commas = json!({ "encryptedBlob": "[,{\\\",".repeat(100_000) }).to_string();
    let (status, _, answer) = put(&node, &ann, commas.into_bytes()).await;
    assert_eq!(status, 200, "{answer}");
    let empty = format!("{{\"encryptedBlob\":\"AgE=\",\"ignored\":[{}]}}", vec!["[ ]"; 99_997].join(","));
    let (status, _, answer) = put(&node, &ann, empty.into_bytes()).await;
    assert_eq!(status, 200, "an empty array is one value: {answer}");
    let body = format!("{{\"items\":[{}0]}}", "0,".repeat(100_000));
    let request = plain_http().post(format!("{}/users/me/revocations/flush", node.process.origin()));
    let request = request.bearer_auth(ann.client.token().unwrap().expose());
    let answer = request.header("content-type", "application/json").body(body).send().await.unwrap();
    assert_eq!(answer.status(), 413, "on every path");
}

/// Begins a request whose body does not end: so many bytes are stated, and so many sent.
async fn hold(
    node: &TestNode,
    head: &str,
    person: Option<&Person>,
    stated: Option<usize>,
    sent: usize,
) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", node.process.port())).await.unwrap();
    let bearer =
        person.map(|person| format!("authorization: Bearer {}\r\n", person.client.token().unwrap().expose()));
    let length =
        stated.map_or("transfer-encoding: chunked".into(), |stated| format!("content-length: {stated}"));
    let head = format!(
        "{head} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{}{length}\r\n\r\n",
        bearer.unwrap_or_default()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut body = vec![b' '; sent];
    if stated.is_none() {
        body = [format!("{sent:x}\r\n").into_bytes(), body, b"\r\n".to_vec()].concat();
    }
    // It may be refused before it is all sent.
    let _ = stream.write_all(&body).await;
    stream
}

/// Begins such a request for each of these, of which so many have to be refused: the others, which
/// are held.
async fn fill(
    node: &TestNode,
    head: &str,
    senders: &[Option<&Person>],
    (stated, sent): (Option<usize>, usize),
    refused: usize,
) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for sender in senders {
        streams.push(hold(node, head, *sender, stated, sent).await);
    }
    let mut left = refused;
    for _ in 0..400 {
        let mut silent = Vec::new();
        for stream in streams {
            let mut said = [0; 2048];
            match stream.try_read(&mut said) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => silent.push(stream),
                Err(error) => panic!("{error}"),
                Ok(count) => {
                    let said = String::from_utf8_lossy(&said[..count]).to_ascii_lowercase();
                    assert!(said.starts_with("http/1.1 503") && said.contains("retry-after: "), "{said}");
                    assert!(left > 0, "more than {refused} of {} are refused", senders.len());
                    left -= 1;
                }
            }
        }
        streams = silent;
        if left == 0 {
            return streams;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("of {} requests {} are refused, and {refused} should be", senders.len(), refused - left);
}

async fn node_with(all: usize, per_user: usize, per_address: usize) -> TestNode {
    TestNode::start_with(&[
        ("VELLUM_HTTP__LONGEST_UPLOAD", "131072"),
        ("VELLUM_HTTP__BODIES_IN_FLIGHT", &(all * KIB).to_string()),
        ("VELLUM_HTTP__BODIES_IN_FLIGHT_PER_USER", &(per_user * KIB).to_string()),
        ("VELLUM_HTTP__BODIES_IN_FLIGHT_PER_ADDRESS", &(per_address * KIB).to_string()),
    ])
    .await
}

/// A blob that takes 100 KiB.
fn blob() -> Vec<u8> {
    json!({ "encryptedBlob": "A".repeat(100 * KIB) }).to_string().into_bytes()
}

const PUT: &str = "PUT /me/blobs/t";

#[tokio::test(flavor = "multi_thread")]
async fn one_users_dripping_bodies_take_that_users_places_and_nobody_elses() {
    let node = node_with(4096, 256, 64).await;
    let (ann, ben) = (node.person("ann").await, node.person("ben").await);
    for stated in [Some(100 * KIB), None] {
        // What has come counts, and not what was stated.
        let sent = if stated.is_some() { 100 * KIB - 1 } else { 100 * KIB };
        let held = fill(&node, PUT, &[Some(&ann); 5], (stated, sent), 3).await;
        assert_eq!(held.len(), 2, "of 256 KiB, with {stated:?}");
        let (status, wait, answer) = put(&node, &ann, blob()).await;
        assert_eq!((status, &answer["code"]), (503, &json!("unavailable")), "{answer}");
        assert!(wait.unwrap().parse::<u64>().unwrap() > 0);
        assert_eq!(ann.ask(Method::GET, "/me/blobs", Value::Null).await.0, 200, "reading needs no place");
        for _ in 0..5 {
            let (status, _, answer) = put(&node, &ben, blob()).await;
            assert_eq!(status, 200, "another user's bodies: {answer}");
        }
        drop(held);
        wait_for(
            "a place is free again when the connection is gone",
            || put(&node, &ann, blob()),
            |seen| seen.0 == 200,
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_bodies_together_have_a_bound() {
    let node = node_with(600, 128, 64).await;
    let mut people = Vec::new();
    for alias in ["ann", "ben", "carol", "dora"] {
        people.push(node.person(alias).await);
    }
    let eve = node.person("eve").await;
    let senders: Vec<Option<&Person>> = people.iter().map(Some).collect();
    let held = fill(&node, PUT, &senders, (Some(128 * KIB), 128 * KIB - 1), 1).await;
    assert_eq!(held.len(), 3, "of 450 KiB, three quarters of all");
    let (status, wait, answer) = put(&node, &eve, blob()).await;
    assert!(status == 503 && wait.is_some(), "somebody who holds nothing: {status} {answer}");
    let small = json!({ "encryptedBlob": "AgE=" });
    assert_eq!(eve.ask(Method::PUT, "/me/blobs/t", small).await.0, 200, "there is room for a small one");
    drop(held);
    wait_for("there is room again", || put(&node, &eve, blob()), |seen| seen.0 == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_of_one_address_have_a_bound_of_their_own() {
    let node = node_with(4096, 256, 192).await;
    let ann = node.person("ann").await;
    for head in ["POST /auth/verify", "POST /federation/inbox"] {
        let held = fill(&node, head, &[None; 5], (Some(60 * KIB), 60 * KIB - 1), 2).await;
        assert_eq!(held.len(), 3, "{head}: of 192 KiB");
        let (status, _, answer) = put(&node, &ann, blob()).await;
        assert_eq!(status, 200, "somebody with a session is not concerned: {answer}");
        drop(held);
        let email = json!({ "email": "ann@people.example" });
        wait_for(
            "strangers are served again",
            || async {
                node.client().request_json(Method::POST, "/auth/verify", Some(&email)).await.unwrap()
            },
            |seen| seen.0 == 201,
        )
        .await;
    }
}
