//! A measurement, not a test: a hundred thousand messages over two thousand peers, half of which are down.
//!
//! `cargo test --release --test black_box -- --ignored --nocapture a_hundred_thousand_messages`

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use vellum_protocol::SigningSecret;

use crate::support::{Database, TestNode};

const PEERS: usize = 2000;
const EACH: usize = 50;
/// What the kernel counts a process's time in.
const TICKS_A_SECOND: f64 = 100.0;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints memory, time and rate of a node with a long queue"]
async fn a_hundred_thousand_messages_over_two_thousand_peers_half_of_them_down() {
    let node = TestNode::start_with(&[("VELLUM_LOG__FILTER", "warn")]).await;
    let ann = node.person("ann").await;
    let database = Database::of(&node).await;
    node.process.run(&["queue", "pause"]).await.unwrap();
    // Held until all ports are given out, so that none is given twice.
    let mut down = Vec::new();
    for n in 0..PEERS {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let domain = format!("localhost:{}", listener.local_addr().unwrap().port());
        database.add_messages(&ann, &domain, EACH).await;
        if n % 2 == 0 {
            tokio::spawn(serve(domain, listener));
        } else {
            down.push(listener);
        }
    }
    drop(down);
    let pid = node.process.pid().unwrap();
    let all = database.count_messages().await;
    let started = Instant::now();
    node.process.run(&["queue", "resume"]).await.unwrap();
    let mut most_memory = 0;
    loop {
        most_memory = most_memory.max(memory_kib(pid));
        let left = database.count_messages().await;
        if left <= all / 2 || started.elapsed() > Duration::from_secs(600) {
            let (gone, took) = (all - left, started.elapsed());
            let rate = gone as f64 / took.as_secs_f64();
            println!("{gone} of {all} messages are gone after {took:.1?}: {rate:.0} a second");
            break;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    println!("most memory while it drained: {} MiB", most_memory / 1024);
    // The pauses between probes grow: what is idle work shows after some minutes.
    let mut idle = 1.0;
    for _ in 0..12 {
        let (before, since) = (ticks(pid), Instant::now());
        tokio::time::sleep(Duration::from_secs(20)).await;
        let share = (ticks(pid) - before) / TICKS_A_SECOND / since.elapsed().as_secs_f64();
        idle = share;
        println!("with half of it left, all of it for peers that are down: {:.1} % of a core", share * 100.0);
    }
    println!("memory then: {} MiB", memory_kib(pid) / 1024);
    assert!(most_memory < 200 * 1024, "{most_memory} KiB");
    assert!(idle < 0.2, "{idle} of a core");
}

/// A peer that says yes to everything.
async fn serve(domain: String, listener: TcpListener) {
    let key = SigningSecret::from_seed([7; 32]).public();
    let manifest =
        json!({ "server_id": domain, "public_key": key, "protocol_versions": [2], "capabilities": [] });
    let manifest = manifest.to_string();
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(converse(stream, manifest.clone()));
    }
}

async fn converse(mut stream: TcpStream, manifest: String) {
    let mut read = Vec::new();
    let mut buffer = vec![0; 8192];
    loop {
        let Ok(count) = stream.read(&mut buffer).await else { return };
        if count == 0 {
            return;
        }
        read.extend_from_slice(&buffer[..count]);
        let Some(head) = read.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
        let length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
        if read.len() < head + 4 + length {
            continue;
        }
        read.drain(..head + 4 + length);
        let (status, body) = if text.starts_with("get ") {
            ("200 OK", manifest.as_str())
        } else {
            ("202 Accepted", "{\"success\":true}")
        };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Time that the process has used, in ticks.
fn ticks(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()
}
