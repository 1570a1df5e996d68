//! Emails that wait to be sent: to whom and what for, never what is in them. Rows are leased, so
//! that of several nodes on one database one sends each.

use uuid::Uuid;
use vellum_protocol::UnixMillis;

use crate::row::columns;
use crate::statement::Statement;
use crate::{Conn, StoreError, Tx};

/// How long an email may wait.
pub const LIFE_MILLIS: i64 = 3_600_000;
/// How long one attempt has a row to itself.
pub const LEASE_MILLIS: i64 = 150_000;
/// A lease that ends further ahead was written by a clock that was wrong, and is free. More than a
/// lease: the clocks of several nodes differ.
const FARTHEST_LEASE_MILLIS: i64 = 2 * LEASE_MILLIS;
/// The longest pause between two attempts. A row whose next attempt lies further ahead was written
/// by a clock that was wrong, and is due.
pub const LONGEST_PAUSE_MILLIS: i64 = 15 * 60_000;
/// The one purpose that this version knows. Rows with others are for newer versions: they are neither
/// counted nor sent here, but their time is over like that of any.
const SIGN_IN_CODE: &str = "sign_in_code";
/// The `expires_at` of an email whose text is on its way to the mail server. The holder of its
/// lease notes what became of it; if nobody does, the server may have taken it, and it is not
/// sent again.
const HANDED_OVER: UnixMillis = UnixMillis(0);

/// An email to queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEmail {
    /// The row's id, and the id of its sign-in code.
    pub id: String,
    /// The recipient.
    pub address: String,
    /// Whether the address has an account.
    pub has_account: bool,
}

/// An email that this node is to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedEmail {
    /// The row's id, and the id of its sign-in code.
    pub id: String,
    /// The recipient.
    pub address: String,
    /// Whether the address had an account when it was queued.
    pub has_account: bool,
    /// When it is given up.
    pub expires_at: UnixMillis,
    /// Attempts that failed.
    pub attempts: u32,
    /// The lease token.
    pub token: String,
}

/// An email that nobody sent in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiredEmail {
    /// The recipient.
    pub address: String,
    /// Whether its text was on its way to the mail server: it may have arrived.
    pub was_handed_over: bool,
    /// Attempts that failed.
    pub attempts: i64,
    /// Why the last one failed; `None` without any attempt.
    pub last_error: Option<String>,
}

/// What waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overview {
    /// All emails whose time is not over.
    pub waiting: u64,
    /// Those to addresses without an account.
    pub to_strangers: u64,
    /// Those that an attempt has failed with.
    pub failing: u64,
    /// Those to addresses without an account that an attempt has failed with.
    pub failing_to_strangers: u64,
    /// Those that can be leased.
    pub due: u64,
    /// Those that were handed over to a mail server, and nobody noted what became of them.
    pub unknown: u64,
    /// Those whose time is over, of any purpose.
    pub expired: u64,
    /// When the oldest was queued.
    pub oldest: Option<UnixMillis>,
}

macro_rules! is_free {
    () => {
        "(lease_until is null or lease_until <= $1 or lease_until > $2)"
    };
}

macro_rules! is_due {
    () => {
        concat!(is_free!(), " and (next_attempt_at <= $1 or next_attempt_at > $3)")
    };
}

columns!("mail_queue": Overview { waiting, to_strangers, failing, failing_to_strangers, due, unknown, expired, oldest });

/// Counts what waits.
pub async fn overview(conn: &mut Conn, now: UnixMillis) -> Result<Overview, StoreError> {
    let select = Statement::new(concat!(
        "select count(case when is_waiting then 1 end) as waiting,
                count(case when is_waiting and has_account = 0 then 1 end) as to_strangers,
                count(case when is_waiting and attempts > 0 then 1 end) as failing,
                count(case when is_waiting and attempts > 0 and has_account = 0 then 1 end)
                    as failing_to_strangers,
                count(case when is_waiting and ",
        is_due!(),
        " then 1 end) as due,
                count(case when expires_at <= $5 and ",
        is_free!(),
        " then 1 end) as unknown,
                count(case when expires_at > $5 and expires_at <= $1 and ",
        is_free!(),
        " then 1 end) as expired, min(case when is_waiting then created_at end) as oldest
         from (select *, purpose = $4 and expires_at > $1 as is_waiting from mail_queue) as queue"
    ));
    conn.row(due(select, now).bind(SIGN_IN_CODE).bind(HANDED_OVER)).await
}

/// Binds what [`is_due`] needs.
fn due(statement: Statement, now: UnixMillis) -> Statement {
    statement
        .bind(now)
        .bind(now.plus_millis(FARTHEST_LEASE_MILLIS))
        .bind(now.plus_millis(LONGEST_PAUSE_MILLIS))
}

/// Queues an email with a sign-in code, due at once.
pub async fn insert(tx: &mut Tx, email: &NewEmail, now: UnixMillis) -> Result<(), StoreError> {
    let insert = Statement::new(
        "insert into mail_queue (id, address, purpose, has_account, created_at, expires_at,
             next_attempt_at, attempts)
         values ($1, $2, $3, $4, $5, $6, $5, 0)",
    );
    let insert = insert.bind(&email.id).bind(&email.address).bind(SIGN_IN_CODE);
    let insert = insert.bind(i64::from(email.has_account)).bind(now).bind(now.plus_millis(LIFE_MILLIS));
    tx.change(insert).await?;
    Ok(())
}

/// Removes emails to an address that wait for another attempt: a newer one takes their place.
pub async fn remove_failing(tx: &mut Tx, address: &str, now: UnixMillis) -> Result<(), StoreError> {
    let delete = Statement::new(concat!(
        "delete from mail_queue where address = $3 and purpose = $4 and attempts > 0 and ",
        is_free!()
    ));
    let delete = delete.bind(now).bind(now.plus_millis(FARTHEST_LEASE_MILLIS));
    tx.change(delete.bind(address).bind(SIGN_IN_CODE)).await?;
    Ok(())
}

/// Removes the longest waiting email to an address without an account that waits for another
/// attempt.
pub async fn remove_oldest_failing_to_stranger(tx: &mut Tx, now: UnixMillis) -> Result<(), StoreError> {
    let delete = Statement::new(concat!(
        "delete from mail_queue where id in
             (select id from mail_queue where purpose = $3 and has_account = 0 and attempts > 0
                and expires_at > $1 and ",
        is_free!(),
        " order by created_at, id limit 1)"
    ));
    let delete = delete.bind(now).bind(now.plus_millis(FARTHEST_LEASE_MILLIS));
    tx.change(delete.bind(SIGN_IN_CODE)).await?;
    Ok(())
}

/// Removes an email.
pub async fn remove(tx: &mut Tx, id: &str) -> Result<(), StoreError> {
    tx.change(Statement::new("delete from mail_queue where id = $1").bind(id)).await?;
    Ok(())
}

struct LeasedRow {
    id: String,
    address: String,
    expires_at: UnixMillis,
    attempts: u32,
}

columns!("mail_queue": LeasedRow { id, address, expires_at, attempts });

/// Leases up to `most` due emails to addresses with an account or without, those first that no
/// attempt has failed with, then the longest due. `holder` begins the lease token. Cuts what a clock
/// that was ahead has given more time than an email has.
pub async fn lease_due(
    tx: &mut Tx,
    holder: &str,
    has_account: bool,
    most: u32,
    now: UnixMillis,
) -> Result<Vec<LeasedEmail>, StoreError> {
    let token = format!("{holder}:{}", Uuid::new_v4());
    let lease = Statement::new(concat!(
        "update mail_queue set lease_token = $4, lease_until = $7,
             expires_at = case when expires_at > $8 then $8 else expires_at end
         where id in
             (select id from mail_queue where purpose = $5 and has_account = $9 and expires_at > $1 and ",
        is_due!(),
        " order by case when attempts = 0 then 0 else 1 end, next_attempt_at, id limit $6)
         returning id, address, expires_at, attempts"
    ));
    let lease = due(lease, now).bind(&token).bind(SIGN_IN_CODE).bind(i64::from(most));
    let lease = lease.bind(now.plus_millis(LEASE_MILLIS)).bind(now.plus_millis(LIFE_MILLIS));
    let mut rows: Vec<LeasedRow> = tx.change_returning(lease.bind(i64::from(has_account))).await?;
    rows.sort_by(|one, other| one.id.cmp(&other.id));
    let leased = rows.into_iter().map(|row| LeasedEmail {
        id: row.id,
        address: row.address,
        has_account,
        expires_at: row.expires_at,
        attempts: row.attempts,
        token: token.clone(),
    });
    Ok(leased.collect())
}

struct ExpiredRow {
    address: String,
    expires_at: UnixMillis,
    attempts: i64,
    last_error: Option<String>,
}

columns!("mail_queue": ExpiredRow { address, expires_at, attempts, last_error });

/// Removes the emails whose time is over, and returns them: those that were handed over to a mail
/// server, and others if `is_settled`, which the clock is that has been right for a while.
pub async fn take_expired(
    tx: &mut Tx,
    is_settled: bool,
    now: UnixMillis,
) -> Result<Vec<ExpiredEmail>, StoreError> {
    let delete = Statement::new(concat!(
        "delete from mail_queue where expires_at <= $3 and ",
        is_free!(),
        " returning address, expires_at, attempts, last_error"
    ));
    let delete = delete.bind(now).bind(now.plus_millis(FARTHEST_LEASE_MILLIS));
    let rows: Vec<ExpiredRow> =
        tx.change_returning(delete.bind(if is_settled { now } else { HANDED_OVER })).await?;
    let expired = rows.into_iter().map(|row| ExpiredEmail {
        address: row.address,
        was_handed_over: row.expires_at <= HANDED_OVER,
        attempts: row.attempts,
        last_error: row.last_error,
    });
    Ok(expired.collect())
}

/// Renews a lease that still stands, for the email's text to be sent on it. Returns false if it does
/// not: then nothing may be sent. From now on the email is sent again only after [`retry`].
pub async fn hand_over(tx: &mut Tx, email: &LeasedEmail, now: UnixMillis) -> Result<bool, StoreError> {
    let update = Statement::new(
        "update mail_queue set lease_until = $4, expires_at = $5
         where id = $1 and lease_token = $2 and lease_until > $3",
    );
    let update = update.bind(&email.id).bind(&email.token).bind(now);
    let update = update.bind(now.plus_millis(LEASE_MILLIS)).bind(HANDED_OVER);
    Ok(tx.change(update).await? == 1)
}

/// Removes a leased email that was sent or is given up.
pub async fn finish(tx: &mut Tx, email: &LeasedEmail) -> Result<(), StoreError> {
    let delete = Statement::new("delete from mail_queue where id = $1 and lease_token = $2");
    tx.change(delete.bind(&email.id).bind(&email.token)).await?;
    Ok(())
}

/// Ends a lease after an attempt that failed; the next one is at `at`.
pub async fn retry(tx: &mut Tx, email: &LeasedEmail, at: UnixMillis, error: &str) -> Result<(), StoreError> {
    let update = Statement::new(
        "update mail_queue set attempts = attempts + 1, next_attempt_at = $3, last_error = $4,
             expires_at = $5, lease_token = null, lease_until = null
         where id = $1 and lease_token = $2",
    );
    let update = update.bind(&email.id).bind(&email.token).bind(at).bind(error);
    tx.change(update.bind(email.expires_at)).await?;
    Ok(())
}

/// Ends every lease whose holder begins with `prefix`. Returns how many.
pub async fn release_leases(tx: &mut Tx, prefix: &str) -> Result<u64, StoreError> {
    let update = Statement::new(
        "update mail_queue set lease_token = null, lease_until = null
         where lease_token is not null and substr(lease_token, 1, length($1)) = $1",
    );
    tx.change(update.bind(prefix)).await
}
