//! What a database says of the node that it belongs to, read before anything is written: nothing is
//! made, and the schema stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use vellum_protocol::Handle;

use crate::node_facts::DOMAIN;
use crate::schema::{self, Step};
use crate::statement::Statement;
use crate::{Conn, StoreError, connect, runs, tables};

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
    let Some(mut conn) = connect::to_read(url).await? else { return Ok(None) };
    let conn = &mut conn;
    let tables = tables::present(conn).await?;
    tables::refuse_unfinished_copy(&tables)?;
    let mut seen = Inspection::default();
    // An earlier version's database does not have all of them.
    let has = |table| tables.contains(table);
    if has("epochs") {
        let runs: Vec<(String, String)> =
            conn.all(Statement::new("select folder, epoch from epochs")).await?;
        seen.runs = runs.into_iter().collect();
    }
    if has("node_facts") {
        let facts: Vec<(String, String)> =
            conn.all(Statement::new("select name, value from node_facts")).await?;
        seen.facts = facts.into_iter().collect();
    }
    if has("users") {
        let shown = "select id from users where alias is not null and signing_key is not null limit 1";
        seen.has_published_aliases = !texts(conn, Statement::new(shown)).await?.is_empty();
    }
    if has("published_aliases") {
        let published = Statement::new("select alias_folded from published_aliases limit 1");
        seen.has_published_aliases |= !texts(conn, published).await?.is_empty();
    }
    if !seen.facts.contains_key(DOMAIN) {
        seen.own_domains = own_domains(conn, &tables).await?;
    }
    if has("wrap_secrets") {
        let keys = texts(conn, Statement::new("select distinct key_id from wrap_secrets")).await?;
        seen.wrapping_keys_in_use = keys.into_iter().collect();
    }
    Ok(Some(seen))
}

/// Reads rows of one text.
async fn texts(conn: &mut Conn, select: Statement) -> Result<Vec<String>, StoreError> {
    let rows: Vec<(String,)> = conn.all(select).await?;
    Ok(rows.into_iter().map(|(text,)| text).collect())
}

/// Reads the domain of the database's own users off what they have sent and received.
async fn own_domains(conn: &mut Conn, tables: &BTreeSet<String>) -> Result<BTreeSet<String>, StoreError> {
    let mut handles = Vec::new();
    if tables.contains("invitations") {
        let select = "select distinct case direction when 'outgoing' then from_handle else to_handle end
                      from invitations";
        handles.extend(texts(conn, Statement::new(select)).await?);
    }
    if tables.contains("applied_envelopes") {
        let select = Statement::new("select distinct recipient_handle from applied_envelopes");
        handles.extend(texts(conn, select).await?);
    }
    let mut handles: Vec<Handle> = handles.iter().filter_map(|text| Handle::parse(text).ok()).collect();
    if tables.contains("outbox") {
        let select = Statement::new("select envelope from outbox where envelope is not null limit 1000");
        let sent = texts(conn, select).await?;
        handles.extend(sent.iter().filter_map(|text| serde_json::from_str::<Sent>(text).ok()?.from));
    }
    Ok(handles.iter().map(|handle| handle.domain().folded()).collect())
}

/// What is read of an envelope.
#[derive(Deserialize)]
struct Sent {
    from: Option<Handle>,
}
