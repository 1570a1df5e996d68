//! What a PostgreSQL database must be, and what the node's role needs there. Checked when it is opened: later a
//! missing right would fail single requests, and for ever.

use sqlx::PgConnection;
use sqlx::migrate::Migrator;

use crate::StoreError;
use crate::tables::TABLES;

/// Tables that only PostgreSQL has.
const OWN_TABLES: [&str; 2] = ["commit_marks", "displaced_leases"];

/// Refuses another encoding than UTF-8: it has no place for most of what people write.
pub(crate) async fn encoding(connection: &mut PgConnection) -> Result<(), StoreError> {
    let (encoding,): (String,) =
        sqlx::query_as("select current_setting('server_encoding')").fetch_one(connection).await?;
    if encoding == "UTF8" {
        return Ok(());
    }
    Err(StoreError::Unsuitable(format!(
        "its encoding is {encoding} and must be UTF8; make another one with createdb --encoding=UTF8 \
         --template=template0 NAME, and name it in database.url"
    )))
}

/// Whether the database has exactly this history.
pub(crate) async fn is_current(
    connection: &mut PgConnection,
    history: &Migrator,
) -> Result<bool, StoreError> {
    let (there,): (bool,) = sqlx::query_as("select to_regclass('_sqlx_migrations') is not null")
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        return Ok(false);
    }
    let applied: Vec<(i64, Vec<u8>, bool)> =
        sqlx::query_as("select version, checksum, success from _sqlx_migrations")
            .fetch_all(connection)
            .await?;
    let is_applied = |version, checksum: &[u8]| {
        applied.iter().any(|(of, sum, success)| *of == version && *success && sum == checksum)
    };
    Ok(applied.len() == history.iter().count()
        && history.iter().all(|step| is_applied(step.version, &step.checksum)))
}

/// Refuses a role that may not make the tables that are missing.
pub(crate) async fn right_to_create(connection: &mut PgConnection) -> Result<(), StoreError> {
    let (role, schema, may_create): (String, Option<String>, Option<bool>) = sqlx::query_as(
        "select current_user::text, current_schema()::text, has_schema_privilege(current_schema(), 'create')",
    )
    .fetch_one(connection)
    .await?;
    match (schema, may_create) {
        (Some(_), Some(true)) => Ok(()),
        (Some(schema), _) => Err(StoreError::Denied(format!(
            "the role {role} lacks CREATE on schema {schema}, and tables are to be made: grant it, or have a role \
             that has it run vellum db migrate"
        ))),
        (None, _) => Err(no_schema(&role)),
    }
}

/// What is said to a role that sees no schema, and so no table either.
pub(crate) fn no_schema(role: &str) -> StoreError {
    StoreError::Denied(format!(
        "the role {role} has no schema to work in: it lacks USAGE on each schema of its search_path"
    ))
}

/// Refuses a role that lacks a right on a table; names every such right.
pub(crate) async fn rights(connection: &mut PgConnection) -> Result<(), StoreError> {
    let tables: Vec<&str> = TABLES.iter().map(|table| table.name).chain(OWN_TABLES).collect();
    let missing: Vec<(String, String, String, String)> = sqlx::query_as(
        "select current_user::text, current_schema()::text, name,
             string_agg(upper(needed), ', ' order by place)
         from unnest($1::text[]) as tables (name)
         cross join unnest(array['select', 'insert', 'update', 'delete']) with ordinality as rights (needed, place)
         where not has_table_privilege(quote_ident(name), needed)
         group by name order by name",
    )
    .bind(tables)
    .fetch_all(connection)
    .await?;
    let Some((role, schema, ..)) = missing.first() else { return Ok(()) };
    let rights: Vec<String> =
        missing.iter().map(|(_, _, table, rights)| format!("{rights} on {table}")).collect();
    Err(StoreError::Denied(format!(
        "the role {role} lacks {}: grant select, insert, update, delete on all tables in schema {schema} to {role}",
        rights.join("; ")
    )))
}
