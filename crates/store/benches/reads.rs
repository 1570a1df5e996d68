//! How long the read of one request takes: the session of a token with its user, and a user by an
//! alias, on SQLite. What HTTP adds is not here.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use vellum_protocol::{Alias, EncryptionKey, KmVersion, SigningSecret, UnixMillis};
use vellum_store::sessions::{self, Session};
use vellum_store::users::{self, Keys, NewUser};
use vellum_store::{SessionId, Store, StoreError, Tx};

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
const USERS: u32 = 20_000;

fn alias(number: u32) -> Alias {
    Alias::parse(&format!("user{number}")).unwrap()
}

fn token(number: u32) -> [u8; 32] {
    let mut token = [0; 32];
    token[..4].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes());
    token
}

/// One account with an alias, keys and a session.
async fn account(tx: &mut Tx, number: u32) -> Result<(), StoreError> {
    let new = NewUser {
        email: format!("user{number}@example.org"),
        first_name: Some(format!("First{number}")),
        last_name: Some("Last".into()),
        picture: None,
    };
    let id = users::insert(tx, &new, NOW).await?;
    users::set_alias(tx, &id, &alias(number), NOW).await?;
    let keys = Keys {
        signing: SigningSecret::from_seed([1; 32]).public(),
        encryption: EncryptionKey::from_bytes(&[9; 32]).unwrap(),
    };
    users::swap_keys(tx, &id, KmVersion::FIRST, &keys, KmVersion::FIRST, NOW).await?;
    let session = Session {
        id: SessionId::generate(),
        user_id: id,
        created_at: NOW,
        last_used_at: NOW,
        expires_at: NOW.plus_millis(1_000),
        user_agent: Some("bench".into()),
        ip: Some("127.0.0.1".into()),
        device_id: None,
    };
    sessions::insert(tx, &session, &token(number)).await
}

async fn filled(folder: &TempDir) -> Store {
    let store = Store::open(&format!("sqlite://{}/bench.db", folder.path().display())).await.unwrap();
    for first in (0..USERS).step_by(2_000) {
        let made: Result<(), StoreError> = store
            .write(move |tx| {
                async move {
                    for number in first..first + 2_000 {
                        account(tx, number).await?;
                    }
                    Ok(())
                }
                .boxed()
            })
            .await;
        made.unwrap();
    }
    store
}

fn reads(criterion: &mut Criterion) {
    let runtime: Runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = runtime.block_on(filled(&folder));
    let mut group = criterion.benchmark_group("store reads");
    let mut numbers = (0..).map(|n: u32| n.wrapping_mul(7_919) % USERS);
    group.bench_function("session", |bencher| {
        bencher.iter(|| {
            let token = token(numbers.next().unwrap());
            let found = runtime.block_on(async {
                sessions::by_token(&mut store.read().await.unwrap(), &token, NOW).await.unwrap()
            });
            assert!(found.is_some(), "each has a session");
        });
    });
    group.bench_function("alias", |bencher| {
        bencher.iter(|| {
            let alias = alias(numbers.next().unwrap());
            let found = runtime
                .block_on(async { users::by_alias(&mut store.read().await.unwrap(), &alias).await.unwrap() });
            assert!(found.is_some(), "each has an alias");
        });
    });
    group.finish();
}

criterion_group!(benches, reads);
criterion_main!(benches);
