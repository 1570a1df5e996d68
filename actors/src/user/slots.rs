//! Wrapped-key slots (`/users/me/wrapped-keys`).

use futures_util::FutureExt;
use vellum_store::slots::{self, Wrapped};
use vellum_store::usage::Usage;
use vellum_store::{StoreError, passkeys};

use super::key_generation::load_as_shown;
use super::quotas::{Growth, bytes};
use super::{Event, Scope, UserCommand};
use crate::Error;

/// Fills the slot of a passkey, anew or again.
#[derive(Debug)]
pub struct PutSlot {
    /// What goes in.
    pub wrapped: Wrapped,
}

impl UserCommand for PutSlot {
    type Output = ();
    const NAME: &'static str = "put_slot";

    async fn run(self, scope: Scope) -> Result<(), Error> {
        let node = scope.node.clone();
        node.store
            .write(move |tx| {
                async move {
                    let passkeys = passkeys::credential_ids(tx, &scope.user).await?;
                    if !passkeys.contains(&self.wrapped.credential_id) {
                        return Err(Error::UnknownCredential);
                    }
                    let version = load_as_shown(tx, &scope).await?.identity.km_version;
                    let growth = Growth::begin(tx, &scope.user).await?;
                    slots::put(tx, &scope.user, &self.wrapped, version, scope.now).await?;
                    let most = Usage { slots: 1, bytes: bytes(&self.wrapped.wrapped_km), ..Usage::default() };
                    growth.check(tx, &scope, &most).await?;
                    scope.audit(tx, Event::SlotPut).await
                }
                .boxed()
            })
            .await
    }
}

/// Empties a slot; it may be empty already. A device with older keys empties none: it may take a
/// signature of the new ones for forged. (Removing the passkey itself empties its slot from any
/// device.)
#[derive(Debug)]
pub struct DeleteSlot {
    /// The passkey's credential.
    pub credential_id: String,
}

impl UserCommand for DeleteSlot {
    type Output = ();
    const NAME: &'static str = "delete_slot";

    async fn run(self, scope: Scope) -> Result<(), Error> {
        let node = scope.node.clone();
        node.store
            .write(move |tx| {
                async move {
                    load_as_shown(tx, &scope).await?;
                    if slots::delete(tx, &scope.user, &self.credential_id).await? {
                        scope.audit(tx, Event::SlotDeleted).await?;
                    }
                    Ok(())
                }
                .boxed()
            })
            .await
    }
}

/// Notes that a client has opened a slot.
#[derive(Debug)]
pub struct MarkSlotUsed {
    /// The passkey's credential.
    pub credential_id: String,
}

impl UserCommand for MarkSlotUsed {
    type Output = ();
    const NAME: &'static str = "mark_slot_used";

    async fn run(self, scope: Scope) -> Result<(), Error> {
        let Scope { user, now, node, .. } = scope;
        let marked: Result<(), StoreError> = node
            .store
            .write(move |tx| {
                async move { slots::mark_used(tx, &user, &self.credential_id, now).await }.boxed()
            })
            .await;
        Ok(marked?)
    }
}
