//! Preferences (`/users/me/preferences`).

use futures_util::FutureExt;
use vellum_store::StoreError;
use vellum_store::preferences::{self, Preferences};

use super::{Scope, UserCommand};
use crate::Error;

/// Changes what the user prefers; `None` leaves a preference as it is.
#[derive(Debug)]
pub struct SetPreferences {
    /// A language tag.
    pub language: Option<String>,
    /// `metric` or `imperial`.
    pub unit_system: Option<String>,
}

impl UserCommand for SetPreferences {
    type Output = Preferences;
    const NAME: &'static str = "set_preferences";

    async fn run(self, scope: Scope) -> Result<Preferences, Error> {
        let Scope { user, node, .. } = scope;
        let stored: Result<Preferences, StoreError> = node
            .store
            .write(move |tx| {
                async move {
                    let before = preferences::of_user(tx, &user).await?;
                    let after = Preferences {
                        language: self.language.unwrap_or(before.language),
                        unit_system: self.unit_system.unwrap_or(before.unit_system),
                    };
                    preferences::set(tx, &user, &after).await?;
                    Ok(after)
                }
                .boxed()
            })
            .await;
        Ok(stored?)
    }
}
