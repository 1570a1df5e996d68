//! What every actor of a node has at hand: the store, the clock, the node's own identity, and the other
//! actors. One value, made at start and shared.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::Addr;
use tokio::sync::Notify;
use vellum_protocol::{Alias, Domain, Handle, SigningSecret};
use vellum_store::friendships::Peer;
use vellum_store::usage::Usage;
use vellum_store::users::User;
use vellum_store::{OutboxId, Store, UserId};

use crate::clock::ClockWatch;
use crate::delivery::{Failing, OutcomeBoard, RetryPolicy, RevocationDelivery, Wake, Withdraw};
use crate::directory::Directory;
use crate::invitations::InvitationLimits;
use crate::mail_queue::Mailer;
use crate::peer::policy::{Mode, Policy};
use crate::peer::{Peers, Transport};
use crate::sign_in::SignInSettings;
use crate::user::UserCommand;
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
    /// The peers' actors.
    pub peers: Peers,
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
    parts: NodeParts,
    /// Whether the wall clock can be trusted with forgetting things.
    pub(crate) clock_watch: ClockWatch,
    /// Names this process among those on one database; begins the word of each of its leases.
    pub(crate) instance: String,
    /// Who waits for which outcome.
    pub reports: OutcomeBoard,
    /// Who waits for which other node to stop an attempt with which row.
    pub(crate) withdrawals: OutcomeBoard<(OutboxId, String)>,
    /// Which peers an attempt has failed to reach lately.
    pub(crate) failing: Failing,
    /// With whom anything is exchanged, as operators have decided.
    pub policy: Policy,
    /// Wakes the task that sends emails.
    pub(crate) mail_wake: Notify,
    /// Set once, when the delivery has been started.
    pub(crate) delivery: OnceLock<Addr<RevocationDelivery>>,
}

impl Deref for Node {
    type Target = NodeParts;
    fn deref(&self) -> &NodeParts {
        &self.parts
    }
}

impl Node {
    /// Puts the parts together. Nothing is delivered until [`Node::start_delivery`].
    #[must_use]
    pub fn new(parts: NodeParts) -> Arc<Self> {
        let policy = Policy::new(parts.settings.federation_mode);
        let instance = format!("{}.{}", parts.name, uuid::Uuid::new_v4());
        let clock_watch = ClockWatch::new(&parts.clock);
        Arc::new(Self {
            parts,
            clock_watch,
            instance,
            reports: OutcomeBoard::default(),
            withdrawals: OutcomeBoard::default(),
            failing: Failing::default(),
            policy,
            mail_wake: Notify::new(),
            delivery: OnceLock::new(),
        })
    }

    /// Has the user's actor carry `command` out, wakes the delivery, and returns the answer.
    ///
    /// # Errors
    /// What the command refuses with; [`Error::Busy`] when too many messages wait for this user.
    pub async fn ask<C: UserCommand>(
        self: &Arc<Self>,
        asker: impl Into<Asker>,
        command: C,
    ) -> Result<C::Output, Error> {
        let answer = self.directory.ask(self, asker, command).await;
        if answer.is_ok() {
            self.wake_delivery();
        }
        answer
    }

    /// Tells the delivery to look at the outbox.
    pub fn wake_delivery(&self) {
        if let Some(delivery) = self.delivery.get() {
            delivery.do_send(Wake);
        }
    }

    /// Tells the mail queue that something may be due.
    pub fn wake_mail(&self) {
        self.mail_wake.notify_one();
    }

    /// Stops this node's attempt with a row that has been removed, if one is under way. When this returns,
    /// none is.
    pub(crate) async fn withdraw_here(&self, row: OutboxId) {
        if let Some(delivery) = self.delivery.get()
            && delivery.send(Withdraw(row)).await.is_err()
        {
            tracing::debug!("the delivery has stopped; nothing is being sent");
        }
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
