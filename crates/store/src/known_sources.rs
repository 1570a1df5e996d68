//! Networks and browsers that have signed in to an account, as keyed hashes.

use vellum_protocol::UnixMillis;

use crate::statement::Statement;
use crate::{Conn, StoreError, Tx, UserId};

/// Sources that are kept for an account. The ones that were not seen for longest go first.
const MOST: i64 = 50;

/// Which of two sources the account with this address knows.
pub async fn among(
    conn: &mut Conn,
    email_folded: &str,
    sources: [&str; 2],
) -> Result<Vec<String>, StoreError> {
    let select = Statement::new(
        "select k.source from known_sources k join users u on u.id = k.user_id
         where u.email_folded = $1 and k.source in ($2, $3)",
    );
    let rows: Vec<(String,)> = conn.all(select.bind(email_folded).bind(sources[0]).bind(sources[1])).await?;
    Ok(rows.into_iter().map(|(source,)| source).collect())
}

/// Notes that somebody has signed in to an account from a source.
pub async fn see(tx: &mut Tx, user: &UserId, source: &str, now: UnixMillis) -> Result<(), StoreError> {
    let insert = Statement::new(
        "insert into known_sources (user_id, source, last_seen) values ($1, $2, $3)
         on conflict (user_id, source) do update set last_seen = excluded.last_seen",
    );
    tx.change(insert.bind(user).bind(source).bind(now)).await?;
    let trim = Statement::new(
        "delete from known_sources where user_id = $1 and source not in
             (select source from known_sources where user_id = $1 order by last_seen desc, source limit $2)",
    );
    tx.change(trim.bind(user).bind(MOST)).await?;
    Ok(())
}

/// Forgets sources that were last seen before `until`. Returns how many.
pub async fn purge(tx: &mut Tx, until: UnixMillis) -> Result<u64, StoreError> {
    tx.change(Statement::new("delete from known_sources where last_seen < $1").bind(until)).await
}
