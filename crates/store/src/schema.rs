//! The schema's history: what of it a database has, and what this version knows.

use sqlx::migrate::Migrator;

use crate::conn::per_engine;
use crate::connect::{self, is_postgres};
use crate::statement::Statement;
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
    if is_postgres(url) {
        return Ok(compare(&postgres::history(), &applied_steps(url).await?));
    }
    let path = sqlite::file(url)?;
    let applied = applied_steps(url).await.map_err(StoreError::opening(&path))?;
    Ok(compare(&sqlite::MIGRATIONS, &applied))
}

/// Whether a node's database is at `url`, of whichever version. Nothing is made.
///
/// # Errors
/// As [`history`].
pub async fn is_there(url: &str) -> Result<bool, StoreError> {
    Ok(history(url).await?.iter().any(|step| step.applied))
}

async fn applied_steps(url: &str) -> Result<Vec<(i64, String)>, StoreError> {
    if is_postgres(url) {
        pooling::refuse_transaction_pooling(&postgres::options(url)?).await?;
    }
    let Some(mut conn) = connect::to_read(url).await? else { return Ok(Vec::new()) };
    let select = per_engine!(conn,
        sqlite: "select count(*), 'main', '' from sqlite_schema where name = '_sqlx_migrations'",
        postgres: "select (to_regclass('_sqlx_migrations') is not null)::int::bigint, current_schema()::text,
                          current_user::text"
    );
    let (is_there, schema, role): (bool, Option<String>, String) = conn.row(Statement::new(select)).await?;
    match (is_there, schema) {
        (true, _) => {
            let select = "select version, description from _sqlx_migrations order by version";
            conn.all(Statement::new(select)).await
        }
        (false, Some(_)) => Ok(Vec::new()),
        (false, None) => Err(postgres_checks::no_schema(&role)),
    }
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
