//! The other nodes: small servers in the driver's own process, each with a port and so a name of its own, that show
//! a manifest and the keys of any user, and say yes to every envelope. They do not verify what they get, since that
//! would be their time and not the node's; what is measured of verifying is the node's own inbox.
//!
//! Peers are addresses (`127.0.0.1:PORT`), not names: looking names up is the operating system's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use vellum_actors::{Clock, peer};
use vellum_protocol::server_request::INBOX_PATH;
use vellum_protocol::{Domain, Envelope, Manifest, SigningSecret};

use super::connection::{Connection, write_request};
use super::seed;

/// How long the sinks take a late revocation, as they say.
const WINDOW_SECONDS: u64 = 7 * 24 * 3600;
/// A connection that nothing comes from is closed after so long: thousands of them would be too many open files.
const QUIET: Duration = Duration::from_secs(5);
/// From so many sinks on, sooner: each has a port open already.
const CROWD: usize = 4_000;
const QUIET_IN_A_CROWD: Duration = Duration::from_secs(1);
/// Connections that bare sending has at once.
const SENDERS: usize = 128;

/// One of the other nodes.
#[derive(Clone)]
pub struct Sink {
    /// Its name.
    pub domain: Domain,
    /// The key that it signs its requests with.
    pub secret: SigningSecret,
    address: SocketAddr,
}

/// The other nodes. They end with the value.
pub struct Sinks {
    /// Those that answer.
    pub alive: Vec<Sink>,
    /// Names of nodes at which nobody listens.
    pub dead: Vec<Domain>,
    arrivals: Arc<AtomicUsize>,
    // Aborted when dropped.
    tasks: JoinSet<()>,
}

impl Sinks {
    /// Starts so many that answer, after `delay` each time, and makes names for so many that do not.
    ///
    /// # Errors
    /// When there are no ports for them.
    pub async fn start(alive: usize, dead: usize, delay: Duration) -> anyhow::Result<Self> {
        let arrivals = Arc::new(AtomicUsize::new(0));
        let mut sinks = Self { alive: Vec::new(), dead: Vec::new(), arrivals, tasks: JoinSet::new() };
        // Held until all ports are given out, so that none is given twice.
        let mut closed = Vec::new();
        for number in 0..alive + dead {
            let listener = TcpListener::bind("127.0.0.1:0").await.context("a port for a peer")?;
            let address = listener.local_addr()?;
            let domain = Domain::parse(&address.to_string())?;
            if number >= alive {
                sinks.dead.push(domain);
                closed.push(listener);
                continue;
            }
            // By its name: a port that is given out again is the same node again, with the key that is pinned.
            let secret = SigningSecret::from_seed(Sha256::digest(domain.as_str()).into());
            let sink = Sink { domain, secret, address };
            let quiet = if alive < CROWD { QUIET } else { QUIET_IN_A_CROWD };
            let answers = Answers::of(&sink, delay, quiet, Arc::clone(&sinks.arrivals))?;
            sinks.tasks.spawn(listen(listener, Arc::new(answers)));
            sinks.alive.push(sink);
        }
        Ok(sinks)
    }

    /// How many envelopes have come so far.
    #[must_use]
    pub fn arrived(&self) -> usize {
        self.arrivals.load(Ordering::Relaxed)
    }

    /// Waits until so many have come.
    ///
    /// # Errors
    /// When they do not come in time.
    pub async fn wait_for(&self, count: usize, patience: Duration) -> anyhow::Result<()> {
        let started = Instant::now();
        while self.arrived() < count {
            ensure!(started.elapsed() < patience, "only {} of {count} have arrived", self.arrived());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

/// What a sink answers.
struct Answers {
    manifest: String,
    user_document: Box<dyn Fn(&str) -> String + Send + Sync>,
    delay: Duration,
    quiet: Duration,
    arrivals: Arc<AtomicUsize>,
}

impl Answers {
    fn of(sink: &Sink, delay: Duration, quiet: Duration, arrivals: Arc<AtomicUsize>) -> anyhow::Result<Self> {
        let manifest = Manifest::of_this_node(sink.domain.clone(), sink.secret.public(), WINDOW_SECONDS);
        let (domain, keys) = (sink.domain.clone(), seed::keys(1)?);
        let user_document = move |alias: &str| {
            let document = serde_json::json!({
                "handle": format!("{alias}@{domain}"),
                "signingKey": keys.signing,
                "encryptionKey": keys.encryption,
                "inbox": format!("http://{domain}{INBOX_PATH}"),
            });
            document.to_string()
        };
        let manifest = serde_json::to_string(&manifest)?;
        Ok(Self { manifest, user_document: Box::new(user_document), delay, quiet, arrivals })
    }

    async fn answer(&self, head: &str) -> (&'static str, String) {
        let path = head.split(' ').nth(1).unwrap_or_default();
        if path == INBOX_PATH {
            if !self.delay.is_zero() {
                tokio::time::sleep(self.delay).await;
            }
            self.arrivals.fetch_add(1, Ordering::Relaxed);
            return ("202 Accepted", r#"{"success":true}"#.to_owned());
        }
        match path.strip_prefix("/.well-known/user/") {
            Some(alias) => ("200 OK", (self.user_document)(alias)),
            None => ("200 OK", self.manifest.clone()),
        }
    }
}

async fn listen(listener: TcpListener, answers: Arc<Answers>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(converse(stream, Arc::clone(&answers)));
        while connections.try_join_next().is_some() {}
    }
}

/// Answers requests until the other side closes or says nothing more.
async fn converse(mut stream: TcpStream, answers: Arc<Answers>) {
    let mut received = Vec::with_capacity(2048);
    if stream.set_nodelay(true).is_err() {
        return;
    }
    loop {
        if let Some((head, length)) = request(&received) {
            let (status, body) = answers.answer(&head).await;
            received.drain(..length);
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
            continue;
        }
        match tokio::time::timeout(answers.quiet, stream.read_buf(&mut received)).await {
            Ok(Ok(1..)) => {}
            _ => return,
        }
    }
}

/// The head of the first request, once that is whole, and the length of all of it.
fn request(received: &[u8]) -> Option<(String, usize)> {
    let end = received.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let whole = end + 4 + length.unwrap_or(0);
    (received.len() >= whole).then_some((head, whole))
}

/// An envelope as a request to an inbox, signed by the sending server, with more headers: what a
/// node does for each attempt, and what a proxy adds.
#[must_use]
pub fn signed_request(
    secret: &SigningSecret,
    from: &Domain,
    to: &Domain,
    envelope: &Envelope,
    more: &[(&str, &str)],
) -> Vec<u8> {
    let (headers, body) = peer::signed_request(secret, from, to, envelope, Clock::system().now());
    let signed = headers.iter().map(|(name, value)| (*name, value.as_str()));
    let headers: Vec<(&str, &str)> = signed.chain(more.iter().copied()).collect();
    let mut request = Vec::new();
    write_request(&mut request, &format!("POST {INBOX_PATH}"), &headers, body.as_bytes());
    request
}

/// What sending costs without a node: signs and posts `each` messages to every sink, as many at a time to one sink as
/// `lanes` says, on a thread of its own beside the one that the sinks run on. Gives how long it took.
///
/// # Errors
/// When a sink does not answer as it should.
pub async fn send_bare(
    sinks: &Sinks,
    envelope: &Envelope,
    each: usize,
    lanes: usize,
) -> anyhow::Result<(usize, Duration)> {
    let lanes = lanes.min(each).max(1);
    let each_lane = each.div_ceil(lanes);
    let all: Vec<&Sink> = sinks.alive.iter().flat_map(|sink| vec![sink; lanes]).collect();
    let count = all.len() * each_lane;
    // Few peers: every lane at once. Many: each sender takes one after the other.
    let mut senders: Vec<Vec<Sink>> = vec![Vec::new(); all.len().min(SENDERS)];
    let tasks = senders.len();
    for (number, sink) in all.into_iter().enumerate() {
        senders[number % tasks].push(sink.clone());
    }
    let envelope = envelope.clone();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let started = Instant::now();
            let mut tasks = JoinSet::new();
            for sinks in senders {
                tasks.spawn(send_all(sinks, envelope.clone(), each_lane));
            }
            while let Some(sent) = tasks.join_next().await {
                sent??;
            }
            anyhow::Ok((count, started.elapsed()))
        })
    };
    tokio::task::spawn_blocking(run).await.context("the thread that sends")?
}

async fn send_all(sinks: Vec<Sink>, envelope: Envelope, each: usize) -> anyhow::Result<()> {
    let (secret, from) = (SigningSecret::from_seed([5; 32]), Domain::parse("localhost")?);
    for sink in sinks {
        let mut connection = Connection::open(sink.address).await?;
        for _ in 0..each {
            let request = signed_request(&secret, &from, &sink.domain, &envelope, &[]);
            let answer = connection.exchange(&request).await?;
            answer.expect(202, r#""success":true"#).map_err(|reason| anyhow!(reason))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_once_it_is_whole() {
        let bytes = b"POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET";
        for end in 0..bytes.len() - 3 {
            assert_eq!(request(&bytes[..end]), None);
        }
        let (head, length) = request(bytes).unwrap();
        assert!(head.starts_with("POST /x "));
        assert_eq!(length, bytes.len() - 3);
    }
}
