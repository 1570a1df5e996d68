use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use vellum_client::Signer;
use vellum_protocol::{Handle, JsonObject, Manifest, MessageType};
use vellum_store::OutboxId;
use vellum_store::outbox::FailureScope;

use super::*;
use crate::Clock;
use crate::alone::Alone;
use crate::peer::{Answer, Transport, TransportError};

/// A host that takes questions and answers none of them, until it breaks the connections.
#[derive(Clone)]
struct Mute {
    asked: Arc<AtomicUsize>,
    posted: Arc<AtomicUsize>,
    breaks: Arc<Semaphore>,
}

impl Mute {
    fn new() -> Self {
        Self { asked: Arc::default(), posted: Arc::default(), breaks: Arc::new(Semaphore::new(0)) }
    }

    async fn answer(&self) -> Result<Answer, TransportError> {
        self.breaks.acquire().await.unwrap().forget();
        Err(TransportError::Broken("by the host".into()))
    }
}

impl Transport for Mute {
    fn get<'a>(&'a self, _: &'a Domain, _: &'a str) -> BoxFuture<'a, Result<Answer, TransportError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.answer().boxed()
    }

    fn post<'a>(
        &'a self,
        _: &'a Domain,
        _: &'a str,
        _: Vec<(&'static str, String)>,
        _: String,
    ) -> BoxFuture<'a, Result<Answer, TransportError>> {
        self.posted.fetch_add(1, Ordering::SeqCst);
        self.answer().boxed()
    }
}

/// Makes attempts at a peer, with leases that last so long.
struct Attempts {
    alone: Alone,
    documents: Arc<Documents>,
}

impl Attempts {
    async fn through(transport: impl Transport) -> Self {
        let domain = Domain::parse("mute.example").unwrap();
        let alone = Alone::start_with(transport).await;
        let documents = Arc::new(Documents::new(domain, Arc::clone(&alone.node.federation)));
        Self { alone, documents }
    }

    async fn send(&self, lasts: Duration) -> Outcome {
        let federation = Arc::clone(&self.alone.node.federation);
        let signer =
            Signer::new(Handle::parse("ann@node.example").unwrap(), SigningSecret::from_seed([1; 32]));
        let (to, now) = (Handle::parse("bob@mute.example").unwrap(), federation.clock.now());
        let revoke = MessageType::RelationshipRevoke;
        let sending = Sending {
            documents: Arc::clone(&self.documents),
            deliver_here: Arc::new(|_| async { unreachable!("bob is elsewhere") }.boxed()),
            leased: Leased {
                id: OutboxId::generate(),
                user_id: "ann".to_owned().into(),
                envelope: signer.envelope(revoke, &to, JsonObject::new(), now, &mut rand::rng()),
                peer_handle: to,
                subject: String::new(),
                expires_at: now.plus_millis(290_000),
                attempts: 0,
                refusals: 0,
                maybe_arrived: false,
                voids_revocation: false,
                trace: None,
                token: "x:1".into(),
            },
            until: federation.clock.boot() + lasts,
            sent: AtomicBool::new(false),
        };
        sending.attempt(trace::tie(&tracing::Span::none(), None)).await
    }
}

#[actix::test]
async fn nothing_is_sent_any_more_when_the_lease_is_over() {
    let mute = Mute::new();
    let attempts = Attempts::through(mute.clone()).await;
    let outcome = attempts.send(Duration::from_millis(50)).await;
    assert_eq!(outcome, outcome::overdue(false), "the peer's manifest did not come in time");
    let Outcome::Retry(retry) = outcome else { panic!("{outcome:?}") };
    assert!(retry.reason.contains("longer than it may"), "{}", retry.reason);
    mute.breaks.add_permits(10);
    assert_eq!(attempts.send(Duration::ZERO).await, outcome::overdue(false));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(mute.posted.load(Ordering::SeqCst), 0, "envelopes sent");
    assert_eq!(attempts.alone.node.peers.deliveries_waiting(), 0);
}

/// A host whose manifest comes in the moment in which the machine wakes up after two minutes.
#[derive(Clone)]
struct Suspended {
    clock: Arc<OnceLock<Clock>>,
    posted: Arc<AtomicUsize>,
}

impl Transport for Suspended {
    fn get<'a>(&'a self, domain: &'a Domain, _: &'a str) -> BoxFuture<'a, Result<Answer, TransportError>> {
        let key = SigningSecret::from_seed([3; 32]).public();
        let manifest = Manifest::of_this_node(domain.clone(), key, 604_800);
        let body = serde_json::to_vec(&manifest).unwrap();
        if let Some(clock) = self.clock.get() {
            clock.advance(120_000);
        }
        async { Ok(Answer { status: 200, body, retry_after: None, max_age: None, date: None }) }.boxed()
    }

    fn post<'a>(
        &'a self,
        _: &'a Domain,
        _: &'a str,
        _: Vec<(&'static str, String)>,
        _: String,
    ) -> BoxFuture<'a, Result<Answer, TransportError>> {
        self.posted.fetch_add(1, Ordering::SeqCst);
        async { Err(TransportError::Broken("by the host".into())) }.boxed()
    }
}

#[actix::test]
async fn nothing_is_sent_on_a_lease_that_ended_while_the_machine_was_suspended() {
    let host = Suspended { clock: Arc::default(), posted: Arc::default() };
    let attempts = Attempts::through(host.clone()).await;
    attempts.send(Duration::from_secs(50)).await;
    assert_eq!(host.posted.load(Ordering::SeqCst), 1, "without suspension it is sent");
    attempts.documents.forget_manifest().await;
    host.clock.set(attempts.alone.node.clock.clone()).unwrap();
    assert_eq!(attempts.send(Duration::from_secs(50)).await, outcome::overdue(false));
    assert_eq!(host.posted.load(Ordering::SeqCst), 1, "another node may have the lease");
}

#[actix::test]
async fn deliveries_that_wait_for_one_manifest_share_its_failure() {
    let mute = Mute::new();
    let attempts = Attempts::through(mute.clone()).await;
    let sending = join_all((0..4).map(|_| attempts.send(Duration::from_secs(20))));
    let breaking = async {
        while mute.asked.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // All of them are waiting by now.
        tokio::time::sleep(Duration::from_millis(100)).await;
        mute.breaks.add_permits(4);
    };
    let (outcomes, ()) = tokio::join!(sending, breaking);
    for outcome in outcomes {
        let Outcome::Retry(Retry { scope, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(scope, FailureScope::Peer);
    }
    assert_eq!(mute.asked.load(Ordering::SeqCst), 1);
    attempts.send(Duration::from_secs(20)).await;
    assert_eq!(mute.asked.load(Ordering::SeqCst), 2, "a later attempt asks anew");
}
