//! Users: who has an account, and the identity each shows to the network.

use vellum_protocol::{Alias, EncryptionKey, KmVersion, SigningKey, UnixMillis};

use crate::defects::{Defect, planted};
use crate::row::{Columns, FromRow, column};
use crate::statement::{Statement, Value};
use crate::{Conn, StoreError, Tx, UserId};

/// A user's two public keys. They are registered together and cleared together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// Ed25519: what the user's envelopes are verified with.
    pub signing: SigningKey,
    /// X25519: what others seal for the user with.
    pub encryption: EncryptionKey,
}

/// Counts the changes of a user's keys, resets included. It never goes back, unlike the version
/// that clients see, which a reset sets to the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyGeneration(pub(crate) i64);

column! {
    KeyGeneration: i64 => |number| Ok(Self(number));
}

impl From<KeyGeneration> for Value {
    fn from(generation: KeyGeneration) -> Self {
        generation.0.into()
    }
}

impl KeyGeneration {
    /// Earlier than every other.
    pub const NONE: Self = Self(0);

    /// The one before.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0 - 1)
    }
}

/// What the network knows of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name before the `@`, once chosen.
    pub alias: Option<Alias>,
    /// The public keys, once registered.
    pub keys: Option<Keys>,
    /// Which generation of keys the user's data is sealed under.
    pub km_version: KmVersion,
    /// How often the keys were changed: nothing that the network is told.
    pub key_generation: KeyGeneration,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The node's name for the user.
    pub id: UserId,
    /// The address as it was given.
    pub email: String,
    /// First name, if given.
    pub first_name: Option<String>,
    /// Last name, if given.
    pub last_name: Option<String>,
    /// Address of a picture, if given.
    pub picture: Option<String>,
    /// What the network knows of the user.
    pub identity: Identity,
    /// When the user has been through a client's first steps.
    pub onboarding_completed_at: Option<UnixMillis>,
    /// When the account was made.
    pub created_at: UnixMillis,
    /// When the account was last changed.
    pub updated_at: UnixMillis,
}

impl User {
    /// First and last name joined by a space; `None` when there is neither (wire protocol, section 5).
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let parts: Vec<&str> =
            [&self.first_name, &self.last_name].into_iter().flatten().map(String::as_str).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    }
}

/// What an account is made from.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The e-mail address: unique without regard to case.
    pub email: String,
    /// First name.
    pub first_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
    /// Address of a picture.
    pub picture: Option<String>,
}

/// How an e-mail address is compared and looked up.
#[must_use]
pub fn fold_email(email: &str) -> String {
    email.trim().to_lowercase()
}

impl FromRow for User {
    fn from_row(columns: &mut Columns<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: columns.field("users.id")?,
            email: columns.field("users.email")?,
            first_name: columns.field("users.first_name")?,
            last_name: columns.field("users.last_name")?,
            picture: columns.field("users.picture")?,
            identity: Identity {
                alias: columns.field("users.alias")?,
                keys: keys(columns)?,
                km_version: columns.field("users.km_version")?,
                key_generation: columns.field("users.key_generation")?,
            },
            onboarding_completed_at: columns.field("users.onboarding_completed_at")?,
            created_at: columns.field("users.created_at")?,
            updated_at: columns.field("users.updated_at")?,
        })
    }
}

/// Both keys, or none.
pub(crate) fn keys(columns: &mut Columns<'_>) -> Result<Option<Keys>, StoreError> {
    let signing: Option<SigningKey> = columns.field("users.signing_key")?;
    let encryption = columns.field("users.encryption_key")?;
    Ok(signing.zip(encryption).map(|(signing, encryption)| Keys { signing, encryption }))
}

/// The columns of a [`User`], of a user named `u`.
macro_rules! user_columns {
    () => {
        "u.id, u.email, u.first_name, u.last_name, u.picture, u.alias, u.signing_key, u.encryption_key, \
         u.km_version, u.key_generation, u.onboarding_completed_at, u.created_at, u.updated_at"
    };
}
pub(crate) use user_columns;

macro_rules! select_user {
    ($($rest:expr),+) => {
        concat!("select ", user_columns!(), " from users u ", $($rest),+)
    };
}

/// Whose e-mail address, name or alias is like the pattern `$1`.
macro_rules! where_like {
    () => {
        "where email_folded like $1 escape '\\' or coalesce(alias_folded, '') like $1 escape '\\'
            or lower(coalesce(first_name, '') || ' ' || coalesce(last_name, '')) like $1 escape '\\'"
    };
}

/// Makes an account at `now`.
///
/// # Errors
/// [`StoreError::Duplicate`] when the e-mail address is taken.
pub async fn insert(tx: &mut Tx, user: &NewUser, now: UnixMillis) -> Result<UserId, StoreError> {
    let id = UserId::generate();
    tx.change(Statement::new("insert into users (id, email, email_folded, first_name, last_name, picture, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $7)")
        .bind(&id)
        .bind(&user.email)
        .bind(fold_email(&user.email))
        .bind(&user.first_name)
        .bind(&user.last_name)
        .bind(&user.picture)
        .bind(now.0)).await?;
    Ok(id)
}

/// The user with this id.
pub async fn by_id(conn: &mut Conn, id: &UserId) -> Result<Option<User>, StoreError> {
    conn.one(Statement::new(select_user!("where id = $1")).bind(id)).await
}

/// The user with this e-mail address, compared without case.
pub async fn by_email(conn: &mut Conn, email: &str) -> Result<Option<User>, StoreError> {
    let select = Statement::new(select_user!("where email_folded = $1"));
    conn.one(select.bind(fold_email(email))).await
}

/// The user with this alias, compared without case (wire protocol, section 1).
pub async fn by_alias(conn: &mut Conn, alias: &Alias) -> Result<Option<User>, StoreError> {
    conn.one(Statement::new(select_user!("where alias_folded = $1")).bind(alias.folded())).await
}

/// Every user, oldest first.
pub async fn all(conn: &mut Conn) -> Result<Vec<User>, StoreError> {
    conn.all(Statement::new(select_user!("order by created_at, id"))).await
}

/// A page of the users whose e-mail address, name or alias contains `text`, oldest first, and how many
/// there are in all.
pub async fn search(
    conn: &mut Conn,
    text: &str,
    limit: u32,
    offset: u32,
) -> Result<(Vec<User>, u64), StoreError> {
    // In a pattern these three have a meaning of their own.
    let escaped = text.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    let pattern = format!("%{escaped}%");
    let users: Vec<User> = conn
        .all(
            Statement::new(select_user!(where_like!(), " order by created_at, id limit $2 offset $3"))
                .bind(&pattern)
                .bind(i64::from(limit))
                .bind(i64::from(offset)),
        )
        .await?;
    let (total,) = conn
        .row(Statement::new(concat!("select count(*) from users ", where_like!())).bind(&pattern))
        .await?;
    Ok((users, total))
}

/// How many accounts there are.
pub async fn count(conn: &mut Conn) -> Result<u64, StoreError> {
    let (count,) =
        conn.one::<(i64,)>(Statement::new("select count(*) from users")).await?.unwrap_or_default();
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Whether anybody has an account.
pub async fn any(conn: &mut Conn) -> Result<bool, StoreError> {
    let row: Option<(i64,)> = conn.one(Statement::new("select cast(1 as bigint) from users limit 1")).await?;
    Ok(row.is_some())
}

/// Sets the user's names; `None` clears one.
pub async fn set_names(
    tx: &mut Tx,
    id: &UserId,
    first_name: Option<&str>,
    last_name: Option<&str>,
    now: UnixMillis,
) -> Result<(), StoreError> {
    tx.change(
        Statement::new("update users set first_name = $2, last_name = $3, updated_at = $4 where id = $1")
            .bind(id)
            .bind(first_name)
            .bind(last_name)
            .bind(now.0),
    )
    .await?;
    Ok(())
}

/// Sets the address of the user's picture; `None` clears it.
pub async fn set_picture(
    tx: &mut Tx,
    id: &UserId,
    picture: Option<&str>,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let update = Statement::new("update users set picture = $2, updated_at = $3 where id = $1");
    tx.change(update.bind(id).bind(picture).bind(now)).await?;
    Ok(())
}

/// Notes that the user has been through a client's first steps, and returns when that was first
/// noted; `None` when there is no such user.
pub async fn complete_onboarding(
    tx: &mut Tx,
    id: &UserId,
    now: UnixMillis,
) -> Result<Option<UnixMillis>, StoreError> {
    let update = Statement::new(
        "update users set onboarding_completed_at = coalesce(onboarding_completed_at, $2) where id = $1
         returning onboarding_completed_at",
    );
    let rows: Vec<(i64,)> = tx.change_returning(update.bind(id).bind(now)).await?;
    Ok(rows.first().map(|(at,)| UnixMillis(*at)))
}

/// Gives the user an alias.
///
/// # Errors
/// [`StoreError::Duplicate`] when another user has it or has shown it with a key before, in
/// whatever case.
pub async fn set_alias(tx: &mut Tx, id: &UserId, alias: &Alias, now: UnixMillis) -> Result<(), StoreError> {
    // An earlier version of the node may have shown the present one without noting it.
    publish_alias(tx, id, now).await?;
    let update = Statement::new(
        "update users set alias = $2, alias_folded = $3, updated_at = $4 where id = $1 and not exists (
             select 1 from published_aliases p where p.alias_folded = $3 and p.user_id <> $1)",
    );
    if tx.change(update.bind(id).bind(alias.as_str()).bind(alias.folded()).bind(now)).await? == 0 {
        return Err(StoreError::Duplicate("published_aliases".into()));
    }
    publish_alias(tx, id, now).await
}

/// Notes that the user's alias is shown with a key, if it is: from then on nobody else gets it.
async fn publish_alias(tx: &mut Tx, id: &UserId, now: UnixMillis) -> Result<(), StoreError> {
    let insert = Statement::new(
        "insert into published_aliases (alias_folded, user_id, first_at)
         select alias_folded, id, $2 from users
         where id = $1 and alias_folded is not null and signing_key is not null
         on conflict (alias_folded) do nothing",
    );
    tx.change(insert.bind(id).bind(now)).await?;
    Ok(())
}

/// Whether the user may have this alias: nobody else has it or has shown it with a key before.
pub async fn is_alias_free(conn: &mut Conn, id: &UserId, alias: &Alias) -> Result<bool, StoreError> {
    let select = Statement::new(
        "select id from users where alias_folded = $2 and id <> $1
         union all select user_id from published_aliases where alias_folded = $2 and user_id <> $1",
    );
    let others: Vec<(UserId,)> = conn.all(select.bind(id).bind(alias.folded())).await?;
    Ok(others.is_empty())
}

/// Keys that have been swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swapped {
    /// Whether anything waits in the outbox that the old ones have signed or were to sign.
    pub anything_queued: bool,
    /// The generation that the new ones are.
    pub generation: KeyGeneration,
}

/// Compare-and-swap of the keys: they become `keys` and the version `next` only if the version is still
/// `expected`. `None` says that it is not.
pub async fn swap_keys(
    tx: &mut Tx,
    id: &UserId,
    expected: KmVersion,
    keys: &Keys,
    next: KmVersion,
    now: UnixMillis,
) -> Result<Option<Swapped>, StoreError> {
    let mut expected = expected;
    if planted(Defect::NoCompareAndSwap) {
        expected = by_id(tx, id).await?.map_or(expected, |user| user.identity.km_version);
    }
    let swap = Statement::new(
        "update users set signing_key = $3, encryption_key = $4, km_version = $5, updated_at = $6,
             key_generation = key_generation + 1
         where id = $1 and km_version = $2
         returning cast(case when exists (select 1 from outbox where user_id = $1) then 1 else 0 end as bigint),
             key_generation,
             cast(case when alias_folded is null or exists (
                 select 1 from published_aliases p where p.alias_folded = users.alias_folded)
             then 0 else 1 end as bigint)",
    );
    let swap = swap.bind(id).bind(expected).bind(keys.signing.to_base64()).bind(keys.encryption.to_base64());
    let swapped: Vec<(i64, i64, i64)> = tx.change_returning(swap.bind(next).bind(now)).await?;
    let Some((queued, generation, unpublished)) = swapped.first() else { return Ok(None) };
    if *unpublished != 0 {
        publish_alias(tx, id, now).await?;
    }
    Ok(Some(Swapped { anything_queued: *queued != 0, generation: KeyGeneration(*generation) }))
}

/// Clears the keys and sets the version back to the first: the user's part of a reset. That there
/// are none counts as a generation.
pub async fn clear_keys(tx: &mut Tx, id: &UserId, now: UnixMillis) -> Result<(), StoreError> {
    publish_alias(tx, id, now).await?;
    let clear = Statement::new(
        "update users set signing_key = null, encryption_key = null, km_version = 1, updated_at = $2,
             key_generation = key_generation + 1
         where id = $1",
    );
    tx.change(clear.bind(id).bind(now)).await?;
    Ok(())
}
