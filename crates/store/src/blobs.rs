//! Personal blobs: ciphertext under the user's personal key, one a type.

use vellum_protocol::{KmVersion, UnixMillis};

use crate::row::{ROWS_A_STATEMENT, columns};
use crate::statement::Statement;
use crate::{Conn, StoreError, Tx, UserId};

/// What a listing shows of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// Which blob.
    pub blob_type: String,
    /// The version of the keys that it is sealed under.
    pub km_version: KmVersion,
    /// Raised by every write: two devices tell by it whether they saw the same blob.
    pub revision: i64,
    /// When it was last written.
    pub updated_at: UnixMillis,
}

/// A blob with its ciphertext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// What a listing shows.
    pub info: BlobInfo,
    /// The ciphertext, as the client writes it.
    pub encrypted_blob: String,
    /// A nonce beside it, for old clients; empty otherwise.
    pub nonce: String,
}

columns!("blobs": BlobInfo { blob_type, km_version, revision, updated_at });

columns!("blobs": Blob { ..info, encrypted_blob, nonce });

/// The user's blobs without their ciphertext, by type.
pub async fn list(conn: &mut Conn, user: &UserId) -> Result<Vec<BlobInfo>, StoreError> {
    let select = Statement::new(
        "select blob_type, km_version, revision, updated_at from blobs where user_id = $1 order by blob_type",
    );
    conn.all(select.bind(user)).await
}

/// One of the user's blobs.
pub async fn find(conn: &mut Conn, user: &UserId, blob_type: &str) -> Result<Option<Blob>, StoreError> {
    conn.one(
        Statement::new(
            "select blob_type, km_version, revision, updated_at, encrypted_blob, nonce from blobs
         where user_id = $1 and blob_type = $2",
        )
        .bind(user)
        .bind(blob_type),
    )
    .await
}

/// Writes a blob; returns its new revision.
pub async fn put(
    tx: &mut Tx,
    user: &UserId,
    blob_type: &str,
    encrypted_blob: &str,
    nonce: &str,
    sealed_under: KmVersion,
    now: UnixMillis,
) -> Result<i64, StoreError> {
    let mut revisions = put_all(tx, user, &[(blob_type, encrypted_blob)], nonce, sealed_under, now).await?;
    let none = || StoreError::Unreadable { column: "blobs.revision", reason: "nothing was returned".into() };
    revisions.pop().ok_or_else(none)
}

/// Writes blobs of different types, each with its ciphertext, in as few statements as can be. Returns their new revisions.
pub async fn put_all(
    tx: &mut Tx,
    user: &UserId,
    blobs: &[(&str, &str)],
    nonce: &str,
    sealed_under: KmVersion,
    now: UnixMillis,
) -> Result<Vec<i64>, StoreError> {
    let mut revisions = Vec::with_capacity(blobs.len());
    for some in blobs.chunks(ROWS_A_STATEMENT) {
        let insert = Statement::with_rows(
            "insert into blobs (user_id, blob_type, encrypted_blob, nonce, km_version, revision, updated_at) values ",
            some.iter().map(|(blob_type, encrypted_blob)| {
                let (blob_type, encrypted_blob) = ((*blob_type).into(), (*encrypted_blob).into());
                let (version, revision) = (sealed_under.into(), 1i64.into());
                [user.into(), blob_type, encrypted_blob, nonce.into(), version, revision, now.into()]
            }),
            " on conflict (user_id, blob_type) do update set encrypted_blob = excluded.encrypted_blob,
                 nonce = excluded.nonce, km_version = excluded.km_version, revision = blobs.revision + 1,
                 updated_at = excluded.updated_at
             returning revision",
        );
        let rows: Vec<(i64,)> = tx.change_returning(insert).await?;
        revisions.extend(rows.into_iter().map(|(revision,)| revision));
    }
    Ok(revisions)
}

/// Removes a blob. Tells whether it was there.
pub async fn delete(tx: &mut Tx, user: &UserId, blob_type: &str) -> Result<bool, StoreError> {
    let done = tx
        .change(
            Statement::new("delete from blobs where user_id = $1 and blob_type = $2")
                .bind(user)
                .bind(blob_type),
        )
        .await?;
    Ok(done == 1)
}

/// Removes all of it: part of a reset. Returns how many rows went.
pub async fn wipe(tx: &mut Tx, user: &UserId) -> Result<u64, StoreError> {
    tx.change(Statement::new("delete from blobs where user_id = $1").bind(user)).await
}
