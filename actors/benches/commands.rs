//! How long it takes until a user's actor has answered: a command that does nothing, which is the way through the
//! directory and the mailbox alone, and commands that change the database, which sync it.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

#[path = "../tests/main/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests of the actors use all of it")]
mod support;

use std::time::{Duration, Instant};

use actix::{System, SystemRunner};
use criterion::{Criterion, criterion_group, criterion_main};
use vellum_actors::user::{Expectation, PutBlob, Scope, SetAlias, UserCommand};
use vellum_actors::{Clock, Error};
use vellum_protocol::Alias;

use support::{Person, Site, T0, Wire};

/// A command that neither reads nor writes.
struct Nothing;

impl UserCommand for Nothing {
    type Output = ();
    const NAME: &'static str = "nothing";

    async fn run(self, _: Scope) -> Result<(), Error> {
        Ok(())
    }
}

/// Has the person's actor carry out so many commands, one after the other.
fn ask<C: UserCommand>(
    system: &SystemRunner,
    person: &Person,
    count: u64,
    command: impl Fn(u64) -> C,
) -> Duration {
    system.block_on(async {
        let started = Instant::now();
        for number in 0..count {
            person.node.ask(&person.id, command(number)).await.unwrap();
        }
        started.elapsed()
    })
}

fn put_blob(number: u64) -> PutBlob {
    PutBlob {
        blob_type: "bench".into(),
        encrypted_blob: format!("sealed {number}"),
        nonce: String::new(),
        sealed_under: None,
        expected: Expectation::Anything,
    }
}

fn commands(criterion: &mut Criterion) {
    let system = System::new();
    let (_site, alice) = system.block_on(async {
        let site = Site::start_without_delivery("a.example", &Clock::steered(T0), &Wire::default()).await;
        let alice = site.person("alice").await;
        (site, alice)
    });
    let aliases = ["alice", "alicia"].map(|alias| Alias::parse(alias).unwrap());

    criterion.bench_function("a command that does nothing", |bencher| {
        bencher.iter_custom(|count| ask(&system, &alice, count, |_| Nothing));
    });
    criterion.bench_function("read the identity and change its alias", |bencher| {
        bencher.iter_custom(|count| {
            // The other one in turn.
            ask(&system, &alice, count, |n| SetAlias { alias: aliases[usize::from(n % 2 == 0)].clone() })
        });
    });
    criterion.bench_function("write a blob", |bencher| {
        bencher.iter_custom(|count| ask(&system, &alice, count, put_blob));
    });
}

criterion_group!(benches, commands);
criterion_main!(benches);
