//! Attacks on a running node, a file each, named after the attack. Each begins with what the attacker has, what he
//! would gain, and what stops him; and each shows first that the honest request works, so that it cannot hold
//! for the wrong reason. Attacks on the federation protocol itself are in `inbox.rs` and `faults.rs` too.

mod another_users_things;
mod code_guessing;
mod cross_protocol;
mod cross_site_requests;
mod deep_json;
mod email_enumeration;
mod forged_points;
mod header_smuggling;
mod log_injection;
mod look_alikes;
mod mass_assignment;
mod path_tricks;
mod session_fixation;
mod slow_loris;
mod ssrf;
mod stolen_session;
mod zip_bomb;

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::TestNode;

/// Sends bytes as they are, and reads until the node closes the connection or is silent for two seconds.
async fn raw(node: &TestNode, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", node.process.port())).await.unwrap();
    // The node may have closed already: what it said is what counts.
    let _ = stream.write_all(bytes).await;
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(Ok(count @ 1..)) =
        tokio::time::timeout(Duration::from_secs(2), stream.read(&mut buffer)).await
    {
        said.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&said).into_owned()
}
