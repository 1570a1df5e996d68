//! Attacks on a node: what an attacker sends, on a thread of its own so that it takes no time from
//! those who measure. What honest people notice of it is measured in [`super::scenarios`].
//!
//! Every attack has a bound on its connections and its rate, ends with its time, and stays on this
//! machine.

mod honest;
mod hostile;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rand::RngExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use vellum_protocol::Handle;

use super::connection::{Connection, write_request};
pub use honest::Honest;
use hostile::Hostile;

/// Requests a second of a flood, and the connections that it has.
const FLOOD: (f64, usize) = (1_000.0, 32);
/// Messages that the node is to ask about a sender for, at once.
const DRIPPING_SENDERS: usize = 525;
/// Handles that one user resolves at once, each at another node.
const DRIPPING_PEERS: usize = 560;
/// Bodies of many values at once.
const LARGE_BODIES: usize = 4;
/// Uploads at once that come byte by byte, and how much of each comes at once.
const DRIPPING_UPLOADS: usize = 64;
const AT_ONCE: usize = 1024 * 1024;
/// What a body may have without settings, in bytes.
const LONGEST_BODY: usize = 16 * 1024 * 1024;
/// The pause between two bytes of what drips.
const DRIP: Duration = Duration::from_millis(500);

/// What an attacker does, named by the section of the threat model that it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// Nothing: what the others are compared with.
    None,
    /// Requests with an invented `X-Forwarded-For` in front of the entry that the proxy appends.
    ForgedAddresses,
    /// One-time codes of one account guessed and asked for from many addresses.
    Codes,
    /// Signed invitations from a server whose user documents drip.
    DrippingSenders,
    /// One user resolves people on many nodes that drip.
    DrippingPeers,
    /// Bodies of millions of values.
    LargeBodies,
    /// One user uploads many bodies byte by byte.
    DrippingUploads,
    /// Signed invitations with an enormous nonce, and by people with an enormous name.
    LargeTexts,
}

impl Attack {
    /// All, the comparison first.
    pub const ALL: [Self; 8] = [
        Self::None,
        Self::ForgedAddresses,
        Self::Codes,
        Self::DrippingSenders,
        Self::DrippingPeers,
        Self::LargeBodies,
        Self::DrippingUploads,
        Self::LargeTexts,
    ];

    /// Its name in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ForgedAddresses => "1 forged addresses",
            Self::Codes => "2 codes",
            Self::DrippingSenders => "3a dripping senders",
            Self::DrippingPeers => "3b dripping peers",
            Self::LargeBodies => "5a large bodies",
            Self::DrippingUploads => "5b dripping uploads",
            Self::LargeTexts => "5c large texts",
        }
    }
}

/// What the attacker knows.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where the node listens.
    pub address: SocketAddr,
    /// Somebody on it.
    pub victim: Handle,
    /// The address that the victim signs in with.
    pub email: String,
    /// `Bearer` and the token of a session of the attacker's own.
    pub bearer: String,
}

/// How often which answer came.
pub type Answers = BTreeMap<String, u64>;

/// An attack under way. It ends with [`Running::stop`].
pub struct Running {
    answers: Arc<Mutex<Answers>>,
    stop: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// Begins an attack.
    ///
    /// # Errors
    /// When its thread cannot be started.
    pub fn begin(attack: Attack, target: Target) -> anyhow::Result<Self> {
        let answers = Arc::<Mutex<Answers>>::default();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let attacker = Attacker { target, answers: Arc::clone(&answers), count: Arc::default() };
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                tokio::select! {
                    ended = attacker.run(attack) => ended,
                    _ = stopped => Ok(()),
                }
            })
        };
        let thread = std::thread::Builder::new().name("attack".to_owned()).spawn(run)?;
        Ok(Self { answers, stop, thread })
    }

    /// Ends it. Returns what the node answered.
    ///
    /// # Errors
    /// When the attack could not be carried out.
    pub async fn stop(self) -> anyhow::Result<Answers> {
        // An attack that has failed has ended by itself.
        let _ = self.stop.send(());
        let ended = tokio::task::spawn_blocking(|| self.thread.join()).await?;
        ended.map_err(|_| anyhow::anyhow!("the attack's thread has panicked"))??;
        Ok(std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// One request of an attack, and what it is called in the count of answers.
type Request = (&'static str, Vec<u8>);

#[derive(Clone)]
struct Attacker {
    target: Target,
    answers: Arc<Mutex<Answers>>,
    count: Arc<AtomicU64>,
}

impl Attacker {
    async fn run(self, attack: Attack) -> anyhow::Result<()> {
        match attack {
            Attack::None => std::future::pending().await,
            Attack::ForgedAddresses => self.forge_addresses().await,
            Attack::Codes => self.guess_codes().await,
            Attack::DrippingSenders => self.invite_from_dripping_senders().await,
            Attack::DrippingPeers => self.resolve_at_dripping_peers().await,
            Attack::LargeBodies => self.send_large_bodies().await,
            Attack::DrippingUploads => self.upload_byte_by_byte().await,
            Attack::LargeTexts => self.invite_with_large_texts().await,
        }
    }

    async fn forge_addresses(self) -> anyhow::Result<()> {
        let alias = self.target.victim.alias().to_string();
        let make = move |number: u64| {
            // The last entry is the attacker's true address, as the proxy has appended it.
            let header = format!("{}, -, 203.0.113.66", any_address());
            let headers = [("x-forwarded-for", header.as_str())];
            let mut request = Vec::new();
            if number.is_multiple_of(2) {
                write_request(&mut request, &format!("GET /.well-known/user/{alias}"), &headers, b"");
                return ("document", request);
            }
            let body = format!(r#"{{"email":"nobody{number}@people.example"}}"#);
            write_request(&mut request, "POST /auth/verify", &headers, body.as_bytes());
            ("code", request)
        };
        let (rate, lanes) = FLOOD;
        self.flood(lanes, rate, Arc::new(make)).await
    }

    async fn guess_codes(self) -> anyhow::Result<()> {
        let email = self.target.email.clone();
        let make = move |number: u64| {
            let address = any_address();
            let headers = [("x-forwarded-for", address.as_str())];
            let mut request = Vec::new();
            if number.is_multiple_of(16) {
                let body = format!(r#"{{"email":"{email}"}}"#);
                write_request(&mut request, "POST /auth/verify", &headers, body.as_bytes());
                return ("code", request);
            }
            let guess = rand::rng().random_range(0..100_000_000);
            let body = format!(r#"{{"method":"otp","email":"{email}","token":"{guess:08}"}}"#);
            write_request(&mut request, "POST /auth/sessions", &headers, body.as_bytes());
            ("guess", request)
        };
        let (rate, lanes) = FLOOD;
        self.flood(lanes, rate, Arc::new(make)).await
    }

    async fn invite_from_dripping_senders(self) -> anyhow::Result<()> {
        let server = Hostile::with_dripping_users().await?;
        let target = self.target.clone();
        let make = move |number| ("invitation", server.invitation(&target, &format!("drone{number}"), None));
        self.flood(DRIPPING_SENDERS, f64::INFINITY, Arc::new(make)).await
    }

    async fn invite_with_large_texts(self) -> anyhow::Result<()> {
        let server = Hostile::with_large_users().await?;
        let (target, large) = (self.target.clone(), "A".repeat(62_000));
        let make = move |number: u64| {
            let alias = format!("drone{number}");
            if number.is_multiple_of(2) {
                return ("nonce", server.invitation(&target, &alias, Some(&large)));
            }
            ("name", server.invitation(&target, &alias, None))
        };
        let (_, lanes) = FLOOD;
        self.flood(lanes, 100.0, Arc::new(make)).await
    }

    async fn resolve_at_dripping_peers(self) -> anyhow::Result<()> {
        let server = Hostile::dripping().await?;
        let bearer = self.target.bearer.clone();
        let make = move |number: u64| {
            // Every address of 127.0.0.0/8 is this machine.
            let peer = format!("127.9.{}.{}:{}", number / 250 % 250, number % 250 + 1, server.port());
            let headers = [("authorization", bearer.as_str()), ("x-forwarded-for", "203.0.113.66")];
            let mut request = Vec::new();
            write_request(&mut request, &format!("GET /friends/resolve/someone@{peer}"), &headers, b"");
            ("resolve", request)
        };
        self.flood(DRIPPING_PEERS, f64::INFINITY, Arc::new(make)).await
    }

    async fn send_large_bodies(self) -> anyhow::Result<()> {
        let mut body = br#"{"encryptedBlob":"x","ignored":[[0]"#.to_vec();
        while body.len() < LONGEST_BODY - 8 {
            body.extend_from_slice(b",[0]");
        }
        body.extend_from_slice(b"]}");
        let headers = [("authorization", self.target.bearer.as_str()), ("x-forwarded-for", "203.0.113.66")];
        let mut request = Vec::new();
        write_request(&mut request, "PUT /me/blobs/attack", &headers, &body);
        let make = move |_| ("body", request.clone());
        self.flood(LARGE_BODIES, f64::INFINITY, Arc::new(make)).await
    }

    async fn upload_byte_by_byte(self) -> anyhow::Result<()> {
        let head = format!(
            "PUT /me/blobs/attack HTTP/1.1\r\nhost: localhost\r\nauthorization: {}\r\nx-forwarded-for: 203.0.113.66\r\n\
             content-type: application/json\r\ncontent-length: {LONGEST_BODY}\r\n\r\n",
            self.target.bearer
        );
        let begun = [head.as_bytes(), &vec![b' '; AT_ONCE]].concat();
        let lane = |_| {
            let (attacker, begun) = (self.clone(), begun.clone());
            async move {
                loop {
                    let answer = attacker.upload(&begun).await;
                    attacker.count("upload", answer.unwrap_or_else(|_| "closed".to_owned()));
                    tokio::time::sleep(DRIP).await;
                }
            }
        };
        every_lane((0..DRIPPING_UPLOADS).map(lane)).await
    }

    /// One upload, until the node answers or closes the connection. Returns the status.
    async fn upload(&self, begun: &[u8]) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.target.address).await?;
        let mut answer = Vec::new();
        // The node may refuse before it has read all of this, and closes then.
        let mut sent = stream.write_all(begun).await;
        loop {
            tokio::select! {
                read = stream.read_buf(&mut answer) => {
                    let closed = matches!(read, Ok(0) | Err(_));
                    if let Some(status) = answer.get(9..12) {
                        return Ok(String::from_utf8_lossy(status).into_owned());
                    }
                    if closed {
                        return Err(sent.err().unwrap_or_else(|| std::io::ErrorKind::ConnectionAborted.into()));
                    }
                }
                () = tokio::time::sleep(DRIP), if sent.is_ok() => sent = stream.write_all(b" ").await,
            }
        }
    }

    /// Sends requests over so many connections, so many a second in all; without an end, as fast as
    /// they are answered.
    async fn flood(
        self,
        lanes: usize,
        rate: f64,
        make: Arc<dyn Fn(u64) -> Request + Send + Sync>,
    ) -> anyhow::Result<()> {
        let share = f64::from(u32::try_from(lanes).context("a number of connections")?);
        // An attack that is refused at once is no busy loop either.
        let between = Duration::from_secs_f64((share / rate).max(0.01));
        let lane = |_| {
            let (attacker, make) = (self.clone(), Arc::clone(&make));
            async move {
                let mut interval = tokio::time::interval(between);
                interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let mut connection = None;
                loop {
                    interval.tick().await;
                    let (what, request) = make(attacker.count.fetch_add(1, Ordering::Relaxed));
                    let answer = exchange(&mut connection, attacker.target.address, &request).await;
                    attacker.count(what, answer);
                }
            }
        };
        every_lane((0..lanes).map(lane)).await
    }

    fn count(&self, what: &str, answer: String) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers.entry(format!("{what} {answer}")).or_default() += 1;
    }
}

async fn every_lane(
    lanes: impl Iterator<Item = impl Future<Output = ()> + Send + 'static>,
) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    for lane in lanes {
        tasks.spawn(lane);
    }
    // They have no end.
    tasks.join_next().await.context("an attack has connections")?.context("a connection of the attack")
}

/// The status of one exchange, on a connection that is opened anew when it was closed.
async fn exchange(connection: &mut Option<Connection>, address: SocketAddr, request: &[u8]) -> String {
    let mut open = match connection.take() {
        Some(open) => open,
        None => match Connection::open(address).await {
            Ok(open) => open,
            Err(_) => return "not connected".to_owned(),
        },
    };
    match open.exchange(request).await.map(|answer| answer.status) {
        Ok(status) => {
            *connection = Some(open);
            status.to_string()
        }
        Err(_) => "closed".to_owned(),
    }
}

/// An address of the internet that is nobody's: of the networks for benchmarks (RFC 2544).
fn any_address() -> String {
    let [a, b, c] = rand::rng().random::<[u8; 3]>();
    Ipv4Addr::new(198, 18 + a % 2, b, c).to_string()
}
