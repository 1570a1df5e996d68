//! Honest people beside an attack: users who read their identity, and people of other nodes who
//! send messages. Each request has a connection of its own and is due at its moment, whether or not
//! earlier ones are answered.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::task::JoinSet;
use vellum_actors::Clock;
use vellum_client::Signer;
use vellum_protocol::{Alias, Domain, Handle, JsonObject, MessageType};

use crate::bench::connection::{Connection, write_request};
use crate::bench::env::BenchEnv;
use crate::bench::histogram::Histogram;
use crate::bench::seed;
use crate::bench::sinks::{Sink, signed_request};

/// The pause between two readings of an identity, and between two messages.
const BETWEEN_READINGS: Duration = Duration::from_millis(10);
const BETWEEN_MESSAGES: Duration = Duration::from_millis(200);
/// In this time a message has to be accepted.
pub const IN_TIME: Duration = Duration::from_secs(2);
/// After this time nobody waits any more.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came of one kind of request.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// How many were sent.
    pub sent: u64,
    /// How many were answered as they should be.
    pub right: u64,
    /// How many of those within 2 s.
    pub in_time: u64,
    /// How long the right answers took.
    pub times: Histogram,
}

/// Honest people.
pub struct Honest<'a> {
    env: &'a BenchEnv,
    peers: &'a [Sink],
    recipients: Vec<Handle>,
    node: Domain,
    // No alias twice in a run, so that the node has to ask who each sender is.
    senders: usize,
}

impl<'a> Honest<'a> {
    /// Users of the node, and people on these other nodes.
    ///
    /// # Errors
    /// When there are none.
    pub fn new(env: &'a BenchEnv, peers: &'a [Sink]) -> anyhow::Result<Self> {
        let handles = env.plain().iter().map(|account| Ok(Handle::parse(&env.handle(account))?));
        let recipients: Vec<Handle> = handles.collect::<anyhow::Result<_>>()?;
        ensure!(!recipients.is_empty() && !peers.is_empty(), "somebody has to send, and to be sent to");
        Ok(Self { env, peers, recipients, node: Domain::parse(&env.domain())?, senders: 0 })
    }

    /// Reads identities and sends messages for so long. Returns what came of the one and of the
    /// other.
    ///
    /// # Errors
    /// When a request cannot be made.
    pub async fn go_on_for(&mut self, duration: Duration) -> anyhow::Result<(Seen, Seen)> {
        let (begin, address) = (Instant::now(), self.env.address());
        let (mut readings, mut messages) = (JoinSet::new(), JoinSet::new());
        let (mut reading, mut message) = (begin, begin);
        while reading < begin + duration {
            tokio::time::sleep_until(reading.into()).await;
            let (request, handle) = self.reading(readings.len());
            readings.spawn(ask(address, request, 200, handle, reading));
            reading += BETWEEN_READINGS;
            if message <= reading {
                messages.spawn(ask(address, self.message()?, 202, r#""success":true"#.to_owned(), message));
                message += BETWEEN_MESSAGES;
            }
        }
        Ok((sum(readings).await?, sum(messages).await?))
    }

    fn reading(&self, number: usize) -> (Vec<u8>, String) {
        let account = &self.env.accounts[number % self.env.accounts.len()];
        let mut request = Vec::new();
        let headers = [("authorization", account.bearer.as_str()), ("x-forwarded-for", "192.0.2.7")];
        write_request(&mut request, "GET /users/me/identity", &headers, b"");
        (request, format!(r#""handle":"{}""#, self.env.handle(account)))
    }

    /// A revocation by somebody who has never sent anything, on one of the peers in turn.
    fn message(&mut self) -> anyhow::Result<Vec<u8>> {
        self.senders += 1;
        let peer = self.senders % self.peers.len();
        let sink = &self.peers[peer];
        let alias = Alias::parse(&format!("honest{}", self.senders))?;
        let signer = Signer::new(Handle::new(alias, sink.domain.clone()), seed::signing_secret(1));
        let to = &self.recipients[self.senders % self.recipients.len()];
        let (kind, at) = (MessageType::RelationshipRevoke, Clock::system().now());
        let envelope = signer.envelope(kind, to, JsonObject::new(), at, &mut rand::rng());
        let address = format!("192.0.2.{}", 100 + peer);
        let headers = [("x-forwarded-for", address.as_str())];
        Ok(signed_request(&sink.secret, &sink.domain, &self.node, &envelope, &headers))
    }
}

/// How long the right answer took since the request was due; `None` for any other.
async fn ask(
    address: SocketAddr,
    request: Vec<u8>,
    status: u16,
    text: String,
    due: Instant,
) -> Option<Duration> {
    let exchange = async {
        let mut connection = Connection::open(address).await.ok()?;
        let answer = connection.exchange(&request).await.ok()?;
        answer.expect(status, &text).ok().map(|()| due.elapsed())
    };
    tokio::time::timeout(PATIENCE, exchange).await.ok().flatten()
}

async fn sum(mut asked: JoinSet<Option<Duration>>) -> anyhow::Result<Seen> {
    let mut seen = Seen::default();
    while let Some(answered) = asked.join_next().await {
        seen.sent += 1;
        if let Some(took) = answered.context("a request's task")? {
            seen.right += 1;
            seen.in_time += u64::from(took <= IN_TIME);
            seen.times.record(took);
        }
    }
    Ok(seen)
}
