//! Counts of wrong sign-in codes, by account, source and hour.

use vellum_protocol::UnixMillis;

use crate::statement::Statement;
use crate::{Conn, StoreError, Tx};

const HOUR_MILLIS: i64 = 3_600_000;
/// Hours that are summed up: 24, and the one that has begun. So any 24 hours are covered in full.
const HOURS: i64 = 25;

/// The tries of one source, or of all sources together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// The source; empty for all together.
    pub source: String,
    /// Wrong codes in the last 24 to 25 hours.
    pub tries: u32,
}

/// The wrong codes of an account in the last 24 to 25 hours, by the source that they were counted
/// for. What a clock counted that was ahead is left out.
pub async fn spent(conn: &mut Conn, account: &str, now: UnixMillis) -> Result<Vec<Spent>, StoreError> {
    let select = Statement::new(
        "select source, cast(sum(tries) as bigint) from wrong_codes where account = $1 and hour > $2 and hour <= $3
         group by source order by source",
    );
    let rows: Vec<(String, i64)> = conn.all(select.bind(account).bind(window(now)).bind(now)).await?;
    let spent = |(source, tries)| Spent { source, tries: u32::try_from(tries).unwrap_or(u32::MAX) };
    Ok(rows.into_iter().map(spent).collect())
}

/// Counts a wrong code for a source; an empty one stands for all sources together.
pub async fn count(tx: &mut Tx, account: &str, source: &str, now: UnixMillis) -> Result<(), StoreError> {
    let insert = Statement::new(
        "insert into wrong_codes (account, source, hour, tries) values ($1, $2, $3, 1)
         on conflict (account, source, hour) do update set tries = wrong_codes.tries + 1",
    );
    let hour = now.plus_millis(-now.0.rem_euclid(HOUR_MILLIS));
    tx.change(insert.bind(account).bind(source).bind(hour)).await?;
    Ok(())
}

/// Removes counts that nothing is summed up from any more. Returns how many.
pub async fn purge(tx: &mut Tx, now: UnixMillis) -> Result<u64, StoreError> {
    tx.change(Statement::new("delete from wrong_codes where hour <= $1").bind(window(now))).await
}

fn window(now: UnixMillis) -> UnixMillis {
    now.plus_millis(-HOURS * HOUR_MILLIS)
}
