//! WebAuthn ceremonies under way: what an authenticator was asked, until its one answer has come.

use vellum_protocol::UnixMillis;

use crate::row::columns;
use crate::statement::Statement;
use crate::{StoreError, Tx, UserId};

/// SHA-256 of a challenge.
pub type ChallengeHash = [u8; 32];

/// A ceremony that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceremony {
    /// Who registers a passkey; `None`: somebody wants to sign in.
    pub user_id: Option<UserId>,
    /// The origin of the client that began it.
    pub origin: String,
    /// What the answer is checked against: the verifier's JSON.
    pub state: String,
}

columns!("passkey_ceremonies": Ceremony { user_id, origin, state });

/// Keeps a ceremony until `until`.
pub async fn begin(
    tx: &mut Tx,
    challenge: &ChallengeHash,
    ceremony: &Ceremony,
    until: UnixMillis,
) -> Result<(), StoreError> {
    tx.change(
        Statement::new(
            "insert into passkey_ceremonies (challenge_hash, user_id, origin, state, expires_at)
         values ($1, $2, $3, $4, $5)",
        )
        .bind(challenge.as_slice())
        .bind(&ceremony.user_id)
        .bind(&ceremony.origin)
        .bind(&ceremony.state)
        .bind(until.0),
    )
    .await?;
    Ok(())
}

/// Longer than any ceremony lasts: one that would end later was begun by a clock that was ahead, and is
/// over its time.
const LONGEST_MILLIS: i64 = 600_000;

/// Ends a ceremony and returns it; `None` when there is none, it has ended already, or is over its time.
/// Of any number of callers with the same challenge one gets it.
pub async fn end(
    tx: &mut Tx,
    challenge: &ChallengeHash,
    now: UnixMillis,
) -> Result<Option<Ceremony>, StoreError> {
    let delete = Statement::new(
        "delete from passkey_ceremonies where challenge_hash = $1 and expires_at > $2 and expires_at <= $3
         returning user_id, origin, state",
    );
    tx.one(delete.bind(challenge).bind(now).bind(now.plus_millis(LONGEST_MILLIS))).await
}

/// Forgets ceremonies that nobody ended in time. Returns how many.
pub async fn purge(tx: &mut Tx, now: UnixMillis) -> Result<u64, StoreError> {
    let gone = tx
        .change(Statement::new("delete from passkey_ceremonies where expires_at <= $1").bind(now.0))
        .await?;
    Ok(gone)
}
