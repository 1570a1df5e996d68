//! The attacker sends a few kilobytes that unpack to a thousand times as many, as a request or,
//! being another node, as an answer. He would fill the node's memory. What stops him: packed
//! requests are refused and not unpacked, and answers are not asked for packed, and one that comes
//! packed is unpacked up to the length that is read.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use vellum_client::http::Method;

use super::{peak_memory, server};
use crate::support::{TestNode, plain_http};

/// These bytes, packed, behind so many spaces, which JSON allows.
fn packed(json: &str, spaces: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![b' '; spaces]).unwrap();
    encoder.write_all(json.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

async fn post(node: &TestNode, path: &str, encoding: &str, body: &[u8]) -> (u16, Value) {
    let request = plain_http().post(format!("{}{path}", node.process.origin()));
    let request = request.header("content-type", "application/json").header("content-encoding", encoding);
    let answer = request.body(body.to_vec()).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packed_request_is_refused_and_not_unpacked() {
    let node = TestNode::start().await;
    let honest = json!({ "email": "ann@people.example" }).to_string();
    assert_eq!(post(&node, "/auth/verify", "identity", honest.as_bytes()).await.0, 201);
    let bomb = packed(&honest, 60 << 20);
    assert!(bomb.len() < 64 * 1024, "as packed it is within the limit: {}", bomb.len());
    let before = peak_memory(&node);
    for path in ["/auth/verify", "/federation/inbox"] {
        for encoding in ["gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip", "x-gzip"] {
            for body in [packed(&honest, 0), bomb.clone()] {
                let (status, answer) = post(&node, path, encoding, &body).await;
                assert_eq!(
                    (status, &answer["code"]),
                    (415, &json!("unsupported_media_type")),
                    "{path} {encoding}: {answer}"
                );
            }
        }
    }
    let grown = peak_memory(&node) - before;
    assert!(grown < 40_000, "{grown} kB more, and one bomb is 60 MB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packed_answer_of_another_node_is_not_asked_for_and_unpacked_up_to_its_limit() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    let manifest = |port: u16| {
        json!({
            "server_id": format!("localhost:{port}"), "protocol_versions": [2], "capabilities": [],
            "public_key": vellum_client::MasterSeed::from_bytes([7; 32]).signing_secret().public(),
        })
        .to_string()
    };
    let hostile = server(move |port, head| {
        let head = head.to_ascii_lowercase();
        assert!(head.contains("accept-encoding: identity\r\n"), "asked for a packed answer: {head}");
        let body = packed(&manifest(port), 60 << 20);
        let length = body.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: {length}\r\n\r\n"
        );
        [head.as_bytes(), &body].concat()
    })
    .await;
    let before = peak_memory(&node);
    let path = format!("/friends/resolve/bob@localhost:{}", hostile.port);
    let (status, answer) = ann.ask(Method::GET, &path, Value::Null).await;
    assert_eq!((status, &answer["code"]), (502, &json!("peer_unreachable")), "{answer}");
    assert_eq!(hostile.heads().len(), 1, "it was asked for its manifest and for nothing more");
    assert!(answer.to_string().contains("65536"), "it says the limit: {answer}");
    let grown = peak_memory(&node) - before;
    assert!(grown < 40_000, "{grown} kB more, and the bomb is 60 MB");
}

/// What a node named `own` answers, packed by gzip, with a header that names this encoding.
fn packed_document(own: &str, head: &str, encoding: &str) -> Vec<u8> {
    let seed = vellum_client::MasterSeed::from_bytes([7; 32]);
    let document = if head.contains("parchment-server") {
        json!({
            "server_id": own, "protocol_versions": [2], "capabilities": [],
            "public_key": seed.signing_secret().public(),
        })
    } else {
        json!({
            "handle": format!("bob@{own}"), "signingKey": seed.signing_secret().public(),
            "encryptionKey": seed.encryption_key(), "inbox": format!("http://{own}/federation/inbox"),
        })
    };
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: {encoding}\r\n\r\n");
    [head.as_bytes(), &packed(&document.to_string(), 0)].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_answer_that_comes_packed_unasked_is_read() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    for (encoding, read) in [("gzip", true), ("X-Gzip", true), ("br", false), ("gzip, gzip", false)] {
        let peer =
            server(move |port, head| packed_document(&format!("localhost:{port}"), head, encoding)).await;
        let path = format!("/friends/resolve/bob@localhost:{}", peer.port);
        let (status, answer) = ann.ask(Method::GET, &path, Value::Null).await;
        assert_eq!(status, if read { 200 } else { 502 }, "{encoding}: {answer}");
        assert!(read || answer["message"].as_str().unwrap().ends_with(encoding), "it names it: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_end_is_read_up_to_its_limit() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    let endless = server(|_, _| {
        let mut answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n".to_vec();
        answer.resize(60 << 20, b' ');
        answer
    })
    .await;
    let before = peak_memory(&node);
    let path = format!("/friends/resolve/bob@localhost:{}", endless.port);
    let (status, answer) = ann.ask(Method::GET, &path, Value::Null).await;
    assert_eq!(status, 502, "{answer}");
    assert!(answer.to_string().contains("65536"), "it says the limit: {answer}");
    let grown = peak_memory(&node) - before;
    assert!(grown < 40_000, "{grown} kB more, and the answer is 60 MB");
}
