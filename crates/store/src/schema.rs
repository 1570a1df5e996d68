//! The schema's history: what of it a database has, and what this version knows.

use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, PgConnection, SqliteConnection};

use crate::{StoreError, pooling, postgres, postgres_checks, sqlite};

/// A step of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its number; steps are made in this order.
    pub version: i64,
    /// What it is about.
    pub description: String,
    /// Whether the database has it.
    pub applied: bool,
    /// Whether this version of the node knows it. A database that has one it does not know is newer.
    pub known: bool,
}

/// The history of the database at `url`, which is left as it is. One that is not there has nothing.
///
/// # Errors
/// [`StoreError::Address`] for another scheme, otherwise what the database says.
pub async fn history(url: &str) -> Result<Vec<Step>, StoreError> {
    Ok(if url.starts_with("sqlite:") {
        compare(&sqlite::MIGRATIONS, &applied_on_sqlite(url).await?)
    } else {
        compare(&postgres::history(), &applied_on_postgres(url).await?)
    })
}

/// Whether a node's database is at `url`, of whichever version. Nothing is made.
///
/// # Errors
/// As [`history`].
pub async fn is_there(url: &str) -> Result<bool, StoreError> {
    Ok(history(url).await?.iter().any(|step| step.applied))
}

const APPLIED: &str = "select version, description from _sqlx_migrations order by version";

async fn applied_on_sqlite(url: &str) -> Result<Vec<(i64, String)>, StoreError> {
    let options = sqlite::reading(url)?;
    if !options.get_filename().exists() {
        return Ok(Vec::new());
    }
    read_applied(&options).await.map_err(StoreError::opening(options.get_filename()))
}

async fn read_applied(options: &SqliteConnectOptions) -> Result<Vec<(i64, String)>, sqlx::Error> {
    let mut connection = SqliteConnection::connect_with(options).await?;
    let (tables,): (i64,) =
        sqlx::query_as("select count(*) from sqlite_schema where name = '_sqlx_migrations'")
            .fetch_one(&mut connection)
            .await?;
    let applied =
        if tables == 0 { Vec::new() } else { sqlx::query_as(APPLIED).fetch_all(&mut connection).await? };
    connection.close().await?;
    Ok(applied)
}

async fn applied_on_postgres(url: &str) -> Result<Vec<(i64, String)>, StoreError> {
    let options = postgres::options(url)?;
    pooling::refuse_transaction_pooling(&options).await?;
    let mut connection = PgConnection::connect_with(&options).await?;
    let (there, schema, role): (bool, Option<String>, String) = sqlx::query_as(
        "select to_regclass('_sqlx_migrations') is not null, current_schema()::text, current_user::text",
    )
    .fetch_one(&mut connection)
    .await?;
    if !there && schema.is_none() {
        return Err(postgres_checks::no_schema(&role));
    }
    let applied = if there { sqlx::query_as(APPLIED).fetch_all(&mut connection).await? } else { Vec::new() };
    connection.close().await?;
    Ok(applied)
}

fn compare(migrator: &Migrator, applied: &[(i64, String)]) -> Vec<Step> {
    let known = migrator.iter().map(|step| Step {
        version: step.version,
        description: step.description.to_string(),
        applied: applied.iter().any(|(version, _)| *version == step.version),
        known: true,
    });
    let unknown = applied.iter().filter(|(version, _)| !migrator.version_exists(*version));
    let unknown = unknown.map(|(version, description)| Step {
        version: *version,
        description: description.clone(),
        applied: true,
        known: false,
    });
    let mut steps: Vec<Step> = known.chain(unknown).collect();
    steps.sort_by_key(|step| step.version);
    steps
}
