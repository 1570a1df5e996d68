//! Which passkeys a user has (`/auth/passkeys`). The ceremonies are in [`crate::passkeys`].
//!
//! Any passkey may be removed, also the last: every account has a mail address, so there is always a way
//! left to sign in.

use futures_util::FutureExt;
use vellum_store::passkeys::{self, StoredPasskey};
use vellum_store::{StoreError, slots};

use super::{Event, Scope, UserCommand};
use crate::Error;

/// The most passkeys that a user may have.
const MOST: usize = 50;

/// Adds a passkey whose registration was verified.
#[derive(Debug)]
pub struct AddPasskey {
    /// The passkey.
    pub passkey: StoredPasskey,
}

impl UserCommand for AddPasskey {
    type Output = ();
    const NAME: &'static str = "add_passkey";

    async fn run(self, scope: Scope) -> Result<(), Error> {
        let node = scope.node.clone();
        node.store
            .write(move |tx| {
                async move {
                    if passkeys::credential_ids(tx, &scope.user).await?.len() >= MOST {
                        return Err(Error::TooManyPasskeys);
                    }
                    match passkeys::insert(tx, &self.passkey).await {
                        Err(StoreError::Duplicate(_)) => return Err(Error::PasskeyExists),
                        other => other?,
                    }
                    scope.audit(tx, Event::PasskeyAdded).await
                }
                .boxed()
            })
            .await
    }
}

/// Gives a passkey another name.
#[derive(Debug)]
pub struct RenamePasskey {
    /// The credential.
    pub credential_id: String,
    /// The name; `None` takes it away.
    pub name: Option<String>,
}

impl UserCommand for RenamePasskey {
    type Output = StoredPasskey;
    const NAME: &'static str = "rename_passkey";

    async fn run(self, scope: Scope) -> Result<StoredPasskey, Error> {
        let node = scope.node.clone();
        node.store
            .write(move |tx| {
                async move {
                    if !passkeys::rename(tx, &scope.user, &self.credential_id, self.name.as_deref()).await? {
                        return Err(Error::PasskeyNotFound);
                    }
                    passkeys::by_credential(tx, &self.credential_id).await?.ok_or(Error::PasskeyNotFound)
                }
                .boxed()
            })
            .await
    }
}

/// Removes a passkey, and the slot that it opens.
#[derive(Debug)]
pub struct RemovePasskey {
    /// The credential.
    pub credential_id: String,
}

impl UserCommand for RemovePasskey {
    type Output = ();
    const NAME: &'static str = "remove_passkey";

    async fn run(self, scope: Scope) -> Result<(), Error> {
        let node = scope.node.clone();
        node.store
            .write(move |tx| {
                async move {
                    if !passkeys::delete(tx, &scope.user, &self.credential_id).await? {
                        return Err(Error::PasskeyNotFound);
                    }
                    if slots::delete(tx, &scope.user, &self.credential_id).await? {
                        scope.audit(tx, Event::SlotDeleted).await?;
                    }
                    scope.audit(tx, Event::PasskeyRemoved).await
                }
                .boxed()
            })
            .await
    }
}
