//! The attacker opens connections and sends their heads, or their bodies, a byte at a time. He would occupy the node
//! until nobody else is served. What stops him: a head has ten seconds and a body twenty (and the time for its
//! length), and waiting for either occupies no thread.

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

/// Sends a byte every now and then until the node says something or closes: what it said, and after how long.
async fn drip(stream: &mut TcpStream) -> (String, Duration) {
    let begun = Instant::now();
    let mut buffer = [0; 2048];
    loop {
        let _ = stream.write_all(b" ").await;
        let read = tokio::time::timeout(Duration::from_millis(500), stream.read(&mut buffer)).await;
        if let Ok(read) = read {
            let said = String::from_utf8_lossy(&buffer[..read.unwrap_or(0)]).into_owned();
            return (said, begun.elapsed());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_bodies_occupy_nobody_and_are_cut_off_with_408() {
    let node = TestNode::start().await;
    let open = async |head: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", node.process.port())).await.unwrap();
        let head = format!("POST {head}\r\nhost: x\r\ncontent-type: application/json\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    };
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut stream = open("/auth/verify HTTP/1.1").await;
        stream.write_all(b"content-length: 1000\r\n\r\n ").await.unwrap();
        slow.push(stream);
    }
    // Whoever does not say how long it gets is given the time for the longest.
    let mut without_length = open("/federation/inbox HTTP/1.1").await;
    without_length.write_all(b"transfer-encoding: chunked\r\n\r\n1\r\n \r\n").await.unwrap();
    let begun = Instant::now();
    let answer = plain_http().post(format!("{}/auth/verify", node.process.origin()));
    let answer = answer.json(&serde_json::json!({ "email": "ann@people.example" })).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    assert!(begun.elapsed() < Duration::from_secs(2), "others are served meanwhile");

    let ((said, after), silent) = tokio::join!(drip(&mut slow[0]), async {
        let mut said = [0; 2048];
        let read = tokio::time::timeout(Duration::from_secs(45), without_length.read(&mut said)).await;
        String::from_utf8_lossy(&said[..read.expect("silence is cut off too").unwrap()]).into_owned()
    });
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    assert!(after < Duration::from_secs(40), "{after:?}");
    assert!(silent.starts_with("HTTP/1.1 408"), "{silent}");
}

/// Its time by its length would be seventeen minutes.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_upload_that_stops_in_the_middle_is_cut_off() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    let mut stream = TcpStream::connect(("127.0.0.1", node.process.port())).await.unwrap();
    let token = ann.client.token().unwrap().expose().to_owned();
    let head = format!(
        "PUT /me/blobs/t HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: 16000000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b' '; 100_000]).await.unwrap();
    let mut said = [0; 2048];
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut said)).await;
    let said = String::from_utf8_lossy(&said[..read.expect("it is cut off").unwrap()]).into_owned();
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
}
