//! Nodes and people. The nodes of a world share one clock, which stands still until it is moved.

mod person;
mod wire;

use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::Arbiter;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret, SecretBox};
use tempfile::TempDir;
use vellum_actors::delivery::RetryPolicy;
use vellum_actors::invitations::InvitationLimits;
use vellum_actors::mailer::{CodeEmail, MailError, MailSession, Mailer};
use vellum_actors::peer::PeerSettings;
use vellum_actors::peer::policy::Mode;
use vellum_actors::sign_in::{CodeBounds, SignInSettings};
use vellum_actors::wrapping::{Ring, WrappingKey, WrappingKeys};
use vellum_actors::{Clock, Node, NodeParts, NodeSettings};
use vellum_protocol::{Domain, SigningSecret, UnixMillis};
use vellum_store::users::{self, NewUser};
use vellum_store::{Store, StoreError, UserId, outbox};
use zeroize::Zeroizing;

pub use person::{Person, fields, in_a_request};
pub use wire::{Hang, Mood, Wire};

/// When the tests begin.
pub const T0: UnixMillis = UnixMillis(1_700_000_000_000);
/// Long enough for anything that does not hang.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A node, its threads and its folder.
pub struct Site {
    pub node: Arc<Node>,
    pub letters: Arc<Mutex<Vec<(String, String)>>>,
    arbiters: Vec<Arbiter>,
    _folder: TempDir,
}

/// Two nodes, joined.
pub struct World {
    pub clock: Clock,
    pub wire: Wire,
    pub a: Site,
    pub b: Site,
}

impl World {
    /// `a.example` and `b.example`, both delivering.
    pub async fn new() -> Self {
        let (clock, wire) = (Clock::steered(T0), Wire::default());
        let a = Site::start("a.example", &clock, &wire).await;
        let b = Site::start("b.example", &clock, &wire).await;
        Self { clock, wire, a, b }
    }

    /// Alice on one node and bob on the other, ready to sign.
    pub async fn with_two_people() -> (Self, Person, Person) {
        let world = Self::new().await;
        let alice = world.a.person("alice").await;
        let bob = world.b.person("bob").await;
        (world, alice, bob)
    }

    /// The same, and the two are friends.
    pub async fn with_two_friends() -> (Self, Person, Person) {
        let (world, alice, bob) = Self::with_two_people().await;
        world.befriend(&alice, &bob).await;
        (world, alice, bob)
    }

    /// The second accepts an invitation of the first.
    pub async fn befriend(&self, one: &Person, other: &Person) {
        one.invite(other).await.unwrap();
        other.accept_from(one).await.unwrap();
        assert_eq!((one.has_friend(other).await, other.has_friend(one).await), (true, true));
        self.settled().await;
    }

    /// Waits until nothing is on its way on either node. An attempt that was under way when the
    /// clock was moved may have missed its time by that, and be due again a little later.
    pub async fn settled(&self) {
        let mut polls = 0;
        let probe = || {
            polls += 1;
            if polls % 200 == 0 {
                self.advance(1_000);
            }
            async { [next_due(&self.a).await, next_due(&self.b).await] }
        };
        wait_for("nothing is due on either node", probe, |due| due.iter().all(Option::is_none)).await;
    }

    /// Moves the clock and wakes both deliveries.
    pub fn advance(&self, millis: i64) {
        self.clock.advance(millis);
        self.a.node.wake_delivery();
        self.b.node.wake_delivery();
    }
}

async fn next_due(site: &Site) -> Option<UnixMillis> {
    outbox::next_due(&mut site.node.store.read().await.unwrap()).await.unwrap()
}

impl Site {
    pub async fn start(domain: &str, clock: &Clock, wire: &Wire) -> Self {
        let site = Self::start_without_delivery(domain, clock, wire).await;
        site.node.start_delivery(&site.arbiters[0].handle()).await.unwrap();
        site
    }

    pub async fn start_without_delivery(domain: &str, clock: &Clock, wire: &Wire) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&vellum_test_database::address(folder.path())).await.unwrap();
        let arbiters = vec![Arbiter::new(), Arbiter::new()];
        let handles: Vec<_> = arbiters.iter().map(Arbiter::handle).collect();
        let letters = Arc::new(Mutex::new(Vec::new()));
        let node = Node::new(NodeParts {
            store,
            clock: clock.clone(),
            domain: Domain::parse(domain).unwrap(),
            identity: SigningSecret::from_seed(rand::random()),
            settings: NodeSettings {
                flush_wait: PATIENCE,
                in_flight_per_peer: 4,
                federation_mode: Mode::default(),
                retry: RetryPolicy::default(),
                quotas: vellum_actors::user::DEFAULT_QUOTAS,
                sign_in: SignInSettings {
                    open_registration: false,
                    code_key: Arc::new(SecretBox::new(Box::new(rand::random()))),
                    bounds: CodeBounds::default(),
                },
                invitations: InvitationLimits::default(),
            },
            arbiters: handles.clone(),
            peers: PeerSettings { arbiters: handles, lookups_per_minute: None },
            wrapping: WrappingKeys::new(Box::new(one_wrapping_key)).unwrap(),
            name: domain.to_owned(),
            transport: Box::new(wire.clone()),
            mailer: Box::new(Letters(Arc::clone(&letters))),
        });
        wire.join(&node);
        Self { node, letters, arbiters, _folder: folder }
    }

    pub async fn start_delivery(&self) {
        self.node.start_delivery(&self.arbiters[0].handle()).await.unwrap();
    }

    /// Somebody with an account, and nothing else.
    pub async fn account(&self, name: &str) -> UserId {
        let email = format!("{name}@mail.example");
        let user = NewUser { email, first_name: None, last_name: None, picture: None };
        let id: Result<_, StoreError> =
            self.node.store.write(move |tx| async move { users::insert(tx, &user, T0).await }.boxed()).await;
        id.unwrap()
    }

    /// Somebody with an alias and keys.
    pub async fn person(&self, alias: &str) -> Person {
        Person::join(self, alias).await
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
    }
}

fn one_wrapping_key() -> Result<Ring, String> {
    Ok(vec![WrappingKey { id: "one".into(), key: Zeroizing::new([7; 32]) }])
}

/// Keeps the letters: address and code.
struct Letters(Arc<Mutex<Vec<(String, String)>>>);

impl Mailer for Letters {
    fn open<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Box<dyn MailSession>, MailError>> {
        let session: Box<dyn MailSession> = Box::new(Letters(Arc::clone(&self.0)));
        async { Ok(session) }.boxed()
    }
}

impl MailSession for Letters {
    fn send(self: Box<Self>, email: CodeEmail) -> BoxFuture<'static, Result<(), MailError>> {
        self.0.lock().unwrap().push((email.to, email.code.expose_secret().to_owned()));
        async { Ok(()) }.boxed()
    }
}

/// Probes until the result is what is waited for, and returns it. After [`PATIENCE`] it fails the
/// test with what was expected and what was seen last.
pub async fn wait_for<T: Debug, F: Future<Output = T>>(
    what: &str,
    mut probe: impl FnMut() -> F,
    is_met: impl Fn(&T) -> bool,
) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        let seen = probe().await;
        if is_met(&seen) {
            return seen;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} for this: {what}. Seen last: {seen:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Like [`wait_for`], for a condition that is true or false.
pub async fn until<F: Future<Output = bool>>(what: &str, condition: impl FnMut() -> F) {
    wait_for(what, condition, |is_met| *is_met).await;
}

/// The answer of something that must not hang.
pub async fn in_time<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(PATIENCE, work).await.expect("it hangs")
}
