//! The attacker opens connections and sends their heads a byte at a time. He would occupy the node until nobody
//! else is served. What stops him: a head has ten seconds, and waiting for it occupies no thread.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{TestNode, plain_http};

#[tokio::test(flavor = "multi_thread")]
async fn slow_heads_occupy_nobody_and_are_cut_off() {
    let node = TestNode::start().await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(("127.0.0.1", node.process.port())).await.unwrap();
        stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\nx-slow: ").await.unwrap();
        slow.push(stream);
    }
    let begun = Instant::now();
    let answer = plain_http().get(format!("{}/health/live", node.process.origin())).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(begun.elapsed() < Duration::from_secs(2), "others are served meanwhile");
    let mut watched = slow.remove(0);
    let cut = async {
        let mut buffer = [0; 512];
        loop {
            // A write may still succeed after the other side has closed; the read tells.
            let _ = watched.write_all(b"a").await;
            let read = tokio::time::timeout(Duration::from_millis(500), watched.read(&mut buffer)).await;
            if let Ok(Ok(0) | Err(_)) = read {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(25), cut).await.expect("a slow head is cut off");
}
