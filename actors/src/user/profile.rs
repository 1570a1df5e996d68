//! Changing one's names and picture (`PATCH /users/me/profile`), and noting that one has been
//! through a client's first steps (`POST /users/me/onboarding/complete`).

use futures_util::FutureExt;
use vellum_protocol::UnixMillis;
use vellum_store::users;

use super::{Scope, UserCommand, load};
use crate::Error;

/// What is to become of a name, or of the address of a picture.
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

/// Changes the user's names and picture.
#[derive(Debug)]
pub struct ChangeProfile {
    /// The first name.
    pub first_name: NameChange,
    /// The last name.
    pub last_name: NameChange,
    /// The address of the picture.
    pub picture: NameChange,
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
                    if let NameChange::Set(picture) = self.picture {
                        users::set_picture(tx, &user, picture.as_deref(), now).await?;
                    }
                    Ok(Names { first, last })
                }
                .boxed()
            })
            .await
    }
}

/// Notes that the user has been through a client's first steps. What was noted first stays.
#[derive(Debug)]
pub struct CompleteOnboarding;

impl UserCommand for CompleteOnboarding {
    /// When that was.
    type Output = UnixMillis;
    const NAME: &'static str = "complete_onboarding";

    async fn run(self, scope: Scope) -> Result<UnixMillis, Error> {
        let Scope { user, now, node, .. } = scope;
        node.store
            .write(move |tx| {
                async move { users::complete_onboarding(tx, &user, now).await?.ok_or(Error::NoSuchUser) }
                    .boxed()
            })
            .await
    }
}
