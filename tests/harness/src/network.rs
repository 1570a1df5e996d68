//! The network between nodes: where each node is said to be, this listens, and passes requests on to it, or does not.
//! Who sends is found out from the system's table of connections, so every pair of nodes has a link of its own with its
//! own faults, in either direction. All that passes is written into the ledger.
//!
//! People reach their nodes past this.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use rand::RngExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::ledger::{EnvelopeName, Invariant, Ledger};
use crate::plan::NODES;
use crate::wire::HttpMessage;

/// How long an attempt that its node has given up may take to be seen as such.
const CLOSING: Duration = Duration::from_millis(100);

/// What happens to requests from one node to another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Link {
    /// Nothing gets through.
    pub cut: bool,
    /// What does not get through gets no answer either.
    pub hang: bool,
    /// How many of a hundred are lost, or their answers.
    pub lossy: u8,
    /// How much longer they may take, in milliseconds.
    pub slow: u64,
    /// Whether messages arrive twice.
    pub repeat: bool,
}

#[derive(Debug, Default)]
struct NodeAddress {
    port: u16,
    pid: Option<u32>,
}

/// The network.
#[derive(Debug)]
pub struct Network {
    ports: [u16; NODES],
    nodes: Mutex<[NodeAddress; NODES]>,
    links: watch::Sender<[[Link; NODES]; NODES]>,
    ledger: Arc<Ledger>,
}

impl Network {
    /// A network without faults, that leads nowhere yet.
    ///
    /// # Errors
    /// When no ports can be had.
    pub async fn start(ledger: Arc<Ledger>) -> anyhow::Result<Arc<Self>> {
        let mut listeners = Vec::new();
        let mut ports = [0; NODES];
        for port in &mut ports {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            *port = listener.local_addr()?.port();
            listeners.push(listener);
        }
        let links = watch::Sender::new(Default::default());
        let network = Arc::new(Self { ports, nodes: Mutex::default(), links, ledger });
        for (node, listener) in listeners.into_iter().enumerate() {
            // It ends with the process, or when the last connection of a world that is gone ends.
            tokio::spawn(listen(Arc::downgrade(&network), node, listener));
        }
        Ok(network)
    }

    /// Where the world believes a node to be.
    #[must_use]
    pub fn origin(&self, node: usize) -> String {
        format!("http://localhost:{}", self.ports[node])
    }

    /// Where a node really is, and which process it is.
    pub fn lead_to(&self, node: usize, port: u16, pid: Option<u32>) {
        if let Ok(mut nodes) = self.nodes.lock() {
            nodes[node] = NodeAddress { port, pid };
        }
    }

    /// Changes links.
    pub fn set(&self, change: impl FnOnce(&mut [[Link; NODES]; NODES])) {
        self.links.send_modify(change);
    }

    /// Puts everything right.
    pub fn heal(&self) {
        self.set(|links| *links = Default::default());
    }

    fn link(&self, from: Option<usize>, to: usize) -> Link {
        from.map_or_else(Link::default, |from| self.links.borrow()[from][to])
    }

    /// The node that a connection to a node's port comes from.
    fn sender(&self, peer_port: u16, to: usize) -> Option<usize> {
        let pids: Vec<_> = self.nodes.lock().ok()?.iter().map(|node| node.pid).collect();
        let socket = format!("socket:[{}]", inode(peer_port, self.ports[to])?);
        pids.into_iter().position(|pid| pid.is_some_and(|pid| holds(pid, &socket)))
    }

    /// One connection, until either side ends it or a fault does.
    async fn pass(&self, mut stream: TcpStream, to: usize) -> anyhow::Result<()> {
        let peer_port = stream.peer_addr()?.port();
        let from = self.sender(peer_port, to);
        self.ledger
            .count("network", if from.is_some() { "connections" } else { "connections of unknown origin" });
        while let Some(request) = read_request(&mut stream).await? {
            let link = self.link(from, to);
            let message = Message::of(&request);
            if let Some(message) = &message {
                self.note_sent(from, message, &mut stream).await;
            }
            if link.cut {
                self.ledger.count("network", "requests refused");
                if link.hang {
                    self.healed(link, from, to).await;
                }
                return Ok(());
            }
            self.dawdle(link).await;
            if self.loses(link) {
                self.ledger.count("network", "requests lost");
                return Ok(());
            }
            let answer = self.ask(to, &request).await?;
            if let Some(message) = message {
                self.note_answer(to, &message, &answer);
                if link.repeat {
                    self.ledger.count("network", "messages repeated");
                    let again = self.ask(to, &request).await?;
                    self.note_answer(to, &message, &again);
                }
            }
            if self.loses(link) {
                self.ledger.count("network", "answers lost");
                return Ok(());
            }
            stream.write_all(&answer.raw).await?;
        }
        Ok(())
    }

    async fn dawdle(&self, link: Link) {
        if link.slow > 0 {
            let ms = rand::rng().random_range(0..link.slow);
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }

    fn loses(&self, link: Link) -> bool {
        link.lossy > 0 && rand::rng().random_range(0..200) < u32::from(link.lossy)
    }

    async fn healed(&self, link: Link, from: Option<usize>, to: usize) {
        let mut links = self.links.subscribe();
        // An error means that the network is gone.
        let _ = links.wait_for(|links| from.is_none_or(|from| links[from][to] != link)).await;
    }

    /// On a connection of its own: one that a node has closed meanwhile would look like a fault of the network.
    async fn ask(&self, to: usize, request: &HttpMessage) -> anyhow::Result<HttpMessage> {
        let port = self.nodes.lock().map_or(0, |nodes| nodes[to].port);
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
        stream.write_all(&request.raw).await?;
        HttpMessage::read(&mut stream).await?.context("the node closed the connection")
    }

    async fn note_sent(&self, from: Option<usize>, message: &Message, stream: &mut TcpStream) {
        self.ledger.count("network", "messages sent");
        let Some(from) = from else { return };
        self.ledger.sent(from, &message.envelope);
        if self.ledger.is_discarded(&message.envelope.nonce) {
            // It may have been sent, and been given up, just before. Then nobody waits for an answer.
            let mut byte = [0];
            let given_up = tokio::time::timeout(CLOSING, stream.read(&mut byte)).await;
            self.ledger.check(Invariant::DiscardIsFinal, given_up.is_ok(), || {
                let EnvelopeName { from, to, .. } = &message.envelope;
                format!("a revocation from {from} for {to} was sent after its discard had been answered")
            });
        }
    }

    fn note_answer(&self, to: usize, message: &Message, answer: &HttpMessage) {
        if answer.status() == Some(202) {
            self.ledger.count("network", "messages accepted");
            self.ledger.accepted(to, &message.transport_nonce);
        } else {
            self.ledger.count("network", "messages refused");
        }
    }
}

/// A message between people, in a request.
#[derive(Debug)]
struct Message {
    envelope: EnvelopeName,
    transport_nonce: String,
}

impl Message {
    fn of(request: &HttpMessage) -> Option<Self> {
        if !request.first_line.starts_with("POST /federation/inbox ") {
            return None;
        }
        let body: serde_json::Value = serde_json::from_slice(&request.body).ok()?;
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        Some(Self {
            envelope: EnvelopeName {
                from: text("from"),
                to: text("to"),
                nonce: text("nonce"),
                signature: text("signature"),
            },
            transport_nonce: request.header("x-parchment-nonce")?.to_owned(),
        })
    }
}

async fn listen(network: std::sync::Weak<Network>, node: usize, listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let Some(network) = network.upgrade() else { return };
        tokio::spawn(async move {
            // Connections break here all the time; that is what the network is for.
            let _ = network.pass(stream, node).await;
        });
    }
}

/// A node waits for an answer before it asks again, so nothing of a next request is read along with this one.
async fn read_request(stream: &mut TcpStream) -> anyhow::Result<Option<HttpMessage>> {
    HttpMessage::read(&mut BufReader::new(stream)).await
}

/// The kernel's number of the socket on this machine that is connected from one port to another.
fn inode(from: u16, to: u16) -> Option<String> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let (local, remote) = (format!("0100007F:{from:04X}"), format!("0100007F:{to:04X}"));
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1) == Some(&local.as_str()) && fields.get(2) == Some(&remote.as_str()))
            .then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    })
}

fn holds(pid: u32, socket: &str) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()).any(|target| target.to_str() == Some(socket))
}
