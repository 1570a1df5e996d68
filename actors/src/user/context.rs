//! What users' actors are given of their node.

use std::sync::{Arc, OnceLock};

use actix::Addr;
use vellum_protocol::{Alias, Domain, Handle};
use vellum_store::Store;
use vellum_store::friendships::RemoteUser;
use vellum_store::usage::Usage;
use vellum_store::users::User;

use crate::delivery::{RevocationDelivery, Wake};
use crate::invitations::InvitationLimits;
use crate::replicas::Replicas;
use crate::wrapping::WrappingKeys;
use crate::{Clock, Error, OutcomeWaiters};

/// What every user's actor works with. One value, shared by all.
pub struct NodeContext {
    /// The database.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// The domain of every handle here.
    pub domain: Domain,
    /// Bounds of open invitations.
    pub invitations: InvitationLimits,
    /// What each user may store.
    pub quotas: Usage,
    /// The keys that device wrap secrets are encrypted with.
    pub wrapping: WrappingKeys,
    /// Requests that wait for the outcome of an attempt.
    pub outcomes: Arc<OutcomeWaiters>,
    /// The other nodes on this database.
    pub(crate) replicas: Arc<Replicas>,
    /// Set once, when the delivery has been started.
    pub(crate) delivery: OnceLock<Addr<RevocationDelivery>>,
}

impl NodeContext {
    /// Tells the delivery that something may be due for these peers, by their domains in lower
    /// case.
    pub(crate) fn wake_delivery_for(&self, peers: impl IntoIterator<Item = String>) {
        if let Some(delivery) = self.delivery.get() {
            delivery.do_send(Wake(Some(peers.into_iter().collect())));
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
    pub fn as_peer(&self, user: &User) -> Result<RemoteUser, Error> {
        let handle = self.handle_of_user(user)?;
        let keys = user.identity.keys.ok_or(Error::IdentityIncomplete)?;
        Ok(RemoteUser {
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
}
