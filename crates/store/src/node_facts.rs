//! What the processes on one database must have in common, as texts: the first to come states it.

use crate::conn::{Affected, on};
use crate::{StoreError, Tx};

/// States a fact if none of this name stands, and returns the one that stands now: the caller compares.
pub async fn agree(tx: &mut Tx, name: &str, value: &str) -> Result<String, StoreError> {
    on!(tx, c => sqlx::query("insert into node_facts (name, value) values ($1, $2) on conflict (name) do nothing")
        .bind(name).bind(value).execute(c).await.map(Affected::from))?;
    let (stands,): (String,) = on!(tx, c => sqlx::query_as("select value from node_facts where name = $1")
        .bind(name).fetch_one(c).await)?;
    Ok(stands)
}
