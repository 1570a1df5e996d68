//! Attacks on a running node, a file each, named after the attack. Each begins with what the attacker has, what he
//! would gain, and what stops him; and each shows first that the honest request works, so that it cannot hold
//! for the wrong reason. What the inbox answers to each spoilt request, word for word, is in `inbox.rs`.

mod another_users_things;
mod changed_key;
mod client_address;
mod code_guessing;
mod cross_protocol;
mod cross_site_requests;
mod deep_json;
mod dns_rebinding;
mod email_enumeration;
mod filling_the_disk;
mod flood_of_invitations;
mod flood_of_senders;
mod foreign_pages;
mod forged_points;
mod header_smuggling;
mod hostile_texts;
mod huge_bodies;
mod huge_nonces;
mod log_injection;
mod look_alikes;
mod made_up_peers;
mod mass_assignment;
mod new_keys_of_friends;
mod path_tricks;
mod planted_files;
mod replays;
mod session_fixation;
mod sign_in_flood;
mod slow_documents;
mod slow_loris;
mod speaking_for_others;
mod ssrf;
mod stale_device;
mod stolen_session;
mod taken_names;
#[cfg(debug_assertions)] // A release's clock cannot be put wrong.
mod wrong_clock;
mod zip_bomb;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

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

/// The most memory that the node has ever had, in kilobytes.
fn peak_memory(node: &TestNode) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.process.pid().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A server that answers every request with what it is told to: whatever an attacker's node might say.
struct Hostile {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Hostile {
    /// The heads of all requests so far.
    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// Starts one on this machine. `answer` is given its port and the head of a request, and gives all bytes of the answer.
async fn server(answer: impl Fn(u16, &str) -> Vec<u8> + Send + Sync + 'static) -> Hostile {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heads, answer) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(answer));
    let kept = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
            tokio::spawn(async move {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).await.is_ok() {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                kept.lock().unwrap().push(head.clone());
                // Whoever has read enough has closed already.
                let _ = stream.write_all(&answer(port, &head)).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    Hostile { port, heads }
}
