//! Nonces of server-to-server requests already seen: no request is taken twice (wire protocol, section 5).

use vellum_protocol::UnixMillis;

use crate::conn::{Affected, on};
use crate::defects::{Defect, planted};
use crate::{StoreError, Tx};

/// Remembers a sender's nonce until `until`. Tells whether it is new; `false` means a replay.
pub async fn remember(
    tx: &mut Tx,
    sender: &str,
    nonce: &str,
    now: UnixMillis,
    until: UnixMillis,
) -> Result<bool, StoreError> {
    let done = on!(tx, c => sqlx::query(
        "insert into transport_nonces (sender, nonce, expires_at) values ($1, $2, $4)
         on conflict (sender, nonce) do update set expires_at = excluded.expires_at
         where transport_nonces.expires_at <= $3"
    )
    .bind(sender).bind(nonce).bind(now.0).bind(until.0).execute(c).await.map(Affected::from))?;
    Ok(done.rows_affected() == 1 || planted(Defect::NoNonceCheck))
}

/// Forgets nonces whose time is over. Returns how many.
pub async fn purge(tx: &mut Tx, now: UnixMillis) -> Result<u64, StoreError> {
    Ok(on!(tx, c => sqlx::query("delete from transport_nonces where expires_at <= $1").bind(now.0).execute(c).await.map(Affected::from))?
        .rows_affected())
}
