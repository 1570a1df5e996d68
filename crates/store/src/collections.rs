//! Collections: opaque metadata that the client seals. The empty text is what a client posts before it
//! knows the collection's id, which is part of what it seals; nothing is sealed in that.

use vellum_protocol::{Handle, KmVersion, UnixMillis};

use crate::row::{ROWS_A_STATEMENT, columns};
use crate::shares::Role;
use crate::statement::Statement;
use crate::{CollectionId, Conn, StoreError, Tx, UserId};

/// A collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// Its name, made by the node.
    pub id: CollectionId,
    /// Whose it is.
    pub user_id: UserId,
    /// Whether anybody with its token may read it.
    pub is_public: bool,
    /// Whether clients should take special care.
    pub is_sensitive: bool,
    /// Who holds its key: `user-e2ee` or `server-key`.
    pub scheme: String,
    /// Who may share it on: `owner-only` or `editors-can-share`.
    pub resharing_policy: String,
    /// The token of a public collection.
    pub public_token: Option<String>,
    /// What the token allows.
    pub public_role: Option<String>,
    /// The sealed metadata.
    pub metadata_encrypted: Option<String>,
    /// The version of the collection's own key.
    pub metadata_key_version: i64,
    /// The version of the owner's keys that it is sealed under.
    pub km_version: KmVersion,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it was last changed.
    pub updated_at: UnixMillis,
}

columns!("collections": Collection {
    id,
    user_id,
    is_public,
    is_sensitive,
    scheme,
    resharing_policy,
    public_token,
    public_role,
    metadata_encrypted,
    metadata_key_version,
    km_version,
    created_at,
    updated_at
});

/// A collection as the recipient of a share sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedCollection {
    /// The collection, sealed with the owner's keys.
    pub collection: Collection,
    /// Its owner.
    pub sender: Handle,
    /// What the recipient may do.
    pub role: Role,
    /// What the owner has sealed for the recipient.
    pub encrypted_data: Option<String>,
    /// Its nonce.
    pub nonce: Option<String>,
    /// Whether the recipient has yet to confirm the owner's key.
    pub key_changed: bool,
}

columns!("shares": SharedCollection { ..collection, sender: peer_handle, role, encrypted_data, nonce, key_changed });

macro_rules! select_collection {
    ($rest:literal) => {
        concat!(
            "select id, user_id, is_public, is_sensitive, scheme, resharing_policy, public_token, public_role, ",
            "metadata_encrypted, metadata_key_version, km_version, created_at, updated_at from collections ",
            $rest
        )
    };
}

/// Writes a collection: a new one, or all of one that is there.
pub async fn put(tx: &mut Tx, collection: &Collection) -> Result<(), StoreError> {
    tx.change(Statement::new("insert into collections (id, user_id, is_public, is_sensitive, scheme, resharing_policy, public_token,
             public_role, metadata_encrypted, metadata_key_version, km_version, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
         on conflict (id) do update set is_public = excluded.is_public, public_token = excluded.public_token,
             public_role = excluded.public_role, metadata_encrypted = excluded.metadata_encrypted,
             metadata_key_version = excluded.metadata_key_version, km_version = excluded.km_version,
             updated_at = excluded.updated_at")
        .bind(&collection.id)
        .bind(&collection.user_id)
        .bind(i64::from(collection.is_public))
        .bind(i64::from(collection.is_sensitive))
        .bind(&collection.scheme)
        .bind(&collection.resharing_policy)
        .bind(&collection.public_token)
        .bind(&collection.public_role)
        .bind(&collection.metadata_encrypted)
        .bind(collection.metadata_key_version)
        .bind(collection.km_version.get())
        .bind(collection.created_at.0)
        .bind(collection.updated_at.0)).await?;
    Ok(())
}

/// The user's collections, oldest first.
pub async fn list(conn: &mut Conn, user: &UserId) -> Result<Vec<Collection>, StoreError> {
    let select = Statement::new(select_collection!("where user_id = $1 order by created_at, id"));
    conn.all(select.bind(user)).await
}

/// One of the user's collections.
pub async fn find(
    conn: &mut Conn,
    user: &UserId,
    id: &CollectionId,
) -> Result<Option<Collection>, StoreError> {
    conn.one(Statement::new(select_collection!("where user_id = $1 and id = $2")).bind(user).bind(id)).await
}

/// The collections on this node that their owners have shared with the user, in the order of the
/// shares; of all of them, or the one with this id. Of all, each is without its metadata, which is long
/// and opens for its owner alone. A share by anybody else, such as a friend on
/// another node who names the id of a collection here, counts for nothing.
pub async fn shared_with(
    conn: &mut Conn,
    user: &UserId,
    id: Option<&CollectionId>,
) -> Result<Vec<SharedCollection>, StoreError> {
    let select = Statement::new(
        "select c.id, c.user_id, c.is_public, c.is_sensitive, c.scheme, c.resharing_policy, c.public_token,
             c.public_role, case when cast($2 as text) is null then null else c.metadata_encrypted end as metadata_encrypted,
             c.metadata_key_version, c.km_version, c.created_at,
             c.updated_at, s.peer_handle, s.role, s.encrypted_data, s.nonce,
             cast(case when s.unverified_key is null then 0 else 1 end as bigint) as key_changed
         from shares s join collections c on c.id = s.resource_id and c.user_id = s.peer_user_id
         where s.user_id = $1 and s.direction = 'incoming' and s.resource_type = 'collection'
             and s.resource_id = coalesce($2, s.resource_id)
         order by s.created_at, s.id",
    );
    conn.all(select.bind(user).bind(id.map(CollectionId::as_str))).await
}

/// Seals the metadata of different collections anew, in as few statements as can be. Returns those that are the user's.
pub async fn reseal_all(
    tx: &mut Tx,
    user: &UserId,
    resealed: &[(&CollectionId, &str)],
    sealed_under: KmVersion,
    now: UnixMillis,
) -> Result<Vec<CollectionId>, StoreError> {
    let mut found = Vec::with_capacity(resealed.len());
    for some in resealed.chunks(ROWS_A_STATEMENT) {
        let update = Statement::with_rows(
            "update collections set metadata_encrypted = v.column2, km_version = v.column3, updated_at = v.column4
             from (values ",
            some.iter().map(|(id, metadata_encrypted)| {
                [(*id).into(), (*metadata_encrypted).into(), sealed_under.into(), now.into(), user.into()]
            }),
            ") as v where collections.id = v.column1 and collections.user_id = v.column5 returning collections.id",
        );
        let rows: Vec<(CollectionId,)> = tx.change_returning(update).await?;
        found.extend(rows.into_iter().map(|(id,)| id));
    }
    Ok(found)
}

/// Removes a collection. Tells whether it was the user's.
pub async fn delete(tx: &mut Tx, user: &UserId, id: &CollectionId) -> Result<bool, StoreError> {
    let done = tx
        .change(Statement::new("delete from collections where user_id = $1 and id = $2").bind(user).bind(id))
        .await?;
    Ok(done == 1)
}

/// Removes all of it: part of a reset. Returns how many rows went.
pub async fn wipe(tx: &mut Tx, user: &UserId) -> Result<u64, StoreError> {
    tx.change(Statement::new("delete from collections where user_id = $1").bind(user)).await
}
