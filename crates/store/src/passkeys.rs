//! Passkeys: which WebAuthn credentials belong to whom, and what their next answers are checked against.

use vellum_protocol::UnixMillis;

use crate::row::{column, columns};
use crate::statement::Statement;
use crate::{Conn, StoreError, Tx, UserId};

/// A passkey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPasskey {
    /// The credential's id, base64url.
    pub credential_id: String,
    /// Whose it is.
    pub user_id: UserId,
    /// What its owner calls it.
    pub name: Option<String>,
    /// The public key and what is checked with it: the verifier's JSON.
    pub credential: String,
    /// How often the authenticator said it has signed. Some never count and stay at 0.
    pub counter: u32,
    /// `singleDevice` or `multiDevice`.
    pub device_type: String,
    /// Whether its maker keeps a copy elsewhere.
    pub backed_up: bool,
    /// How the browser reaches it (`usb`, `internal` …).
    pub transports: Vec<String>,
    /// When it was registered.
    pub created_at: UnixMillis,
    /// When somebody last signed in with it.
    pub last_used_at: Option<UnixMillis>,
}

columns!("passkeys": StoredPasskey {
    credential_id,
    user_id,
    name,
    credential,
    counter,
    device_type,
    backed_up,
    transports,
    created_at,
    last_used_at
});

column! {
    Vec<String>: String => |json| serde_json::from_str(&json).map_err(|error| error.to_string());
}

/// The user's passkeys, oldest first.
pub async fn of_user(conn: &mut Conn, user: &UserId) -> Result<Vec<StoredPasskey>, StoreError> {
    conn.all(
        Statement::new(
            "select credential_id, user_id, name, credential, counter, device_type, backed_up, transports,
             created_at, last_used_at
         from passkeys where user_id = $1 order by created_at, credential_id",
        )
        .bind(user),
    )
    .await
}

/// The ids of the user's credentials.
pub async fn credential_ids(conn: &mut Conn, user: &UserId) -> Result<Vec<String>, StoreError> {
    let select = Statement::new(
        "select credential_id from passkeys where user_id = $1 order by created_at, credential_id",
    );
    let rows: Vec<(String,)> = conn.all(select.bind(user)).await?;
    Ok(rows.into_iter().map(|(id,)| id).collect())
}

/// The passkey with this credential, whosesoever it is.
pub async fn by_credential(conn: &mut Conn, credential: &str) -> Result<Option<StoredPasskey>, StoreError> {
    conn.one(
        Statement::new(
            "select credential_id, user_id, name, credential, counter, device_type, backed_up, transports,
             created_at, last_used_at
         from passkeys where credential_id = $1",
        )
        .bind(credential),
    )
    .await
}

/// Stores a new passkey.
///
/// # Errors
/// [`StoreError::Duplicate`] when the credential is registered already, by whomever.
pub async fn insert(tx: &mut Tx, passkey: &StoredPasskey) -> Result<(), StoreError> {
    let transports = serde_json::json!(passkey.transports).to_string();
    tx.change(
        Statement::new(
            "insert into passkeys (credential_id, user_id, name, credential, counter, device_type, backed_up,
             transports, created_at, last_used_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(&passkey.credential_id)
        .bind(&passkey.user_id)
        .bind(&passkey.name)
        .bind(&passkey.credential)
        .bind(i64::from(passkey.counter))
        .bind(&passkey.device_type)
        .bind(i64::from(passkey.backed_up))
        .bind(transports)
        .bind(passkey.created_at.0)
        .bind(passkey.last_used_at.map(|at| at.0)),
    )
    .await?;
    Ok(())
}

/// Keeps what an answer has changed (counter, backup, last use), if the counter is still the one that the
/// answer was checked against. Tells whether it was: of two answers with one count, one is too many.
pub async fn keep_use(
    tx: &mut Tx,
    passkey: &StoredPasskey,
    checked_against: u32,
) -> Result<bool, StoreError> {
    let done = tx.change(Statement::new("update passkeys set credential = $3, counter = $4, backed_up = $5, device_type = $6, last_used_at = $7
         where credential_id = $1 and counter = $2")
        .bind(&passkey.credential_id)
        .bind(i64::from(checked_against))
        .bind(&passkey.credential)
        .bind(i64::from(passkey.counter))
        .bind(i64::from(passkey.backed_up))
        .bind(&passkey.device_type)
        .bind(passkey.last_used_at.map(|at| at.0))).await?;
    Ok(done == 1)
}

/// Gives a passkey another name. Tells whether the user has such a passkey.
pub async fn rename(
    tx: &mut Tx,
    user: &UserId,
    credential: &str,
    name: Option<&str>,
) -> Result<bool, StoreError> {
    let done = tx
        .change(
            Statement::new("update passkeys set name = $3 where user_id = $1 and credential_id = $2")
                .bind(user)
                .bind(credential)
                .bind(name),
        )
        .await?;
    Ok(done == 1)
}

/// Removes a passkey. Tells whether the user had it.
pub async fn delete(tx: &mut Tx, user: &UserId, credential: &str) -> Result<bool, StoreError> {
    let done = tx
        .change(
            Statement::new("delete from passkeys where user_id = $1 and credential_id = $2")
                .bind(user)
                .bind(credential),
        )
        .await?;
    Ok(done == 1)
}
