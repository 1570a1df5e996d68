//! A server that answers one request after another with what a test has written down, and keeps what it was
//! asked. It stands for a node where only the client's side is of interest.

use std::collections::HashMap;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One answer.
pub struct Reply {
    status: u16,
    headers: String,
    body: String,
    silent: bool,
}

impl Reply {
    /// An answer with a JSON body.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::text(status, &body.to_string())
    }

    /// An answer with any body.
    pub fn text(status: u16, body: &str) -> Self {
        Self { status, headers: String::new(), body: body.to_owned(), silent: false }
    }

    /// No answer at all: the connection stays open.
    pub fn silence() -> Self {
        Self { silent: true, ..Self::text(200, "") }
    }

    /// The same with one more header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }
}

/// One request, as it came.
#[derive(Debug)]
pub struct Request {
    /// Method and path, such as `GET /friends`.
    pub line: String,
    /// By name in lower case.
    pub headers: HashMap<String, String>,
    /// [`Value::Null`] without a body.
    pub body: Value,
}

/// The server.
pub struct ScriptedNode {
    /// Where it listens.
    pub origin: String,
    requests: JoinHandle<Vec<Request>>,
}

impl ScriptedNode {
    /// Starts it on a free port of this machine.
    pub async fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let requests = tokio::spawn(async move {
            let mut requests = Vec::new();
            let mut unanswered = Vec::new();
            for reply in replies {
                let (mut stream, _) = listener.accept().await.unwrap();
                requests.push(read_request(&mut stream).await);
                if reply.silent {
                    unanswered.push(stream);
                    continue;
                }
                let Reply { status, headers, body, .. } = reply;
                // A connection per request: the client must not need more.
                let length =
                    if status == 204 { String::new() } else { format!("content-length: {}\r\n", body.len()) };
                let head = format!("HTTP/1.1 {status} X\r\n{length}connection: close\r\n{headers}\r\n");
                stream.write_all((head + &body).as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
            if !unanswered.is_empty() {
                // Dropping the connections would be an answer.
                std::future::pending::<()>().await;
            }
            requests
        });
        Self { origin, requests }
    }

    /// What it was asked, once every reply is given. With a silent one among them it never ends.
    pub async fn requests(self) -> Vec<Request> {
        self.requests.await.unwrap()
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Request {
    let mut reader = BufReader::new(stream);
    let first = read_line(&mut reader).await;
    let line = first.trim_end_matches(" HTTP/1.1").to_owned();
    let mut headers = HashMap::new();
    loop {
        let header = read_line(&mut reader).await;
        let Some((name, value)) = header.split_once(": ") else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.unwrap();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    Request { line, headers, body }
}

async fn read_line(reader: &mut (impl AsyncBufReadExt + Unpin)) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).await.unwrap();
    line.trim_end().to_owned()
}
