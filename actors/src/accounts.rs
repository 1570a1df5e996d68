//! Making accounts, for the command line, the first start and open registration.

use futures_util::FutureExt;
use vellum_protocol::{KmVersion, UnixMillis};
use vellum_store::roles::Role;
use vellum_store::users::{self, NewUser, User};
use vellum_store::{Store, StoreError, Tx, UserId, collections, roles};

use crate::Error;
use crate::node::Node;
use crate::user::first_collection;

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

/// An account that somebody asks to be made.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Whose it will be.
    pub user: NewUser,
    /// Ids of the roles to give.
    pub roles: Vec<String>,
}

/// Makes an account for an administrator. Nobody gives a role above their own, and who may not change
/// users gives only the default role and roles they hold themselves.
///
/// # Errors
/// [`Error::EmailTaken`], [`Error::UnknownRole`], [`Error::RoleAboveOwn`].
pub async fn create_by(node: &Node, giver: &UserId, new: NewAccount) -> Result<(User, Vec<Role>), Error> {
    let (now, giver) = (node.clock.now(), giver.clone());
    node.store
        .write(move |tx| {
            async move {
                let held = roles::of_user(tx, &giver).await?;
                let may_change =
                    roles::permissions_of_user(tx, &giver).await?.contains(&"users:update".to_owned());
                let known = roles::all(tx).await?;
                for id in &new.roles {
                    let role = known.iter().find(|role| role.id == *id).ok_or(Error::UnknownRole)?;
                    let below = held.iter().any(|own| own.rank >= role.rank);
                    let holds = role.is_default || held.iter().any(|own| own.id == role.id);
                    if !below || !(may_change || holds) {
                        return Err(Error::RoleAboveOwn);
                    }
                }
                let first = new.roles.first().map_or("user", String::as_str);
                let id = create_in(tx, &new.user, first, now).await?;
                for role in new.roles.iter().skip(1) {
                    roles::give(tx, &id, role).await?;
                }
                let user = users::by_id(tx, &id).await?.ok_or(Error::NoSuchUser)?;
                Ok((user, roles::of_user(tx, &id).await?))
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
    // Clients find one collection there and fill it.
    collections::put(tx, &first_collection(&id, KmVersion::FIRST, now)).await?;
    Ok(id)
}
