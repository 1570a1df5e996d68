//! One trace from a client's request through the outbox into the receiving node, in logs and in what is
//! exported.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{TestNode, fields, plain_http, wait_for};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// What a collector was sent, each export as it came.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Vec<u8>>>>);

impl Collector {
    /// Listens on loopback; gives its address too.
    async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self::default();
        let kept = collector.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(kept.clone().take(stream));
            }
        });
        (collector, address)
    }

    async fn take(self, mut stream: TcpStream) {
        let mut read = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            read.extend_from_slice(&buffer[..count]);
            let Some(head) = read.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
            let length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            let end = head + 4 + length.unwrap().trim().parse::<usize>().unwrap();
            if read.len() >= end {
                assert!(text.starts_with("post /v1/traces "), "{text}");
                self.0.lock().unwrap().push(read.drain(..end).collect());
                let answer =
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer).await.unwrap();
            }
        }
    }

    fn holds(&self, bytes: &[u8]) -> bool {
        let exports = self.0.lock().unwrap();
        exports.iter().any(|export| export.windows(bytes.len()).any(|window| window == bytes))
    }
}

/// Two friends on two nodes that export to the collector; the first resets and flushes within [`TRACE`].
async fn flush_in_a_trace(collector: &str) -> (TestNode, TestNode) {
    let settings = [("VELLUM_TELEMETRY__OTLP_ENDPOINT", collector), ("VELLUM_LOG__FORMAT", "json")];
    let (one, two) = (TestNode::start_with(&settings).await, TestNode::start_with(&settings).await);
    let (mut ann, ben) = (one.person("ann").await, two.person("ben").await);
    ann.befriend(&ben).await;
    ann.client.reset_identity().await.unwrap();
    ann.new_keys().await;
    let mut item = fields(&ann.revocation(&ben.handle()));
    item["peerHandle"] = json!(ben.handle());
    let answer = plain_http()
        .post(format!("{}/users/me/revocations/flush", one.process.origin()))
        .bearer_auth(ann.client.token().unwrap().expose())
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"))
        .json(&json!({ "items": [item] }))
        .send()
        .await
        .unwrap();
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["results"][0]["delivered"], true, "{answer}");
    (one, two)
}

#[tokio::test]
async fn a_flushs_trace_goes_on_in_the_receiving_node() {
    let (collector, address) = Collector::start().await;
    let (one, two) = flush_in_a_trace(&address).await;
    let line_of = |node: &TestNode, message: &str| {
        let log = std::fs::read_to_string(node.process.log_path()).unwrap();
        let line = log.lines().find(|line| line.contains(message) && line.contains(TRACE)).map(str::to_owned);
        line.unwrap_or_else(|| panic!("no line says {message:?} within the trace:\n{log}"))
    };
    assert!(line_of(&one, "\"message\":\"delivered\"").contains("delivery_attempt"));
    let taken: Value = serde_json::from_str(&line_of(&two, "took an envelope")).unwrap();
    assert_eq!((&taken["message_type"], &taken["applied"]), (&json!("RELATIONSHIP_REVOKE"), &json!(true)));
    let trace = u128::from_str_radix(TRACE, 16).unwrap().to_be_bytes();
    let missing = || async {
        let mut parts = vec![b"delivery_attempt".as_slice(), b"POST /federation/inbox", &trace];
        parts.retain(|part| !collector.holds(part));
        parts.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect::<Vec<_>>()
    };
    wait_for("no part of the delivery's trace is missing", missing, Vec::is_empty).await;
}

#[tokio::test]
async fn a_collector_that_is_away_holds_nothing_up() {
    let held = TcpListener::bind("127.0.0.1:0").await.unwrap();
    flush_in_a_trace(&format!("http://{}", held.local_addr().unwrap())).await;
}

#[tokio::test]
async fn a_stranger_does_not_decide_what_is_exported() {
    // The second is one that a share of all ids would always contain.
    for trace in [TRACE, "00000000000000010000000000000001"] {
        for (ratio, exported) in [("0.000001", false), ("1", true)] {
            let (collector, address) = Collector::start().await;
            let settings = [
                ("VELLUM_TELEMETRY__OTLP_ENDPOINT", address.as_str()),
                ("VELLUM_TELEMETRY__SAMPLE_RATIO", ratio),
            ];
            let mut node = TestNode::start_with(&settings).await;
            let ask = plain_http().get(format!("{}/.well-known/parchment-server", node.process.origin()));
            let ask = ask.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
            assert_eq!(ask.send().await.unwrap().status(), 200);
            // The last spans are sent before it ends.
            node.process.stop().await.unwrap();
            let id = u128::from_str_radix(trace, 16).unwrap().to_be_bytes();
            assert_eq!(collector.holds(&id), exported, "{trace} at {ratio}");
        }
    }
}
