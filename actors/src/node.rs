//! What every actor of a node has at hand: the store, the clock, the node's own identity, and the other
//! actors. One value, made at start and shared.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::Addr;
use tokio::sync::Notify;
use vellum_protocol::{Alias, Domain, Handle, SigningSecret};
use vellum_store::friendships::Peer;
use vellum_store::outbox::Outcome;
use vellum_store::usage::Usage;
use vellum_store::users::User;
use vellum_store::{OutboxId, Store, UserId};

use crate::clock::ClockWatch;
use crate::delivery::{RevocationDelivery, Wake};
use crate::directory::Directory;
use crate::invitations::InvitationLimits;
use crate::key_checks::KeyChecks;
use crate::mail_queue::Mailer;
use crate::peer::policy::{Mode, Policy};
use crate::peer::{Attempts, Bulkheads, Federation, PeerSettings, Peers, RetryPolicy, Transport};
use crate::sign_in::SignInSettings;
use crate::user::UserCommand;
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
    /// The users' actors.
    pub directory: Directory,
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
    /// What device wrap secrets are encrypted with.
    pub wrapping: WrappingKeys,
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
    /// Discards that wait for another node to stop an attempt with their row.
    pub(crate) withdrawals: OutcomeWaiters<(OutboxId, String)>,
    /// Friends whose keys are compared later.
    pub(crate) key_checks: KeyChecks,
    /// Whether the wall clock can be trusted with forgetting things.
    pub(crate) clock_watch: ClockWatch,
    /// Wakes the task that sends emails.
    pub(crate) mail_wake: Notify,
    /// Set once, when the delivery has been started.
    pub(crate) delivery: OnceLock<Addr<RevocationDelivery>>,
}

impl Node {
    /// Puts the parts together. Nothing is delivered until [`Node::start_delivery`].
    #[must_use]
    pub fn new(parts: NodeParts) -> Arc<Self> {
        let NodeParts { store, clock, domain, identity, settings, directory, name, .. } = parts;
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
        Arc::new(Self {
            clock_watch: ClockWatch::new(&clock),
            store,
            clock,
            domain,
            identity,
            settings,
            directory,
            peers: Arc::new(Peers::new(Arc::clone(&federation), parts.peers)),
            mailer: parts.mailer,
            wrapping: parts.wrapping,
            name,
            instance,
            federation,
            policy,
            outcomes,
            withdrawals: OutcomeWaiters::default(),
            key_checks: KeyChecks::default(),
            mail_wake: Notify::new(),
            delivery: OnceLock::new(),
        })
    }

    /// Has the user's actor carry `command` out, and returns the answer.
    ///
    /// # Errors
    /// What the command refuses with; [`Error::Busy`] when too many messages wait for this user.
    pub async fn ask<C: UserCommand>(
        self: &Arc<Self>,
        asker: impl Into<Asker>,
        command: C,
    ) -> Result<C::Output, Error> {
        self.directory.ask(self, asker, command).await
    }

    /// Has the delivery look at the whole queue: something may be due for any peer.
    pub fn wake_delivery(&self) {
        self.wake(None);
    }

    /// Tells the delivery that something may be due for these peers, by their domains in lower
    /// case.
    pub(crate) fn wake_delivery_for(&self, peers: impl IntoIterator<Item = String>) {
        self.wake(Some(peers.into_iter().collect()));
    }

    fn wake(&self, peers: Option<BTreeSet<String>>) {
        if let Some(delivery) = self.delivery.get() {
            delivery.do_send(Wake(peers));
        }
    }

    /// Tells the mail queue that something may be due.
    pub fn wake_mail(&self) {
        self.mail_wake.notify_one();
    }

    /// Stops this node's attempt with a row that has been removed, if one is under way. When this returns,
    /// none is.
    pub(crate) async fn withdraw_here(&self, row: &OutboxId) {
        self.outcomes.publish(row, &Outcome::Withdrawn);
        self.federation.attempts.stop(row).await;
    }

    /// The handle that an alias has here.
    #[must_use]
    pub fn handle_of(&self, alias: &Alias) -> Handle {
        Handle::new(alias.clone(), self.domain.clone())
    }

    /// The user's own handle.
    ///
    /// # Errors
    /// [`Error::IdentityIncomplete`] before alias and keys are set.
    pub fn handle_of_user(&self, user: &User) -> Result<Handle, Error> {
        match (&user.identity.alias, &user.identity.keys) {
            (Some(alias), Some(_)) => Ok(self.handle_of(alias)),
            _ => Err(Error::IdentityIncomplete),
        }
    }

    /// A user of this node as others see them.
    ///
    /// # Errors
    /// [`Error::IdentityIncomplete`] before alias and keys are set.
    pub fn as_peer(&self, user: &User) -> Result<Peer, Error> {
        let handle = self.handle_of_user(user)?;
        let keys = user.identity.keys.ok_or(Error::IdentityIncomplete)?;
        Ok(Peer {
            handle,
            signing_key: keys.signing,
            encryption_key: Some(keys.encryption),
            name: user.name(),
            picture: user.picture.clone(),
        })
    }

    /// Whether a handle belongs to this node.
    #[must_use]
    pub fn is_local(&self, handle: &Handle) -> bool {
        handle.domain().folded() == self.domain.folded()
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
