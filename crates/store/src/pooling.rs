//! Recognises a pooler between the node and PostgreSQL that gives every transaction another
//! connection (PgBouncer with `pool_mode = transaction`). Prepared statements, `LISTEN` and advisory
//! locks belong to a connection, so a node does not work through one.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tokio::time::timeout;
use uuid::Uuid;

use crate::StoreError;

/// How often it is tried: a client that uses the pooler at the same moment can hide it.
const TRIES: usize = 3;
/// How long a connection is waited for. A pooler keeps a client waiting while all are in use.
const PATIENCE: Duration = Duration::from_secs(10);

/// Refuses such a pooler: a setting of one session is not there any more, or is another session's.
///
/// # Errors
/// [`StoreError::Address`] for a pooler in a mode that does not do; otherwise what the database says.
pub(crate) async fn refuse_transaction_pooling(options: &PgConnectOptions) -> Result<(), StoreError> {
    let mut one = connect(options).await?;
    let mut other = connect(options).await?;
    for _ in 0..TRIES {
        let mark = Uuid::new_v4().to_string();
        let set = format!("select set_config('vellum.session', '{mark}', false)");
        // Without parameters, so that nothing is prepared.
        sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut one).await?;
        // The pooler gives it a connection, most likely the one that was used last.
        sqlx::raw_sql("begin").execute(&mut other).await?;
        let is_shared = session_of(&mut other).await? == mark || session_of(&mut one).await? != mark;
        sqlx::raw_sql("rollback").execute(&mut other).await?;
        if is_shared {
            let reason = "a pooler is there that gives each transaction another connection; a node needs \
                          one that keeps it (PgBouncer: pool_mode = session)";
            return Err(StoreError::Address(reason.into()));
        }
    }
    one.close().await?;
    other.close().await?;
    Ok(())
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    let connecting = timeout(PATIENCE, PgConnection::connect_with(options)).await;
    let too_few = "no connection came in 10 s: a node needs 26 at once; does a pooler have fewer?";
    Ok(connecting.map_err(|_| StoreError::Unreachable(too_few.into()))??)
}

async fn session_of(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    let asked = "select coalesce(current_setting('vellum.session', true), '')";
    sqlx::raw_sql(asked).fetch_one(connection).await?.try_get(0)
}
