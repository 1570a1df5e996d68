//! The allowance of emails with sign-in codes, by account: a token bucket, kept as the time when it
//! is full.

use vellum_protocol::UnixMillis;

use crate::statement::Statement;
use crate::{Conn, StoreError, Tx};

/// When the allowance of an account is full again; `None` if it is full.
pub async fn full_at(conn: &mut Conn, account: &str) -> Result<Option<UnixMillis>, StoreError> {
    let select = Statement::new("select full_at from code_emails where account = $1").bind(account);
    Ok(conn.one(select).await?.map(|(at,): (i64,)| UnixMillis(at)))
}

/// Sets when the allowance of an account is full again.
pub async fn set_full_at(tx: &mut Tx, account: &str, at: UnixMillis) -> Result<(), StoreError> {
    let insert = Statement::new(
        "insert into code_emails (account, full_at) values ($1, $2)
         on conflict (account) do update set full_at = excluded.full_at",
    );
    tx.change(insert.bind(account).bind(at)).await?;
    Ok(())
}

/// Removes allowances that are full at `now`. Returns how many.
pub async fn purge(tx: &mut Tx, now: UnixMillis) -> Result<u64, StoreError> {
    tx.change(Statement::new("delete from code_emails where full_at <= $1").bind(now)).await
}
