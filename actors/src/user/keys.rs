//! Registering the two public keys (`PUT /users/me/keys`).

use futures_util::FutureExt;
use vellum_protocol::KmVersion;
use vellum_store::users::{self, KeyGeneration, Keys};
use vellum_store::{bound_to_keys, outbox};

use super::key_generation::knows_its_own;
use super::{Event, Scope, UserCommand, load, rolled_back_or};
use crate::Error;
use crate::relationships::compensate;

/// Makes `keys` the user's public keys.
#[derive(Debug)]
pub struct RegisterKeys {
    /// Both keys.
    pub keys: Keys,
    /// The version that the caller knows; needed once anything is sealed under the present keys.
    pub expected: Option<KmVersion>,
}

impl UserCommand for RegisterKeys {
    type Output = KmVersion;
    const NAME: &'static str = "register_keys";

    async fn run(self, scope: Scope) -> Result<KmVersion, Error> {
        if self.keys.signing.as_bytes() == self.keys.encryption.as_bytes() {
            return Err(Error::EqualKeys);
        }
        let (user, now, node) = (scope.user.clone(), scope.now, scope.node.clone());
        let RegisterKeys { keys, expected } = self;
        node.store
            .write(move |tx| {
                async move {
                    let bound = bound_to_keys::of_user(tx, &user).await?.ok_or(Error::NoSuchUser)?;
                    let current = bound.km_version;
                    if bound.keys == Some(keys) {
                        // Whoever has the present keys has not missed them.
                        knows_its_own(tx, &scope, KeyGeneration::NONE, bound.key_generation).await?;
                        return Ok(current);
                    }
                    if let Some(expected) = expected
                        && expected != current
                    {
                        let conflict = Error::RotationConflict { current };
                        return Err(rolled_back_or(tx, expected, current, conflict).await?);
                    }
                    let next = match (bound.anything_sealed, expected) {
                        (false, _) => current,
                        (true, Some(_)) => current.next(),
                        // A stale device must not overwrite keys that data depends on.
                        (true, None) => return Err(Error::RotationRequired),
                    };
                    let Some(swapped) = users::swap_keys(tx, &user, current, &keys, next, now).await? else {
                        return Err(Error::RotationConflict {
                            current: load(tx, &user).await?.identity.km_version,
                        });
                    };
                    // The version alone does not tell: it begins anew with a reset.
                    let from = expected.map_or(KeyGeneration::NONE, |_| swapped.generation.previous());
                    if !knows_its_own(tx, &scope, from, swapped.generation).await? && expected.is_some() {
                        return Err(Error::RotationConflict { current });
                    }
                    if bound.keys.is_some() && swapped.anything_queued {
                        // What the old key signed verifies nowhere any more.
                        for message in outbox::withdraw_signatures(tx, &user).await? {
                            compensate(tx, &message, now).await?;
                        }
                    }
                    scope.audit(tx, Event::KeysRegistered).await?;
                    Ok(next)
                }
                .boxed()
            })
            .await
    }
}
