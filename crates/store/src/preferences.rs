//! Preferences: the language and the units a user reads in. They survive a reset.

use crate::row::columns;
use crate::statement::Statement;
use crate::users::fold_email;
use crate::{Conn, StoreError, Tx, UserId};

/// What a user prefers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preferences {
    /// A BCP 47 language tag.
    pub language: String,
    /// `metric` or `imperial`.
    pub unit_system: String,
}

columns!("preferences": Preferences { language, unit_system });

impl Default for Preferences {
    fn default() -> Self {
        Self { language: "en-US".into(), unit_system: "metric".into() }
    }
}

/// What the user prefers; the defaults for somebody who has never said.
pub async fn of_user(conn: &mut Conn, user: &UserId) -> Result<Preferences, StoreError> {
    let row: Option<Preferences> = conn
        .one(Statement::new("select language, unit_system from preferences where user_id = $1").bind(user))
        .await?;
    Ok(row.unwrap_or_default())
}

/// What the user with this e-mail address prefers; the defaults for somebody who has never said, and for an
/// address without an account.
pub async fn of_address(conn: &mut Conn, email: &str) -> Result<Preferences, StoreError> {
    let row: Option<Preferences> = conn
        .one(
            Statement::new(
                "select p.language, p.unit_system from preferences p join users u on u.id = p.user_id
         where u.email_folded = $1",
            )
            .bind(fold_email(email)),
        )
        .await?;
    Ok(row.unwrap_or_default())
}

/// Stores what the user prefers.
pub async fn set(tx: &mut Tx, user: &UserId, preferences: &Preferences) -> Result<(), StoreError> {
    tx.change(Statement::new("insert into preferences (user_id, language, unit_system) values ($1, $2, $3)
         on conflict (user_id) do update set language = excluded.language, unit_system = excluded.unit_system")
        .bind(user)
        .bind(&preferences.language)
        .bind(&preferences.unit_system)).await?;
    Ok(())
}
