//! The attacker asks for paths with dots, encoded slashes and other spellings. He would read files, or reach a
//! resource around a check of its name. What stops him: nothing here is served from files, names are parsed into
//! types, and what is no name is not there.

use super::raw;
use crate::support::TestNode;

#[tokio::test]
async fn other_spellings_of_a_path_lead_nowhere() {
    let node = TestNode::start().await;
    node.person("ann").await;
    let get = async |path: &str| {
        raw(&node, format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await
    };
    assert!(get("/.well-known/user/ann").await.starts_with("HTTP/1.1 200"), "the honest path");
    for path in [
        "/.well-known/user/..%2f..%2fetc%2fpasswd",
        "/.well-known/user/%2e%2e/parchment-server",
        "/.well-known/user/../../etc/passwd",
        "/.well-known/user/ann%00",
        "/.well-known/user/ann%2f",
        "/.well-known/user/ann;x",
        "/.well-known/user/ann%20",
        "/.well-known//user/ann",
        "/docs/../../etc/passwd",
        "/docs/%2e%2e/%2e%2e/server.key",
        "//etc/passwd",
        "/metrics/",
        "/admin/../admin/queue",
    ] {
        let said = get(path).await;
        assert!(said.starts_with("HTTP/1.1 4"), "{path}: {said}");
        assert!(!said.contains("root:") && !said.contains("publicKey\":"), "{path}: {said}");
    }
}
