//! Seeds on their way from one device of a user to another (wire protocol, section 7): a place for the
//! sealed seed that is filled once and emptied once. Rows stay for a while after that, to be counted.

use vellum_protocol::UnixMillis;

use crate::row::{Columns, FromRow};
use crate::statement::Statement;
use crate::{Conn, StoreError, TransferId, Tx, UserId};

/// What the sending device puts in.
#[derive(Clone, PartialEq, Eq)]
pub struct Upload {
    /// Its ephemeral public key.
    pub sender_key: String,
    /// The seed, sealed for the receiving device.
    pub sealed_seed: String,
    /// The user's signature over both keys and the sealed seed.
    pub sender_signature: String,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload").field("sender_key", &self.sender_key).finish_non_exhaustive()
    }
}

/// A transfer that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Its name.
    pub id: TransferId,
    /// Whose seed it is for.
    pub user_id: UserId,
    /// The receiving device's ephemeral public key.
    pub receiver_key: String,
    /// What was put in and not yet taken out.
    pub upload: Option<Upload>,
    /// Whether it was taken out, or given up.
    pub consumed: bool,
    /// When it ends.
    pub expires_at: UnixMillis,
}

impl FromRow for Transfer {
    fn from_row(columns: &mut Columns<'_>) -> Result<Self, StoreError> {
        let mut transfer = Self {
            id: columns.field("device_transfers.id")?,
            user_id: columns.field("device_transfers.user_id")?,
            receiver_key: columns.field("device_transfers.receiver_key")?,
            consumed: columns.field("device_transfers.consumed")?,
            expires_at: columns.field("device_transfers.expires_at")?,
            upload: None,
        };
        let (sender_key, sealed_seed, sender_signature) = FromRow::from_row(columns)?;
        if let (Some(sender_key), Some(sealed_seed), Some(sender_signature)) =
            (sender_key, sealed_seed, sender_signature)
        {
            transfer.upload = Some(Upload { sender_key, sealed_seed, sender_signature });
        }
        Ok(transfer)
    }
}

/// When the user's transfers between `since` and `until` were begun, oldest first.
pub async fn begun_since(
    conn: &mut Conn,
    user: &UserId,
    since: UnixMillis,
    until: UnixMillis,
) -> Result<Vec<UnixMillis>, StoreError> {
    let rows: Vec<(UnixMillis,)> = conn.all(Statement::new("select created_at from device_transfers where user_id = $1 and created_at > $2 and created_at <= $3
         order by created_at").bind(user).bind(since.0).bind(until.0)).await?;
    Ok(rows.into_iter().map(|(at,)| at).collect())
}

/// Begins a transfer.
pub async fn begin(tx: &mut Tx, transfer: &Transfer, now: UnixMillis) -> Result<(), StoreError> {
    tx.change(
        Statement::new(
            "insert into device_transfers (id, user_id, receiver_key, consumed, created_at, expires_at)
         values ($1, $2, $3, 0, $4, $5)",
        )
        .bind(&transfer.id)
        .bind(&transfer.user_id)
        .bind(&transfer.receiver_key)
        .bind(now.0)
        .bind(transfer.expires_at.0),
    )
    .await?;
    Ok(())
}

/// The transfer with this name.
pub async fn by_id(conn: &mut Conn, id: &TransferId) -> Result<Option<Transfer>, StoreError> {
    let select = Statement::new(
        "select id, user_id, receiver_key, consumed, expires_at, sender_key, sealed_seed, sender_signature
         from device_transfers where id = $1",
    );
    conn.one(select.bind(id)).await
}

/// Puts the sealed seed in, if nothing was ever put in. Tells whether it did.
pub async fn fill(tx: &mut Tx, id: &TransferId, upload: &Upload) -> Result<bool, StoreError> {
    let done = tx
        .change(
            Statement::new(
                "update device_transfers set sender_key = $2, sealed_seed = $3, sender_signature = $4
         where id = $1 and consumed = 0 and sender_key is null",
            )
            .bind(id)
            .bind(&upload.sender_key)
            .bind(&upload.sealed_seed)
            .bind(&upload.sender_signature),
        )
        .await?;
    Ok(done == 1)
}

/// Empties a transfer for good. Tells whether it was not so already.
pub async fn consume(tx: &mut Tx, user: &UserId, id: &TransferId) -> Result<bool, StoreError> {
    let done = tx
        .change(
            Statement::new(
                "update device_transfers set consumed = 1, sealed_seed = null, sender_signature = null
         where id = $1 and user_id = $2 and consumed = 0",
            )
            .bind(id)
            .bind(user),
        )
        .await?;
    Ok(done == 1)
}

/// Removes what is sealed in transfers that ended at or before `now`.
pub async fn empty(tx: &mut Tx, now: UnixMillis) -> Result<(), StoreError> {
    tx.change(
        Statement::new(
            "update device_transfers set consumed = 1, sealed_seed = null, sender_signature = null
         where expires_at <= $1 and consumed = 0",
        )
        .bind(now.0),
    )
    .await?;
    Ok(())
}

/// Forgets transfers begun at or before `counted`, which count against no limit any more. Returns
/// how many.
pub async fn purge(tx: &mut Tx, counted: UnixMillis) -> Result<u64, StoreError> {
    let gone = tx
        .change(Statement::new("delete from device_transfers where created_at <= $1").bind(counted.0))
        .await?;
    Ok(gone)
}
