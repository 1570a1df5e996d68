//! Making accounts, for the command line, the first start and open registration.

use futures_util::FutureExt;
use vellum_store::users::{self, NewUser};
use vellum_store::{Store, StoreError, Tx, UserId, roles};

use vellum_protocol::UnixMillis;

use crate::Error;

/// Makes an account with a role.
///
/// # Errors
/// [`Error::EmailTaken`].
pub async fn create(
    store: &Store,
    user: NewUser,
    role: &'static str,
    now: UnixMillis,
) -> Result<UserId, Error> {
    store.write(move |tx| async move { create_in(tx, &user, role, now).await }.boxed()).await
}

/// Makes the first account, an administrator, if nobody has one yet. Returns it if it was made.
///
/// # Errors
/// Only what the database says.
pub async fn create_first(store: &Store, user: NewUser, now: UnixMillis) -> Result<Option<UserId>, Error> {
    store
        .write(move |tx| {
            async move {
                if users::any(tx).await? {
                    return Ok(None);
                }
                create_in(tx, &user, "admin", now).await.map(Some)
            }
            .boxed()
        })
        .await
}

pub(crate) async fn create_in(
    tx: &mut Tx,
    user: &NewUser,
    role: &str,
    now: UnixMillis,
) -> Result<UserId, Error> {
    let id = match users::insert(tx, user, now).await {
        Err(StoreError::Duplicate(_)) => return Err(Error::EmailTaken),
        other => other?,
    };
    roles::give(tx, &id, role).await?;
    Ok(id)
}
