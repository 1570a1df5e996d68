//! Peer nodes: the key pinned at first contact, and how reaching them has gone lately.

use sqlx::FromRow;
use vellum_protocol::{SigningKey, UnixMillis};

use crate::conn::on;
use crate::row::read_optional;
use crate::{Conn, StoreError, Tx};

/// What the node remembers of a peer node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerNode {
    /// Its domain, in lower case.
    pub domain: String,
    /// The server key pinned at first contact.
    pub public_key: Option<SigningKey>,
    /// For how long it takes late revocations; `None`: fresh envelopes only.
    pub revocation_window_seconds: Option<i64>,
    /// Failures to reach it, one after the other, that are not made good by a delivery.
    pub failures: u32,
    /// No attempt before this time.
    pub retry_at: UnixMillis,
    /// The last failure in words.
    pub last_error: Option<String>,
    /// When the last failure was noted.
    pub last_failure_at: Option<UnixMillis>,
}

#[derive(FromRow)]
struct PeerRow {
    domain: String,
    public_key: Option<String>,
    revocation_window_seconds: Option<i64>,
    failures: i64,
    retry_at: i64,
    last_error: Option<String>,
    last_failure_at: Option<i64>,
}

/// What is remembered of the node at this domain (lower case).
pub async fn find(conn: &mut Conn, domain: &str) -> Result<Option<PeerNode>, StoreError> {
    let row: Option<PeerRow> = on!(conn, c => sqlx::query_as(
        "select domain, public_key, revocation_window_seconds, failures, retry_at, last_error,
                last_failure_at
         from peers
         where domain = $1"
    )
    .bind(domain).fetch_optional(c).await)?;
    row.map(|row| {
        Ok(PeerNode {
            domain: row.domain,
            public_key: read_optional("peers.public_key", row.public_key.as_deref(), SigningKey::parse)?,
            revocation_window_seconds: row.revocation_window_seconds,
            failures: u32::try_from(row.failures).unwrap_or(u32::MAX),
            retry_at: UnixMillis(row.retry_at),
            last_error: row.last_error,
            last_failure_at: row.last_failure_at.map(UnixMillis),
        })
    })
    .transpose()
}

/// Pins a key for the domain if none is pinned yet, and returns the key that is pinned now: the caller
/// compares. Notes the revocation window that the peer's manifest states only when the key is the pinned
/// one.
pub async fn pin(
    tx: &mut Tx,
    domain: &str,
    key: &SigningKey,
    window_seconds: Option<i64>,
    now: UnixMillis,
) -> Result<SigningKey, StoreError> {
    on!(tx, c => sqlx::query(
        "insert into peers (domain, public_key, pinned_at, revocation_window_seconds) values ($1, $2, $3, $4)
         on conflict (domain) do update set
             public_key = coalesce(peers.public_key, excluded.public_key),
             pinned_at = coalesce(peers.pinned_at, excluded.pinned_at),
             revocation_window_seconds =
                 case when coalesce(peers.public_key, excluded.public_key) = excluded.public_key
                      then excluded.revocation_window_seconds else peers.revocation_window_seconds end"
    )
    .bind(domain).bind(key.to_base64()).bind(now.0).bind(window_seconds).execute(c).await)?;
    let pinned = find(tx, domain).await?.and_then(|peer| peer.public_key);
    pinned
        .ok_or(StoreError::Unreadable { column: "peers.public_key", reason: "missing after pinning".into() })
}

/// Notes a failure to reach the peer: its record becomes `failures`, and nothing is tried before `retry_at`.
pub async fn note_failure(
    tx: &mut Tx,
    domain: &str,
    failures: u32,
    retry_at: UnixMillis,
    error: &str,
    now: UnixMillis,
) -> Result<(), StoreError> {
    on!(tx, c => sqlx::query(
        "insert into peers (domain, failures, retry_at, last_error, last_failure_at) values ($1, $2, $3, $4, $5)
         on conflict (domain) do update set failures = excluded.failures, retry_at = excluded.retry_at,
             last_error = excluded.last_error, last_failure_at = excluded.last_failure_at"
    )
    .bind(domain).bind(i64::from(failures)).bind(retry_at.0).bind(error).bind(now.0).execute(c).await)?;
    Ok(())
}

/// Notes that the peer asked for a pause, or that it is up again but refuses: no attempt before `retry_at`.
pub async fn pause_until(tx: &mut Tx, domain: &str, retry_at: UnixMillis) -> Result<(), StoreError> {
    on!(tx, c => sqlx::query(
        "insert into peers (domain, retry_at) values ($1, $2)
         on conflict (domain) do update set retry_at = excluded.retry_at where peers.retry_at < excluded.retry_at"
    )
    .bind(domain).bind(retry_at.0).execute(c).await)?;
    Ok(())
}

/// Clears the peer's record: something was delivered to it.
pub async fn note_delivery(tx: &mut Tx, domain: &str, now: UnixMillis) -> Result<(), StoreError> {
    on!(tx, c => sqlx::query(
        "update peers set failures = 0, retry_at = 0, last_error = null, last_delivery_at = $2 where domain = $1"
    )
    .bind(domain).bind(now.0).execute(c).await)?;
    Ok(())
}

/// A peer that is being waited for has spoken: it earns one probe at once. Its record stays, since one
/// that speaks may still not listen. Tells whether there was a wait to cut short.
pub async fn allow_probe(tx: &mut Tx, domain: &str, now: UnixMillis) -> Result<bool, StoreError> {
    let done = on!(tx, c => sqlx::query(
        "update peers set retry_at = $2 where domain = $1 and failures > 0 and retry_at > $2"
    )
    .bind(domain).bind(now.0).execute(c).await)?;
    Ok(done.rows_affected() == 1)
}
