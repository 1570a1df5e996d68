//! Sign-in codes that were sent by email. Only keyed hashes are kept.

use uuid::Uuid;
use vellum_protocol::UnixMillis;

use crate::row::columns;
use crate::statement::Statement;
use crate::{Conn, StoreError, Tx};

/// The keyed hash of a code.
pub type CodeHash = [u8; 32];

/// The two forms of one code. Using either uses up both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeHashes {
    /// The hash of the eight digits.
    pub digits: CodeHash,
    /// The hash of the twenty letters.
    pub letters: CodeHash,
}

/// A code that has not been used and has not expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveCode {
    /// The row's id.
    pub id: String,
    /// Its two forms.
    pub hashes: CodeHashes,
}

columns!("sign_in_codes": CodeHashes { digits: digits_hash, letters: letters_hash });
columns!("sign_in_codes": LiveCode { id, ..hashes });

/// Stores a code under a new id, as [`put`] does.
pub async fn insert(
    tx: &mut Tx,
    email_folded: &str,
    code: &CodeHashes,
    most: u32,
    now: UnixMillis,
    until: UnixMillis,
) -> Result<(), StoreError> {
    put(tx, &Uuid::now_v7().to_string(), email_folded, code, most, now, until).await
}

/// Stores a code for an address until `until`, in place of the one with this id if there is one.
/// Removes the oldest codes of that address beyond `most`. Codes that a clock dated that was ahead
/// are the oldest: they must not displace this one.
pub async fn put(
    tx: &mut Tx,
    id: &str,
    email_folded: &str,
    code: &CodeHashes,
    most: u32,
    now: UnixMillis,
    until: UnixMillis,
) -> Result<(), StoreError> {
    let insert = Statement::new(
        "insert into sign_in_codes (id, email_folded, digits_hash, letters_hash, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (id) do update set digits_hash = excluded.digits_hash,
             letters_hash = excluded.letters_hash, created_at = excluded.created_at,
             expires_at = excluded.expires_at",
    );
    let insert = insert.bind(id).bind(email_folded);
    tx.change(insert.bind(&code.digits).bind(&code.letters).bind(now).bind(until)).await?;
    let trim = Statement::new(
        "delete from sign_in_codes where email_folded = $1 and id not in
             (select id from sign_in_codes where email_folded = $1
              order by case when created_at > $2 then 0 else created_at end desc, id desc limit $3)",
    );
    tx.change(trim.bind(email_folded).bind(now).bind(i64::from(most))).await?;
    Ok(())
}

/// How far the clock of another node on the database may be ahead of this one's.
const CLOCKS_MILLIS: i64 = 60_000;

/// The codes of an address that can be used at `now`, newest first. What a clock dated that was ahead
/// would be usable for longer than it may.
pub async fn live(conn: &mut Conn, email_folded: &str, now: UnixMillis) -> Result<Vec<LiveCode>, StoreError> {
    let select = Statement::new(
        "select id, digits_hash, letters_hash from sign_in_codes where email_folded = $1 and expires_at > $2
           and created_at <= $3
         order by created_at desc, id desc",
    );
    conn.all(select.bind(email_folded).bind(now).bind(now.plus_millis(CLOCKS_MILLIS))).await
}

/// Uses up a code. Returns false if it is gone: of any number of callers one gets true.
pub async fn take(tx: &mut Tx, id: &str) -> Result<bool, StoreError> {
    Ok(tx.change(Statement::new("delete from sign_in_codes where id = $1").bind(id)).await? == 1)
}

/// Removes expired codes, also those of the version before. Returns how many.
pub async fn purge(tx: &mut Tx, now: UnixMillis) -> Result<u64, StoreError> {
    let ours = Statement::new("delete from sign_in_codes where expires_at <= $1").bind(now);
    let theirs = Statement::new("delete from one_time_codes where expires_at <= $1").bind(now);
    Ok(tx.change(ours).await? + tx.change(theirs).await?)
}
