//! Choosing or changing the alias (`PATCH /users/me/alias`).

use futures_util::FutureExt;
use vellum_protocol::{Alias, Handle};
use vellum_store::{StoreError, outbox, users};

use super::{Event, Scope, UserCommand, load};
use crate::Error;

/// Gives the user this alias.
#[derive(Debug)]
pub struct SetAlias {
    /// The alias, as it is to be spelled.
    pub alias: Alias,
}

/// The alias that is set now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasSet {
    /// The alias.
    pub alias: Alias,
    /// The handle that it makes with this node's domain.
    pub handle: Handle,
}

impl UserCommand for SetAlias {
    type Output = AliasSet;
    const NAME: &'static str = "set_alias";

    async fn run(self, scope: Scope) -> Result<AliasSet, Error> {
        let handle = scope.node.handle_of(&self.alias);
        let (user, now, alias) = (scope.user.clone(), scope.now, self.alias.clone());
        let node = scope.node.clone();
        node.store
            .write(move |tx| {
                async move {
                    let before = load(tx, &user).await?.identity.alias;
                    if before.as_ref() == Some(&alias) {
                        return Ok(());
                    }
                    // Peers know the user by the old handle, and so do revocations still on their way.
                    let known = !outbox::peers_of_user(tx, &user).await?.is_empty();
                    if before.is_some() && (known || outbox::count_pending(tx, &user).await? > 0) {
                        return Err(Error::AliasInUse);
                    }
                    match users::set_alias(tx, &user, &alias, now).await {
                        Err(StoreError::Duplicate(_)) => return Err(Error::AliasTaken),
                        other => other?,
                    }
                    scope.audit(tx, Event::AliasSet).await
                }
                .boxed()
            })
            .await?;
        Ok(AliasSet { alias: self.alias, handle })
    }
}
