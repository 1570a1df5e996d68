//! Sessions: who is signed in, from where, until when. Only the hash of a token is kept.

use vellum_protocol::UnixMillis;

use crate::row::{Columns, FromRow, columns};
use crate::statement::Statement;
use crate::users::{KeyGeneration, User, user_columns};
use crate::{Conn, SessionId, StoreError, Tx, UserId};

/// SHA-256 of a session token.
pub type TokenHash = [u8; 32];

/// One signed-in device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The session's name in lists.
    pub id: SessionId,
    /// Whose session it is.
    pub user_id: UserId,
    /// When the user signed in.
    pub created_at: UnixMillis,
    /// When it was last prolonged.
    pub last_used_at: UnixMillis,
    /// When it ends by itself.
    pub expires_at: UnixMillis,
    /// What the client called itself.
    pub user_agent: Option<String>,
    /// The address it signed in from.
    pub ip: Option<String>,
    /// The device that it was last known to be on.
    pub device_id: Option<String>,
}

/// A session with what its user may do.
#[derive(Debug, Clone)]
pub struct Known {
    /// The session.
    pub session: Session,
    /// What the user's roles allow, in alphabetical order.
    pub permissions: Vec<String>,
    /// The newest generation of the user's keys that the session was shown. It may have been shown
    /// a newer one since.
    pub known_generation: KeyGeneration,
    user: Result<User, StoreError>,
}

impl Known {
    /// The session's user as they were at the same moment.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] when the stored user cannot be read.
    pub fn user(&self) -> Result<&User, StoreError> {
        self.user.as_ref().map_err(StoreError::clone)
    }
}

columns!("sessions": Session { id: session_id, user_id: owner_id, created_at: signed_in_at, last_used_at, expires_at, user_agent, ip, device_id });

/// The columns of a [`Session`], of a session named `s`.
macro_rules! session_columns {
    () => {
        "s.id as session_id, s.user_id as owner_id, s.created_at as signed_in_at, s.last_used_at, s.expires_at, \
         s.user_agent, s.ip, s.device_id"
    };
}

impl FromRow for Known {
    fn from_row(columns: &mut Columns<'_>) -> Result<Self, StoreError> {
        let session = Session::from_row(columns)?;
        let permissions: Option<String> = columns.field("permissions")?;
        let permissions = permissions.iter().flat_map(|held| held.split(' ')).map(str::to_owned);
        let mut permissions: Vec<_> = permissions.collect();
        permissions.sort_unstable();
        // Two roles may allow the same.
        permissions.dedup();
        let known_generation = columns.field("sessions.known_generation")?;
        // Last: a user who cannot be read may still sign out.
        Ok(Self { session, permissions, known_generation, user: User::from_row(columns) })
    }
}

/// Stores a new session under the hash of its token. Whoever signs in is shown the present
/// generation of the user's keys.
pub async fn insert(tx: &mut Tx, session: &Session, token: &TokenHash) -> Result<(), StoreError> {
    let insert = Statement::new(
        "insert into sessions (id, user_id, token_hash, user_agent, ip, created_at, last_used_at, expires_at, device_id,
             known_generation)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, (select key_generation from users where id = $2))",
    );
    let insert = insert.bind(&session.id).bind(&session.user_id).bind(token);
    let insert = insert.bind(session.user_agent.as_deref()).bind(session.ip.as_deref());
    let insert = insert.bind(session.created_at).bind(session.last_used_at).bind(session.expires_at);
    tx.change(insert.bind(session.device_id.as_deref())).await?;
    Ok(())
}

/// The session with this token that has not ended at `now`, and whose it is: what every request has to know, in one query.
pub async fn by_token(
    conn: &mut Conn,
    token: &TokenHash,
    now: UnixMillis,
) -> Result<Option<Known>, StoreError> {
    let select = Statement::new(concat!(
        "select ",
        session_columns!(),
        ", (select string_agg(p.permission_id, ' ') from role_permissions p join user_roles r on r.role_id = p.role_id
             where r.user_id = s.user_id) as permissions, s.known_generation, ",
        user_columns!(),
        " from sessions s join users u on u.id = s.user_id where s.token_hash = $1 and s.expires_at > $2"
    ));
    conn.one(select.bind(token).bind(now)).await
}

/// Notes that a session is shown this generation of its user's keys, if it was shown an older one
/// before, but at least `from`. Tells whether that is so. What it knows never goes back.
pub async fn show_generation(
    tx: &mut Tx,
    user: &UserId,
    id: &SessionId,
    from: KeyGeneration,
    generation: KeyGeneration,
) -> Result<bool, StoreError> {
    let show = Statement::new(
        "update sessions set known_generation = $4
         where id = $1 and user_id = $2 and known_generation >= $3 and known_generation < $4",
    );
    Ok(tx.change(show.bind(id).bind(user).bind(from).bind(generation)).await? == 1)
}

/// The newest generation of its user's keys that a session was shown; `None` when the session is
/// over.
pub async fn known_generation(
    conn: &mut Conn,
    user: &UserId,
    id: &SessionId,
) -> Result<Option<KeyGeneration>, StoreError> {
    let select = Statement::new("select known_generation from sessions where id = $1 and user_id = $2");
    let row: Option<(i64,)> = conn.one(select.bind(id).bind(user)).await?;
    Ok(row.map(|(generation,)| KeyGeneration(generation)))
}

/// Moves the end of a user's session that still runs at `now`.
pub async fn prolong(
    tx: &mut Tx,
    user: &UserId,
    id: &SessionId,
    now: UnixMillis,
    until: UnixMillis,
) -> Result<(), StoreError> {
    tx.change(
        Statement::new(
            "update sessions set last_used_at = $2, expires_at = $3
             where id = $1 and user_id = $4 and expires_at > $2",
        )
        .bind(id)
        .bind(now.0)
        .bind(until.0)
        .bind(user),
    )
    .await?;
    Ok(())
}

/// Notes which device a user's session is on.
pub async fn set_device(tx: &mut Tx, user: &UserId, id: &SessionId, device: &str) -> Result<(), StoreError> {
    let update = Statement::new("update sessions set device_id = $3 where id = $1 and user_id = $2");
    tx.change(update.bind(id).bind(user).bind(device)).await?;
    Ok(())
}

/// The user's sessions that have not ended at `now`, newest first.
pub async fn of_user(conn: &mut Conn, user: &UserId, now: UnixMillis) -> Result<Vec<Session>, StoreError> {
    conn.all(
        Statement::new(concat!(
            "select ",
            session_columns!(),
            " from sessions s
         where s.user_id = $1 and s.expires_at > $2 order by s.created_at desc, s.id desc"
        ))
        .bind(user)
        .bind(now.0),
    )
    .await
}

/// How many sessions have not ended at `now`.
pub async fn count(conn: &mut Conn, now: UnixMillis) -> Result<u64, StoreError> {
    let select = Statement::new("select count(*) from sessions where expires_at > $1").bind(now);
    let (count,) = conn.one::<(i64,)>(select).await?.unwrap_or_default();
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Ends every session of a user but `kept`. Returns how many.
pub async fn delete_others(tx: &mut Tx, user: &UserId, kept: Option<&SessionId>) -> Result<u64, StoreError> {
    tx.change(
        Statement::new("delete from sessions where user_id = $1 and id <> coalesce($2, '')")
            .bind(user)
            .bind(kept),
    )
    .await
}

/// Ends one session of a user. Tells whether there was one.
pub async fn delete(tx: &mut Tx, user: &UserId, id: &SessionId) -> Result<bool, StoreError> {
    let done = tx
        .change(Statement::new("delete from sessions where id = $1 and user_id = $2").bind(id).bind(user))
        .await?;
    Ok(done == 1)
}

/// Forgets sessions that have ended, which opened nothing any more. Returns how many.
pub async fn purge(tx: &mut Tx, now: UnixMillis) -> Result<u64, StoreError> {
    tx.change(Statement::new("delete from sessions where expires_at <= $1").bind(now.0)).await
}
