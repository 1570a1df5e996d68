//! Which generation of a user's keys a session was shown. A device that holds older ones must not
//! overwrite what was sealed anew, and must not have what it seals under them tagged as of the
//! present ones.
//!
//! A session is shown the keys when it signs in, when it reads the identity or the version, and by
//! its own changes of the keys. What nobody has asked for in a session (a message from another
//! node) is held to nothing.

use futures_util::FutureExt;
use vellum_store::sessions::{self, Known};
use vellum_store::users::{Identity, KeyGeneration, User};
use vellum_store::{Store, StoreError, Tx};

use super::{Scope, load};
use crate::Error;

/// The user's row, for a write of what is sealed.
///
/// # Errors
/// [`Error::StaleKmVersion`] when the session was shown older keys than the present ones.
pub(super) async fn load_as_shown(tx: &mut Tx, scope: &Scope) -> Result<User, Error> {
    let user = load(tx, &scope.user).await?;
    let Some(session) = &scope.origin.session else { return Ok(user) };
    match sessions::known_generation(tx, &scope.user, session).await? {
        Some(known) if known >= user.identity.key_generation => Ok(user),
        Some(_) => Err(Error::StaleKmVersion { current: user.identity.km_version }),
        None => Err(Error::SessionEnded),
    }
}

/// Notes that the session has set the keys of this generation itself. Tells whether it was shown
/// an older one before, but at least `from`.
pub(super) async fn knows_its_own(
    tx: &mut Tx,
    scope: &Scope,
    from: KeyGeneration,
    generation: KeyGeneration,
) -> Result<bool, Error> {
    let Some(session) = &scope.origin.session else { return Ok(true) };
    Ok(sessions::show_generation(tx, &scope.user, session, from, generation).await?)
}

/// Notes that a session is shown this identity, and no newer one: it may have changed since it was
/// read. Writes only what is news.
///
/// # Errors
/// Only what the database says; nothing may be shown then.
pub async fn show_keys(store: &Store, known: &Known, identity: &Identity) -> Result<(), Error> {
    let generation = identity.key_generation;
    if known.known_generation >= generation {
        return Ok(());
    }
    let (user, session) = (known.session.user_id.clone(), known.session.id.clone());
    let shown: Result<bool, StoreError> = store
        .write(move |tx| {
            async move {
                sessions::show_generation(tx, &user, &session, KeyGeneration::NONE, generation).await
            }
            .boxed()
        })
        .await;
    shown?;
    Ok(())
}
