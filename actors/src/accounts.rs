//! Making accounts, for the command line, the first start and open registration.

use futures_util::FutureExt;
use vellum_protocol::{KmVersion, UnixMillis};
use vellum_store::roles::Role;
use vellum_store::users::{self, NewUser, User};
use vellum_store::{Store, StoreError, Tx, UserId, collections, roles};

use crate::node::Node;
use crate::user::first_collection;
use crate::{Asker, Error};

/// The role of everybody who is not given another one.
pub(crate) const DEFAULT_ROLE: &str = "user";

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
    let id = store.write(move |tx| async move { create_in(tx, &user, role, now).await }.boxed()).await?;
    log_made(&id, &[role], None, None);
    Ok(id)
}

/// Makes the first account, an administrator, if nobody has one yet. Returns it if it was made.
///
/// # Errors
/// Only what the database says.
pub async fn create_first(store: &Store, user: NewUser, now: UnixMillis) -> Result<Option<UserId>, Error> {
    let made: Result<Option<UserId>, Error> = store
        .write(move |tx| {
            async move {
                if users::any(tx).await? {
                    return Ok(None);
                }
                create_in(tx, &user, "admin", now).await.map(Some)
            }
            .boxed()
        })
        .await;
    let made = made?;
    if let Some(id) = &made {
        log_made(id, &["admin"], None, None);
    }
    Ok(made)
}

/// Logs a new account and its roles, with the administrator who made it.
pub(crate) fn log_made(id: &UserId, roles: &[&str], client_ip: Option<&str>, by: Option<&UserId>) {
    let by = by.map(UserId::as_str);
    tracing::info!(client_ip, account_id = %id, by, "account made");
    for role in roles {
        tracing::info!(client_ip, account_id = %id, role, by, "role given");
    }
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
pub async fn create_by(
    node: &Node,
    giver: impl Into<Asker>,
    new: NewAccount,
) -> Result<(User, Vec<Role>), Error> {
    let (now, Asker { user: giver, origin }) = (node.clock.now(), giver.into());
    let by = giver.clone();
    let made: Result<(User, Vec<Role>), Error> = node
        .store
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
                let first = new.roles.first().map_or(DEFAULT_ROLE, String::as_str);
                let id = create_in(tx, &new.user, first, now).await?;
                for role in new.roles.iter().skip(1) {
                    roles::give(tx, &id, role).await?;
                }
                let user = users::by_id(tx, &id).await?.ok_or(Error::NoSuchUser)?;
                Ok((user, roles::of_user(tx, &id).await?))
            }
            .boxed()
        })
        .await;
    let (user, roles) = made?;
    let given: Vec<&str> = roles.iter().map(|role| role.id.as_str()).collect();
    log_made(&user.id, &given, origin.ip.as_deref(), Some(&by));
    Ok((user, roles))
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
