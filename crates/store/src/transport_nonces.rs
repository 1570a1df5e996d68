//! Nonces of server-to-server requests already seen: no request is taken twice (wire protocol, section 5).

use vellum_protocol::UnixMillis;

use crate::defects::{Defect, planted};
use crate::statement::Statement;
use crate::{StoreError, Tx};

/// A nonce of a server's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportNonce {
    /// The server's name, in lower case.
    pub sender: String,
    /// As the server sent it.
    pub nonce: String,
    /// How long it is remembered.
    pub until: UnixMillis,
}

/// Remembers a nonce. Tells whether it is new; `false` means a replay.
pub async fn remember(tx: &mut Tx, nonce: &TransportNonce, now: UnixMillis) -> Result<bool, StoreError> {
    let insert = Statement::new(
        "insert into transport_nonces (sender, nonce, expires_at) values ($1, $2, $4)
         on conflict (sender, nonce) do update set expires_at = excluded.expires_at
         where transport_nonces.expires_at <= $3",
    );
    let inserted =
        tx.change(insert.bind(&nonce.sender).bind(&nonce.nonce).bind(now).bind(nonce.until)).await?;
    Ok(inserted == 1 || planted(Defect::NoNonceCheck))
}

/// Forgets nonces whose time is over. Returns how many.
pub async fn purge(tx: &mut Tx, now: UnixMillis) -> Result<u64, StoreError> {
    tx.change(Statement::new("delete from transport_nonces where expires_at <= $1").bind(now.0)).await
}
