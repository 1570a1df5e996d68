//! Limits of the machine, measured in the same run: changes per second through the store without
//! HTTP, with the statements of a command, and Ed25519 verifications per second of all cores.
//! The bare HTTP answer is in [`super::bare`], bare sending in [`super::sinks`].

use std::num::NonZero;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::FutureExt;
use futures_util::future::try_join_all;
use vellum_actors::Clock;
use vellum_protocol::{KmVersion, SigningSecret, UnixMillis};
use vellum_store::audit::Entry;
use vellum_store::{
    AuditId, Store, StoreError, Tx, audit, blobs, bound_to_keys, collections, sessions, slots, users,
};

use super::seed::{self, Account, BLOBS, SLOTS};

/// The statements of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statements {
    /// Those of `PUT /users/me/keys`.
    Keys,
    /// Those of a rotation of a seeded account.
    Rotation,
}

/// One account's change. All that it writes is made before it is timed.
#[derive(Clone)]
struct Change {
    account: Account,
    statements: Statements,
    version: KmVersion,
    keys: users::Keys,
    blobs: Vec<String>,
    collections: Vec<String>,
    slots: Vec<slots::Wrapped>,
}

impl Change {
    fn new(account: &Account, statements: Statements) -> anyhow::Result<Self> {
        let rotation = statements == Statements::Rotation;
        let count = |count: usize| if rotation { 0..count } else { 0..0 };
        let version = KmVersion::new(account.version()).context("a version is 1 or more")?;
        Ok(Self {
            account: account.clone(),
            statements,
            version,
            keys: seed::keys(version.next().get())?,
            blobs: count(BLOBS).map(|_| seed::ciphertext()).collect(),
            collections: count(account.collections.len()).map(|_| seed::ciphertext()).collect(),
            slots: count(SLOTS).map(|number| seed::slot(account, number)).collect(),
        })
    }

    async fn seal_anew(&self, tx: &mut Tx, next: KmVersion, now: UnixMillis) -> Result<(), StoreError> {
        let id = &self.account.id;
        let types: Vec<String> = (0..self.blobs.len()).map(seed::blob_type).collect();
        let sealed: Vec<_> =
            types.iter().map(String::as_str).zip(self.blobs.iter().map(String::as_str)).collect();
        blobs::put_all(tx, id, &sealed, "", next, now).await?;
        let metadata = self.collections.iter().map(String::as_str);
        let resealed: Vec<_> = self.account.collections.iter().zip(metadata).collect();
        collections::reseal_all(tx, id, &resealed, next, now).await?;
        slots::put_all(tx, id, &self.slots, next, now).await.map(drop)
    }

    /// The statements that the node's command runs, in its order.
    async fn run(self, tx: &mut Tx) -> Result<(), StoreError> {
        let Self { account, statements, version, keys, .. } = &self;
        let (id, now, next) = (&account.id, Clock::system().now(), version.next());
        let event = match statements {
            Statements::Keys => {
                bound_to_keys::of_user(tx, id).await?;
                "keys_registered"
            }
            Statements::Rotation => "rotated",
        };
        let Some(swapped) = users::swap_keys(tx, id, *version, keys, next, now).await? else {
            let reason = format!("it is not {version}, which was written last");
            return Err(StoreError::Unreadable { column: "users.km_version", reason });
        };
        if let Some(session) = &account.session {
            let generation = swapped.generation;
            sessions::show_generation(tx, id, session, generation.previous(), generation).await?;
        }
        if *statements == Statements::Rotation {
            self.seal_anew(tx, next, now).await?;
        }
        let entry =
            Entry { id: AuditId::generate(), at: now, event: event.to_owned(), session_id: None, ip: None };
        audit::append(tx, id, &entry).await
    }
}

/// Changes per second through the store: `group` accounts' changes are handed in at once, and the
/// next ones when all of them are durable. On SQLite the writer commits them together. Raises the
/// accounts' versions.
///
/// # Errors
/// What the database says.
pub async fn commits(
    store: &Store,
    accounts: &[Account],
    statements: Statements,
    group: usize,
    duration: Duration,
) -> anyhow::Result<f64> {
    ensure!(group > 0 && group <= accounts.len(), "a group of {group} needs as many accounts");
    let mut next = accounts.iter().cycle();
    let (mut spent, mut changes) = (Duration::ZERO, 0_u32);
    while spent < duration {
        let batch: Vec<Change> = next
            .by_ref()
            .take(group)
            .map(|account| Change::new(account, statements))
            .collect::<anyhow::Result<_>>()?;
        let changed: Vec<Account> = batch.iter().map(|change| change.account.clone()).collect();
        let started = Instant::now();
        let writes = batch.into_iter().map(|change| store.write(move |tx| change.run(tx).boxed()));
        let _: Vec<()> = try_join_all(writes).await?;
        spent += started.elapsed();
        for account in changed {
            account.version.fetch_add(1, Ordering::Relaxed);
            changes += 1;
        }
    }
    Ok(f64::from(changes) / spent.as_secs_f64())
}

/// The cores that this process may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Strict Ed25519 verifications a second, of all cores together, of messages as long as an envelope's signed text.
#[must_use]
pub fn verifications(duration: Duration) -> f64 {
    let secret = SigningSecret::from_seed([7; 32]);
    let key = secret.public();
    let message = [b'm'; 300];
    let signature = secret.sign(&message);
    on_all_cores(duration, move || {
        std::hint::black_box(key.verify(std::hint::black_box(&message), &signature).is_ok());
    })
}

/// Runs `work` again and again on every core; gives how often a second in all.
fn on_all_cores(duration: Duration, work: impl Fn() + Send + Sync) -> f64 {
    let one = || {
        let (started, mut count) = (Instant::now(), 0_u32);
        while started.elapsed() < duration {
            for _ in 0..16 {
                work();
            }
            count += 16;
        }
        f64::from(count) / started.elapsed().as_secs_f64()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores()).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0.0)).sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_core_counts() {
        let rate = on_all_cores(Duration::from_millis(20), || {});
        assert!(rate > 16.0, "{rate}");
    }
}
