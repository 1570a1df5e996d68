//! What a database says of the node that it belongs to, read before anything is written: nothing is
//! made, and the schema stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use sqlx::{Connection, PgConnection, SqliteConnection};
use vellum_protocol::Handle;

use crate::copy::{self, MARK};
use crate::node_facts::DOMAIN;
use crate::schema::{self, Step};
use crate::{StoreError, postgres, runs, sqlite};

/// What was read.
#[derive(Debug, Clone, Default)]
pub struct Inspection {
    /// The last run of each data folder that has worked on the database.
    pub runs: BTreeMap<String, String>,
    /// The facts of [`crate::node_facts`], by name.
    pub facts: BTreeMap<String, String>,
    /// Whether an alias was ever shown to the network.
    pub has_published_aliases: bool,
    /// Domains that the database's own users have had in what they exchanged with others.
    pub own_domains: BTreeSet<String>,
    /// Ids of the keys that device wrap secrets are encrypted with.
    pub wrapping_keys_in_use: BTreeSet<String>,
}

impl Inspection {
    /// Whether a node has worked on the database. Commands make accounts before the first start, too.
    #[must_use]
    pub fn is_used(&self) -> bool {
        !self.runs.is_empty() || !self.wrapping_keys_in_use.is_empty()
    }

    /// Whether the database was put back from a backup, and not every folder has worked on it since.
    #[must_use]
    pub fn is_from_backup(&self) -> bool {
        self.runs.values().any(|run| run == runs::BACKUP || run == runs::RESTORED)
    }

    /// The fact with this name.
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.get(name).map(String::as_str)
    }
}

enum Connected {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Connected {
    async fn to(url: &str) -> Result<Self, StoreError> {
        Ok(if url.starts_with("sqlite:") {
            Self::Sqlite(SqliteConnection::connect_with(&sqlite::reading(url)?).await?)
        } else {
            // By another name than a node at work has.
            let options = postgres::options(url)?.application_name("vellum-inspection");
            Self::Postgres(PgConnection::connect_with(&options).await?)
        })
    }

    async fn pairs(&mut self, query: &'static str) -> Result<Vec<(String, String)>, StoreError> {
        Ok(match self {
            Self::Sqlite(connection) => sqlx::query_as(query).fetch_all(connection).await?,
            Self::Postgres(connection) => sqlx::query_as(query).fetch_all(connection).await?,
        })
    }

    async fn tables(&mut self) -> Result<BTreeSet<String>, StoreError> {
        let query = match self {
            Self::Sqlite(_) => "select name, '' from sqlite_schema where type = 'table'",
            Self::Postgres(_) => {
                "select tablename::text, '' from pg_tables where schemaname = current_schema()"
            }
        };
        Ok(self.pairs(query).await?.into_iter().map(|(name, _)| name).collect())
    }

    async fn close(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(connection) => connection.close().await?,
            Self::Postgres(connection) => connection.close().await?,
        }
        Ok(())
    }
}

/// Reads the database at `url`; `None` where there is no node's database.
///
/// # Errors
/// [`StoreError::Schema`] for a database of a newer version, [`StoreError::Copy`] for the target of an
/// unfinished copy, otherwise what the database says.
pub async fn inspect(url: &str) -> Result<Option<Inspection>, StoreError> {
    let history = schema::history(url).await?;
    if !history.iter().any(|step| step.applied) {
        return Ok(None);
    }
    if let Some(Step { version, .. }) = history.iter().find(|step| !step.known) {
        let reason = format!("a newer version made it (step {version} of its history is not known here)");
        return Err(StoreError::Schema(reason));
    }
    let mut database = Connected::to(url).await?;
    let read = read(&mut database).await;
    database.close().await?;
    read.map(Some)
}

async fn read(database: &mut Connected) -> Result<Inspection, StoreError> {
    let tables = database.tables().await?;
    if tables.contains(MARK) {
        return Err(copy::unfinished());
    }
    let mut seen = Inspection::default();
    // An earlier version's database does not have all of them.
    if tables.contains("epochs") {
        seen.runs = database.pairs("select folder, epoch from epochs").await?.into_iter().collect();
    }
    if tables.contains("node_facts") {
        seen.facts = database.pairs("select name, value from node_facts").await?.into_iter().collect();
    }
    if tables.contains("users") {
        let shown = "select id, '' from users
                     where alias is not null and signing_key is not null limit 1";
        seen.has_published_aliases = !database.pairs(shown).await?.is_empty();
    }
    if tables.contains("published_aliases") {
        let published = "select alias_folded, '' from published_aliases limit 1";
        seen.has_published_aliases |= !database.pairs(published).await?.is_empty();
    }
    if !seen.facts.contains_key(DOMAIN) {
        seen.own_domains = own_domains(database, &tables).await?;
    }
    if tables.contains("wrap_secrets") {
        let keys = database.pairs("select distinct key_id, '' from wrap_secrets").await?;
        seen.wrapping_keys_in_use = keys.into_iter().map(|(id, _)| id).collect();
    }
    Ok(seen)
}

/// Reads the domain of the database's own users off what they have sent and received.
async fn own_domains(
    database: &mut Connected,
    tables: &BTreeSet<String>,
) -> Result<BTreeSet<String>, StoreError> {
    let mut handles = Vec::new();
    if tables.contains("invitations") {
        let select = "select distinct
                case direction when 'outgoing' then from_handle else to_handle end, '' from invitations";
        handles.extend(database.pairs(select).await?);
    }
    if tables.contains("applied_envelopes") {
        let select = "select distinct recipient_handle, '' from applied_envelopes";
        handles.extend(database.pairs(select).await?);
    }
    let mut handles: Vec<Handle> = handles.iter().filter_map(|(text, _)| Handle::parse(text).ok()).collect();
    if tables.contains("outbox") {
        let select = "select envelope, '' from outbox where envelope is not null limit 1000";
        let sent = database.pairs(select).await?.into_iter();
        handles.extend(sent.filter_map(|(text, _)| serde_json::from_str::<Sent>(&text).ok()?.from));
    }
    Ok(handles.iter().map(|handle| handle.domain().folded()).collect())
}

/// What is read of an envelope.
#[derive(Deserialize)]
struct Sent {
    from: Option<Handle>,
}
