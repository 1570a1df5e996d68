//! What the processes on one database must have in common, as texts: the first to come states it.
//! And what a running node tells `vellum doctor`.

use vellum_protocol::UnixMillis;

use crate::conn::{Affected, on};
use crate::statement::Statement;
use crate::{Conn, StoreError, Tx};

/// The name of the fact about an untrusted proxy.
const UNTRUSTED_PROXY: &str = "untrusted_proxy";
/// The name of the fact about an email that could not be sent.
const MAIL_FAILURE: &str = "mail_failure";

/// States a fact if none of this name stands, and returns the one that stands now: the caller compares.
pub async fn agree(tx: &mut Tx, name: &str, value: &str) -> Result<String, StoreError> {
    on!(tx, c => sqlx::query("insert into node_facts (name, value) values ($1, $2) on conflict (name) do nothing")
        .bind(name).bind(value).execute(c).await.map(Affected::from))?;
    let (stands,): (String,) = on!(tx, c => sqlx::query_as("select value from node_facts where name = $1")
        .bind(name).fetch_one(c).await)?;
    Ok(stands)
}

/// Notes the address of a peer that sends forwarding headers and is no trusted proxy.
pub async fn note_untrusted_proxy(tx: &mut Tx, address: &str, now: UnixMillis) -> Result<(), StoreError> {
    note(tx, UNTRUSTED_PROXY, address, now).await
}

/// The peer that was noted last, and when.
pub async fn untrusted_proxy(conn: &mut Conn) -> Result<Option<(String, UnixMillis)>, StoreError> {
    noted(conn, UNTRUSTED_PROXY).await
}

/// Notes why an email could not be sent.
pub async fn note_mail_failure(tx: &mut Tx, reason: &str, now: UnixMillis) -> Result<(), StoreError> {
    note(tx, MAIL_FAILURE, reason, now).await
}

/// Why the last email that could not be sent was not, and when.
pub async fn mail_failure(conn: &mut Conn) -> Result<Option<(String, UnixMillis)>, StoreError> {
    noted(conn, MAIL_FAILURE).await
}

async fn note(tx: &mut Tx, name: &str, text: &str, now: UnixMillis) -> Result<(), StoreError> {
    let upsert = Statement::new(
        "insert into node_facts (name, value) values ($1, $2)
         on conflict (name) do update set value = excluded.value",
    );
    tx.change(upsert.bind(name).bind(format!("{} {text}", now.0))).await?;
    Ok(())
}

async fn noted(conn: &mut Conn, name: &str) -> Result<Option<(String, UnixMillis)>, StoreError> {
    let select = Statement::new("select value from node_facts where name = $1");
    let found: Option<(String,)> = conn.one(select.bind(name)).await?;
    Ok(found.and_then(|(value,)| {
        let (at, text) = value.split_once(' ')?;
        Some((text.to_owned(), UnixMillis(at.parse().ok()?)))
    }))
}
