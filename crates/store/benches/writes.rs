//! How long it takes until a change is on the disk: one writer alone, and several at once whose changes share a
//! commit. SQLite on a real file in the folder for temporary files, as a node opens it: every commit is synced. What
//! an actor or HTTP adds is not here.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::FutureExt;
use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use vellum_protocol::{KmVersion, UnixMillis};
use vellum_store::users::{self, NewUser};
use vellum_store::{Store, StoreError, UserId, blobs};

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

/// A database with one account in it.
struct Bench {
    runtime: Runtime,
    store: Store,
    user: UserId,
    _folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/bench.db", folder.path().display());
        let (store, user) = runtime.block_on(async {
            let store = Store::open(&url).await.unwrap();
            let new = NewUser {
                email: "bench@example.org".into(),
                first_name: None,
                last_name: None,
                picture: None,
            };
            let user: Result<UserId, StoreError> =
                store.write(move |tx| async move { users::insert(tx, &new, NOW).await }.boxed()).await;
            (store, user.unwrap())
        });
        Self { runtime, store, user, _folder: folder }
    }

    /// So many writers at once, each of which waits for its answer before it writes again; together they write `count`
    /// times, or a little more.
    fn write(&self, writers: u64, count: u64) -> Duration {
        let each = count.div_ceil(writers);
        let started = Instant::now();
        self.runtime.block_on(async {
            let tasks = (0..writers).map(|writer| {
                let (store, user) = (self.store.clone(), self.user.clone());
                tokio::spawn(async move {
                    for _ in 0..each {
                        put(&store, &user, writer).await;
                    }
                })
            });
            join_all(tasks).await.into_iter().for_each(|ended| ended.unwrap());
        });
        // As long as the asked number would have taken.
        started.elapsed().mul_f64(count as f64 / (each * writers) as f64)
    }
}

async fn put(store: &Store, user: &UserId, writer: u64) {
    let user = user.clone();
    let written: Result<i64, StoreError> = store
        .write(move |tx| {
            async move {
                let text = "c".repeat(200);
                blobs::put(tx, &user, &format!("blob-{writer}"), &text, "", KmVersion::FIRST, NOW).await
            }
            .boxed()
        })
        .await;
    written.unwrap();
}

fn writes(criterion: &mut Criterion) {
    let bench = Bench::new();
    let mut group = criterion.benchmark_group("store writes");
    group.throughput(Throughput::Elements(1));
    for writers in [1, 4, 16, 64, 256] {
        group.bench_function(format!("{writers} at once"), |bencher| {
            bencher.iter_custom(|count| bench.write(writers, count));
        });
    }
    group.finish();
}

criterion_group!(benches, writes);
criterion_main!(benches);
