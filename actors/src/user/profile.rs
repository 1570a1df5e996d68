//! Changing one's names (`PATCH /users/me/profile`).

use futures_util::FutureExt;
use vellum_store::users;

use super::{Scope, UserCommand, load};
use crate::Error;

/// What is to become of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameChange {
    /// It stays.
    Keep,
    /// It becomes this; `None` clears it.
    Set(Option<String>),
}

impl NameChange {
    fn applied_to(self, name: Option<String>) -> Option<String> {
        match self {
            Self::Keep => name,
            Self::Set(name) => name,
        }
    }
}

/// Changes the user's names.
#[derive(Debug)]
pub struct ChangeProfile {
    /// The first name.
    pub first_name: NameChange,
    /// The last name.
    pub last_name: NameChange,
}

/// The names that the user has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The first name.
    pub first: Option<String>,
    /// The last name.
    pub last: Option<String>,
}

impl UserCommand for ChangeProfile {
    type Output = Names;
    const NAME: &'static str = "change_profile";

    async fn run(self, scope: Scope) -> Result<Names, Error> {
        let Scope { user, now, node, .. } = scope;
        node.store
            .write(move |tx| {
                async move {
                    let before = load(tx, &user).await?;
                    let first = self.first_name.applied_to(before.first_name);
                    let last = self.last_name.applied_to(before.last_name);
                    users::set_names(tx, &user, first.as_deref(), last.as_deref(), now).await?;
                    Ok(Names { first, last })
                }
                .boxed()
            })
            .await
    }
}
