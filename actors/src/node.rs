//! What every actor of a node has at hand: the store, the clock, the node's own identity, and the other
//! actors. One value, made at start and shared.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::ArbiterHandle;
use tokio::sync::Notify;
use vellum_protocol::{Alias, Domain, SigningSecret};
use vellum_store::usage::Usage;
use vellum_store::users::User;
use vellum_store::{Store, UserId};

use crate::clock::ClockWatch;
use crate::delivery::Wake;
use crate::directory::Directory;
use crate::invitations::InvitationLimits;
use crate::key_checks::KeyChecks;
use crate::mailer::Mailer;
use crate::peer::policy::{Mode, Policy};
use crate::peer::{Attempts, Bulkheads, Federation, PeerSettings, Peers, RetryPolicy, Transport};
use crate::replicas::Replicas;
use crate::sign_in::SignInSettings;
use crate::user::{NodeContext, UserCommand};
use crate::waiters::OutcomeWaiters;
use crate::wrapping::WrappingKeys;
use crate::{Asker, Clock, Error};

/// For how long this node takes late revocations: what its manifest states (wire protocol, section 5).
pub const REVOCATION_WINDOW_MILLIS: i64 = 604_800_000;

/// What the actors need to be told.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// How long a flush, an invitation and the like wait for the first attempt's outcome.
    pub flush_wait: Duration,
    /// Attempts at once to one peer.
    pub in_flight_per_peer: u32,
    /// With whom anything is exchanged.
    pub federation_mode: Mode,
    /// When failed deliveries are tried again.
    pub retry: RetryPolicy,
    /// How signing in works.
    pub sign_in: SignInSettings,
    /// Bounds of open invitations.
    pub invitations: InvitationLimits,
    /// What each user may store.
    pub quotas: Usage,
}

/// What a node is made from.
pub struct NodeParts {
    /// What it remembers.
    pub store: Store,
    /// What time it is.
    pub clock: Clock,
    /// The server id: the domain of every handle here.
    pub domain: Domain,
    /// What it signs its requests to other nodes with.
    pub identity: SigningSecret,
    /// What it was told.
    pub settings: NodeSettings,
    /// Where the users' actors run, at least one.
    pub arbiters: Vec<ArbiterHandle>,
    /// Where the peers' actors run, and their bounds.
    pub peers: PeerSettings,
    /// How other nodes are spoken to.
    pub transport: Box<dyn Transport>,
    /// How emails are sent.
    pub mailer: Box<dyn Mailer>,
    /// What device wrap secrets are encrypted with.
    pub wrapping: WrappingKeys,
    /// Names this node among those on one database, also when it has been started anew.
    pub name: String,
}

/// A node: its parts, and what ties them together.
pub struct Node {
    /// What it remembers.
    pub store: Store,
    /// What time it is.
    pub clock: Clock,
    /// The server id: the domain of every handle here.
    pub domain: Domain,
    /// What it signs its requests to other nodes with.
    pub identity: SigningSecret,
    /// What it was told.
    pub settings: NodeSettings,
    /// The users' actors.
    pub directory: Directory,
    /// The peers' actors.
    pub peers: Arc<Peers>,
    /// How emails are sent.
    pub(crate) mailer: Box<dyn Mailer>,
    /// Names this node among those on one database, also when it has been started anew.
    pub(crate) name: String,
    /// Names this process among those on one database; the prefix of its lease tokens.
    pub(crate) instance: String,
    /// What it speaks with other nodes with.
    pub(crate) federation: Arc<Federation>,
    /// With whom anything is exchanged, as operators have decided.
    pub policy: Arc<Policy>,
    /// Requests that wait for the outcome of an attempt.
    pub outcomes: Arc<OutcomeWaiters>,
    /// What the users' actors are given.
    pub context: Arc<NodeContext>,
    /// The other nodes on this database.
    pub replicas: Arc<Replicas>,
    /// Friends whose keys are compared later.
    pub(crate) key_checks: KeyChecks,
    /// Whether the wall clock can be trusted with forgetting things.
    pub(crate) clock_watch: ClockWatch,
    /// Wakes the task that sends emails.
    pub(crate) mail_wake: Notify,
}

impl Node {
    /// Puts the parts together. Nothing is delivered until [`Node::start_delivery`].
    #[must_use]
    pub fn new(parts: NodeParts) -> Arc<Self> {
        let NodeParts { store, clock, domain, identity, settings, name, .. } = parts;
        let instance = format!("{name}.{}", uuid::Uuid::new_v4());
        let policy = Arc::new(Policy::new(settings.federation_mode));
        let outcomes = Arc::<OutcomeWaiters>::default();
        let federation = Arc::new(Federation {
            store: store.clone(),
            clock: clock.clone(),
            domain: domain.clone(),
            identity: identity.clone(),
            transport: parts.transport,
            policy: Arc::clone(&policy),
            retry: settings.retry,
            in_flight_per_peer: settings.in_flight_per_peer.max(1),
            instance: instance.clone(),
            outcomes: Arc::clone(&outcomes),
            attempts: Arc::<Attempts>::default(),
            bulkheads: Bulkheads::new(settings.in_flight_per_peer),
        });
        let replicas = Arc::new(Replicas {
            store: store.clone(),
            clock: clock.clone(),
            instance: instance.clone(),
            outcomes: Arc::clone(&outcomes),
            attempts: Arc::clone(&federation.attempts),
            withdrawals: OutcomeWaiters::default(),
        });
        let context = Arc::new(NodeContext {
            store: store.clone(),
            clock: clock.clone(),
            domain: domain.clone(),
            invitations: settings.invitations,
            quotas: settings.quotas,
            wrapping: parts.wrapping,
            outcomes: Arc::clone(&outcomes),
            replicas: Arc::clone(&replicas),
            delivery: OnceLock::new(),
        });
        Arc::new(Self {
            clock_watch: ClockWatch::new(&clock),
            store,
            clock,
            domain,
            identity,
            settings,
            directory: Directory::new(Arc::clone(&context), parts.arbiters),
            peers: Arc::new(Peers::new(Arc::clone(&federation), parts.peers)),
            mailer: parts.mailer,
            name,
            instance,
            federation,
            policy,
            outcomes,
            context,
            replicas,
            key_checks: KeyChecks::default(),
            mail_wake: Notify::new(),
        })
    }

    /// Has the user's actor carry `command` out, and returns the answer.
    ///
    /// # Errors
    /// What the command refuses with; [`Error::Busy`] when too many messages wait for this user.
    pub async fn ask<C: UserCommand>(&self, asker: impl Into<Asker>, command: C) -> Result<C::Output, Error> {
        self.directory.ask(asker, command).await
    }

    /// Has the delivery look at the whole queue: something may be due for any peer.
    pub fn wake_delivery(&self) {
        if let Some(delivery) = self.context.delivery.get() {
            delivery.do_send(Wake(None));
        }
    }

    /// Tells the mail queue that something may be due.
    pub fn wake_mail(&self) {
        self.mail_wake.notify_one();
    }

    /// The user with this id.
    ///
    /// # Errors
    /// [`Error::NoSuchUser`].
    pub async fn user(&self, id: &UserId) -> Result<Arc<User>, Error> {
        self.store.user(id).await?.map(Arc::new).ok_or(Error::NoSuchUser)
    }

    /// The user with this alias, compared without case.
    ///
    /// # Errors
    /// Only what the database says.
    pub async fn user_by_alias(&self, alias: &Alias) -> Result<Option<Arc<User>>, Error> {
        Ok(self.store.user_by_alias(alias).await?.map(Arc::new))
    }
}
