//! The attacker sits behind the same proxy as others and sends a request whose length can be read in two ways. He
//! would have the proxy and the node disagree about where it ends, and slip a request into somebody else's
//! connection. What stops him: such a request is refused, and its connection closed.

use super::raw;
use crate::support::TestNode;

/// Answers in what was said, beyond the first.
fn answers(said: &str) -> usize {
    said.matches("HTTP/1.1 ").count()
}

#[tokio::test]
async fn a_request_with_two_lengths_is_refused_and_nothing_behind_it_is_read() {
    let node = TestNode::start().await;
    let smuggled = "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";
    let honest = raw(&node, format!("{smuggled}{smuggled}").as_bytes()).await;
    assert_eq!(answers(&honest), 2, "two honest requests on one connection are answered: {honest}");
    for head in [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "content-length: 0\r\ncontent-length: 45",
        "content-length: 4, 5",
        "content-length: +4",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: xchunked",
        "content-length : 4",
    ] {
        let request = format!("POST /auth/verify HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n0\r\n\r\n{smuggled}");
        let said = raw(&node, request.as_bytes()).await;
        assert!(!said.contains("{\"status\":\"ok\"}"), "{head}: the smuggled request was answered: {said}");
    }
}
