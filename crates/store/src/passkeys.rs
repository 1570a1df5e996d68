//! Passkeys: which WebAuthn credentials belong to whom.

use crate::conn::on;
use crate::{Conn, StoreError, UserId};

/// The ids of the user's credentials, as WebAuthn writes them (base64url).
pub async fn credential_ids(conn: &mut Conn, user: &UserId) -> Result<Vec<String>, StoreError> {
    let rows: Vec<(String,)> = on!(conn, c => sqlx::query_as(
        "select credential_id from passkeys where user_id = $1 order by created_at, id"
    )
    .bind(user).fetch_all(c).await)?;
    Ok(rows.into_iter().map(|(id,)| id).collect())
}
