//! What must not change from one start to the next, nor differ between the nodes on one database,
//! as texts: the first start states it. And what a running node tells `vellum doctor`.

use vellum_protocol::UnixMillis;

use crate::statement::Statement;
use crate::{Conn, StoreError, Tx};

/// The domain that users' handles end with, in lower case.
pub const DOMAIN: &str = "domain";
/// The public key that peers have pinned, in base64.
pub const SERVER_KEY: &str = "server_key";
/// The id of the oldest wrapping key.
pub const WRAPPING_KEY: &str = "wrapping_key";
/// Ids of the wrapping keys that an operator has given up, between blanks.
pub const LOST_WRAPPING_KEYS: &str = "lost_wrapping_keys";
/// The name of the fact about an untrusted proxy.
const UNTRUSTED_PROXY: &str = "untrusted_proxy";
/// The name of the fact about an email that could not be sent.
const MAIL_FAILURE: &str = "mail_failure";

/// Replaces a fact that still is what the caller has `seen`, and returns the one that stands now.
pub async fn agree(tx: &mut Tx, name: &str, seen: Option<&str>, value: &str) -> Result<String, StoreError> {
    let select = Statement::new("select value from node_facts where name = $1");
    let found: Option<(String,)> = tx.one(select.bind(name)).await?;
    match found {
        Some((stands,)) if stands == value || Some(stands.as_str()) != seen => Ok(stands),
        _ => {
            set(tx, name, value).await?;
            Ok(value.to_owned())
        }
    }
}

async fn set(tx: &mut Tx, name: &str, value: &str) -> Result<(), StoreError> {
    let upsert = Statement::new(
        "insert into node_facts (name, value) values ($1, $2)
         on conflict (name) do update set value = excluded.value",
    );
    tx.change(upsert.bind(name).bind(value)).await?;
    Ok(())
}

/// Notes the address of a peer that sends forwarding headers and is no trusted proxy.
pub async fn note_untrusted_proxy(tx: &mut Tx, address: &str, now: UnixMillis) -> Result<(), StoreError> {
    set(tx, UNTRUSTED_PROXY, &format!("{} {address}", now.0)).await
}

/// The peer that was noted last, and when.
pub async fn untrusted_proxy(conn: &mut Conn) -> Result<Option<(String, UnixMillis)>, StoreError> {
    noted(conn, UNTRUSTED_PROXY).await
}

/// Notes why an email could not be sent.
pub async fn note_mail_failure(tx: &mut Tx, reason: &str, now: UnixMillis) -> Result<(), StoreError> {
    set(tx, MAIL_FAILURE, &format!("{} {reason}", now.0)).await
}

/// Why the last email that could not be sent was not, and when.
pub async fn mail_failure(conn: &mut Conn) -> Result<Option<(String, UnixMillis)>, StoreError> {
    noted(conn, MAIL_FAILURE).await
}

async fn noted(conn: &mut Conn, name: &str) -> Result<Option<(String, UnixMillis)>, StoreError> {
    let select = Statement::new("select value from node_facts where name = $1");
    let found: Option<(String,)> = conn.one(select.bind(name)).await?;
    Ok(found.and_then(|(value,)| {
        let (at, text) = value.split_once(' ')?;
        Some((text.to_owned(), UnixMillis(at.parse().ok()?)))
    }))
}
