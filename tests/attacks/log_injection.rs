//! The attacker sends texts with line ends and terminal codes where they are logged. He would forge lines in the
//! log, or take over the terminal of whoever reads it. What stops him: in JSON every event is one line, and
//! control characters are escaped.

use serde_json::Value;

use super::raw;
use crate::support::{TestNode, eventually};

#[tokio::test]
async fn whatever_is_sent_an_event_is_one_line_without_control_characters() {
    let node = TestNode::start_with(&[("VELLUM_LOG__FORMAT", "json"), ("VELLUM_LOG__FILTER", "trace")]).await;
    // Before it come the words for whoever starts a node for the first time.
    let begun = eventually("they are written", || async {
        let log = std::fs::read_to_string(node.process.log_path()).unwrap();
        log.contains("vellum user session --email").then_some(log.len())
    })
    .await;
    let forged = "{\\\"level\\\":\\\"ERROR\\\"}";
    for request in [
        format!("GET /x%0d%0a{forged} HTTP/1.1\r\nhost: x\r\nuser-agent: \x1b[31mred\r\n\r\n"),
        format!("GET /\u{1b}[2J HTTP/1.1\r\nhost: x\r\nuser-agent: a\tb\r\nx-forwarded-for: \x0b{forged}\r\n\r\n"),
        "POST /federation/inbox HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nx-parchment-server-id: a\x1b[0m\r\n\
         x-parchment-nonce: \x0c\r\ncontent-length: 2\r\n\r\n{}"
            .to_owned(),
        "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
    ] {
        raw(&node, request.as_bytes()).await;
    }
    let log = std::fs::read_to_string(node.process.log_path()).unwrap();
    assert!(log.contains("/health/live"), "requests are logged");
    for line in log[begun..].lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(event["level"].is_string(), "{line}");
        assert!(!line.contains(|c: char| c.is_control() && c != '\t'), "{line:?}");
    }
}
