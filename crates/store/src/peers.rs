//! Peer nodes: the key pinned at first contact, and how reaching them has gone lately.

use vellum_protocol::{SigningKey, UnixMillis};

use crate::row::{columns, word};
use crate::statement::Statement;
use crate::{Conn, StoreError, Tx};

/// What the node remembers of a peer node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
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
    /// When something was last delivered to it, to ten seconds.
    pub last_delivery_at: Option<UnixMillis>,
    /// Another key than the pinned one, which it shows now. Nothing is exchanged with it meanwhile.
    pub offered_key: Option<SigningKey>,
    /// What an operator has decided about it.
    pub standing: PeerPolicy,
    /// Whether an operator lets its messages wait.
    pub paused: bool,
}

/// What an operator has decided about a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerPolicy {
    /// Nothing.
    Neutral,
    /// Nothing is exchanged with it.
    Blocked,
    /// It is on the list of those that are spoken with, where there is such a list.
    Allowed,
}

impl PeerPolicy {
    /// The word that the database and the API use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Neutral => "neutral",
            Self::Blocked => "blocked",
            Self::Allowed => "allowed",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Neutral, Self::Blocked, Self::Allowed].into_iter().find(|standing| standing.as_str() == word)
    }
}

word!(PeerPolicy);

columns!("peers": Peer {
    domain,
    public_key,
    revocation_window_seconds,
    failures,
    retry_at,
    last_error,
    last_failure_at,
    last_delivery_at,
    offered_key,
    standing,
    paused
});

macro_rules! select_peers {
    ($rest:literal) => {
        concat!(
            "select domain, public_key, revocation_window_seconds, failures, ",
            "case when pause_until > retry_at then pause_until else retry_at end as retry_at, last_error, ",
            "last_failure_at, last_delivery_at, offered_key, standing, paused from peers ",
            $rest
        )
    };
}

/// What is remembered of the node at this domain (lower case).
pub async fn find(conn: &mut Conn, domain: &str) -> Result<Option<Peer>, StoreError> {
    conn.one(Statement::new(select_peers!("where domain = $1")).bind(domain)).await
}

/// The peers, by domain, `limit` of them from `offset` on.
pub async fn list(conn: &mut Conn, limit: u32, offset: u32) -> Result<Vec<Peer>, StoreError> {
    conn.all(
        Statement::new(select_peers!("order by domain limit $1 offset $2"))
            .bind(i64::from(limit))
            .bind(i64::from(offset)),
    )
    .await
}

/// How many peers there are.
pub async fn count(conn: &mut Conn) -> Result<u64, StoreError> {
    let (count,) =
        conn.one::<(i64,)>(Statement::new("select count(*) from peers")).await?.unwrap_or_default();
    Ok(u64::try_from(count).unwrap_or(0))
}

/// The peers about which an operator has decided something.
pub async fn with_standing(conn: &mut Conn) -> Result<Vec<Peer>, StoreError> {
    conn.all(Statement::new(select_peers!("where standing <> 'neutral' order by domain"))).await
}

/// Decides about a peer, met or not.
pub async fn set_standing(tx: &mut Tx, domain: &str, standing: PeerPolicy) -> Result<(), StoreError> {
    tx.change(
        Statement::new(
            "insert into peers (domain, standing) values ($1, $2)
         on conflict (domain) do update set standing = excluded.standing",
        )
        .bind(domain)
        .bind(standing.as_str()),
    )
    .await?;
    Ok(())
}

/// Lets a peer's messages wait, or go on. Tells whether the peer is known.
pub async fn set_paused(tx: &mut Tx, domain: &str, paused: bool) -> Result<bool, StoreError> {
    let done = tx
        .change(
            Statement::new("update peers set paused = $2 where domain = $1")
                .bind(domain)
                .bind(i64::from(paused)),
        )
        .await?;
    Ok(done == 1)
}

/// Notes that a peer shows another key than the pinned one. Tells whether that is news.
pub async fn note_offered_key(
    tx: &mut Tx,
    domain: &str,
    key: &SigningKey,
    now: UnixMillis,
) -> Result<bool, StoreError> {
    let done = tx
        .change(
            Statement::new(
                "update peers set offered_key = $2, offered_at = $3
         where domain = $1 and coalesce(offered_key, '') <> $2",
            )
            .bind(domain)
            .bind(key.to_base64())
            .bind(now.0),
        )
        .await?;
    Ok(done == 1)
}

/// Notes that a peer shows the pinned key (again).
pub async fn clear_offered_key(tx: &mut Tx, domain: &str) -> Result<(), StoreError> {
    tx.change(Statement::new("update peers set offered_key = null, offered_at = null where domain = $1 and offered_key is not null")
        .bind(domain)).await?;
    Ok(())
}

/// Takes up to `limit` peers whose changed key was last looked at before `before`, to be looked at now: each is
/// given to one of the nodes on this database only. A look later than `latest` was dated by a wrong clock.
pub async fn take_changed_keys(
    tx: &mut Tx,
    before: UnixMillis,
    latest: UnixMillis,
    limit: u32,
    now: UnixMillis,
) -> Result<Vec<String>, StoreError> {
    let rows: Vec<(String,)> = tx
        .change_returning(
            Statement::new(
                "update peers set offered_at = $2
         where domain in (select domain from peers
                          where offered_key is not null and (offered_at < $1 or offered_at > $4)
                          order by offered_at limit $3)
         returning domain",
            )
            .bind(before.0)
            .bind(now.0)
            .bind(i64::from(limit))
            .bind(latest.0),
        )
        .await?;
    Ok(rows.into_iter().map(|(domain,)| domain).collect())
}

/// Pins the key that a peer shows instead of the pinned one, and lets it be tried at once; or, where `expected` is
/// the pinned key, stays with that and tries the peer again. Tells whether it did either: `expected`, which the
/// operator has compared, must be one of the two.
pub async fn repin(
    tx: &mut Tx,
    domain: &str,
    expected: &SigningKey,
    now: UnixMillis,
) -> Result<bool, StoreError> {
    let done = tx.change(Statement::new("update peers set public_key = $2, pinned_at = case when public_key = $2 then pinned_at else $3 end,
             offered_key = null, offered_at = null, failures = 0, retry_at = 0, pause_until = 0,
             probed_early = 0, last_error = null
         where domain = $1 and offered_key is not null and (offered_key = $2 or public_key = $2)")
        .bind(domain)
        .bind(expected.to_base64())
        .bind(now.0)).await?;
    Ok(done == 1)
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
    tx.change(Statement::new("insert into peers (domain, public_key, pinned_at, revocation_window_seconds) values ($1, $2, $3, $4)
         on conflict (domain) do update set
             public_key = coalesce(peers.public_key, excluded.public_key),
             pinned_at = coalesce(peers.pinned_at, excluded.pinned_at),
             revocation_window_seconds =
                 case when coalesce(peers.public_key, excluded.public_key) = excluded.public_key
                      then excluded.revocation_window_seconds else peers.revocation_window_seconds end")
        .bind(domain)
        .bind(key.to_base64())
        .bind(now.0)
        .bind(window_seconds)).await?;
    let pinned = find(tx, domain).await?.and_then(|peer| peer.public_key);
    pinned
        .ok_or(StoreError::Unreadable { column: "peers.public_key", reason: "missing after pinning".into() })
}

/// Notes a failure to reach the peer: its record becomes `failures`, and nothing is tried before `retry_at`. Where it is not one
/// less, somebody else has noted something meanwhile, and that stands.
pub async fn note_failure(
    tx: &mut Tx,
    domain: &str,
    failures: u32,
    retry_at: UnixMillis,
    error: &str,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let note = Statement::new(
        "insert into peers (domain, failures, retry_at, last_error, last_failure_at) values ($1, $2, $3, $4, $5)
         on conflict (domain) do update set failures = excluded.failures, retry_at = excluded.retry_at,
             probed_early = 0, last_error = excluded.last_error, last_failure_at = excluded.last_failure_at
         where peers.failures = excluded.failures - 1",
    );
    tx.change(note.bind(domain).bind(i64::from(failures)).bind(retry_at).bind(error).bind(now)).await?;
    Ok(())
}

/// Notes that the peer asked for a pause: no attempt before `until`, whatever is delivered meanwhile.
pub async fn pause_until(tx: &mut Tx, domain: &str, until: UnixMillis) -> Result<(), StoreError> {
    let pause = Statement::new(
        "insert into peers (domain, pause_until) values ($1, $2)
         on conflict (domain) do update set pause_until = excluded.pause_until
             where peers.pause_until < excluded.pause_until",
    );
    tx.change(pause.bind(domain).bind(until)).await?;
    Ok(())
}

/// How exactly it is known when something was last delivered to a peer: one that is sent a thousand messages is not written a
/// thousand times.
pub(crate) const DELIVERY_MILLIS: i64 = 10_000;

/// Clears the peer's record: something was delivered to it. A pause that it has asked for stands. When it was is known to ten
/// seconds.
pub async fn note_delivery(tx: &mut Tx, domain: &str, now: UnixMillis) -> Result<(), StoreError> {
    let update = Statement::new(
        "update peers set failures = 0, retry_at = 0, probed_early = 0, last_error = null, last_delivery_at = $2
         where domain = $1 and (failures > 0 or retry_at > 0 or probed_early > 0 or last_error is not null
             or coalesce(last_delivery_at, 0) <= $3)",
    );
    tx.change(update.bind(domain).bind(now).bind(now.plus_millis(-DELIVERY_MILLIS))).await?;
    Ok(())
}

/// A probe that comes earlier than the pause after a failure would have it comes so long after the
/// failure at least, whatever has earned it.
pub const EARLY_PROBE_MILLIS: i64 = 10_000;

/// When a peer may be probed early, where `$2` is now and `$3` is [`EARLY_PROBE_MILLIS`]. A failure in
/// the future was dated by a wrong clock.
macro_rules! early_probe_at {
    () => {
        "(case when last_failure_at > $2 then $2 + $3
               when last_failure_at + $3 > $2 then last_failure_at + $3 else $2 end)"
    };
}

/// A peer that is being waited for has spoken: it earns one early probe, and no second one before that
/// has failed and a new wait has begun. Its record stays, since one that speaks may still not listen. Tells
/// whether there was a wait to cut short.
pub async fn allow_probe(tx: &mut Tx, domain: &str, now: UnixMillis) -> Result<bool, StoreError> {
    let update = Statement::new(concat!(
        "update peers set retry_at = ",
        early_probe_at!(),
        ", probed_early = 1
         where domain = $1 and failures > 0 and probed_early = 0 and retry_at > ",
        early_probe_at!()
    ));
    Ok(tx.change(update.bind(domain).bind(now).bind(EARLY_PROBE_MILLIS)).await? == 1)
}

/// Lets the peer be probed early, and ends a pause that it has asked for at `asked_until`, where these
/// waits would last longer: something newly signed cannot wait for so long.
pub async fn shorten_waits(
    tx: &mut Tx,
    domain: &str,
    asked_until: UnixMillis,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let probe = Statement::new(concat!(
        "update peers set retry_at = ",
        early_probe_at!(),
        " where domain = $1 and retry_at > ",
        early_probe_at!()
    ));
    tx.change(probe.bind(domain).bind(now).bind(EARLY_PROBE_MILLIS)).await?;
    let pause = Statement::new("update peers set pause_until = $2 where domain = $1 and pause_until > $2");
    tx.change(pause.bind(domain).bind(asked_until)).await?;
    Ok(())
}

/// How many peers there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// No failure since the last delivery.
    pub closed: u64,
    /// Fewer than five failures in a row.
    pub half_open: u64,
    /// Five or more.
    pub open: u64,
    /// Show another key than the pinned one, whatever else.
    pub changed_key: u64,
}

/// Counts the peers.
pub async fn census(conn: &mut Conn) -> Result<Census, StoreError> {
    let (closed, half_open, open, changed_key): (i64, i64, i64, i64) = conn.row(Statement::new("select count(case when failures = 0 then 1 end), count(case when failures between 1 and 4 then 1 end),
             count(case when failures >= 5 then 1 end), count(offered_key)
         from peers")).await?;
    let count = |count| u64::try_from(count).unwrap_or(0);
    Ok(Census {
        closed: count(closed),
        half_open: count(half_open),
        open: count(open),
        changed_key: count(changed_key),
    })
}
