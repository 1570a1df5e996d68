//! `keys`, `commit`, `rotation` and `commit-hot`: changes of keys, beside what the store can do
//! with the same statements and without HTTP. After each run the database has to have the versions
//! that were acknowledged last.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Context as _, ensure};
use vellum_store::users::Keys;

use super::{Bench, BenchEnv, Figures, Goal, Prepared, Scenario, Script, driven, share_of};
use crate::bench::connection::{Answer, write_request};
use crate::bench::limits::{self, Statements};
use crate::bench::seed::{self, Account, BLOBS, SLOTS};

/// The share to reach of the rate of the larger group without HTTP.
const WANTED_KEYS: f64 = 0.6;
const WANTED_ROTATIONS: f64 = 0.5;
/// How many changes are handed to the store at once, for the limits.
const GROUPS: [usize; 2] = [1, 32];

/// The keys of odd and even versions, as the members of a body.
struct KeyMembers([String; 2]);

impl KeyMembers {
    fn new() -> anyhow::Result<Self> {
        let members = |keys: Keys| {
            let (signing, encryption) = (keys.signing.to_base64(), keys.encryption.to_base64());
            format!(r#""signingKey":"{signing}","encryptionKey":"{encryption}""#)
        };
        Ok(Self([members(seed::keys(0)?), members(seed::keys(1)?)]))
    }

    fn of(&self, version: i64) -> &str {
        &self.0[usize::from(version % 2 != 0)]
    }
}

/// Changes the keys of its accounts, one after the other.
struct Changing {
    scenario: Scenario,
    keys: KeyMembers,
    /// With what a rotation of the account brings along, as the end of a body.
    accounts: Vec<(Account, String)>,
    at: usize,
}

impl Script for Changing {
    fn write_next(&mut self, request: &mut Vec<u8>) -> bool {
        self.at = (self.at + 1) % self.accounts.len();
        let (account, resealed) = &self.accounts[self.at];
        let version = account.version();
        write_change(request, self.scenario, account, version, self.keys.of(version + 1), resealed);
        true
    }

    fn check(&mut self, answer: Answer<'_>) -> Result<(), String> {
        let (account, _) = &self.accounts[self.at];
        let next = account.version() + 1;
        answer.expect(200, &format!(r#""kmVersion":{next}"#))?;
        account.version.store(next, Ordering::Relaxed);
        Ok(())
    }
}

fn write_change(
    request: &mut Vec<u8>,
    scenario: Scenario,
    account: &Account,
    version: i64,
    keys: &str,
    resealed: &str,
) {
    let (start, expected) = match scenario {
        Scenario::Keys => ("PUT /users/me/keys", "expectedKmVersion"),
        _ => ("POST /users/me/km-version/commit", "expectedCurrent"),
    };
    let body = format!(r#"{{"{expected}":{version},{keys}{resealed}}}"#);
    write_request(request, start, &[("authorization", &account.bearer)], body.as_bytes());
}

/// What a rotation of this account brings: everything that it has, sealed anew.
fn resealed(account: &Account) -> String {
    let blobs: Vec<_> = (0..BLOBS)
        .map(|number| {
            serde_json::json!({ "blobType": seed::blob_type(number), "encryptedBlob": seed::ciphertext() })
        })
        .collect();
    let collections: Vec<_> = account
        .collections
        .iter()
        .map(|id| serde_json::json!({ "id": id, "metadataEncrypted": seed::ciphertext() }))
        .collect();
    let slots: Vec<_> = (0..SLOTS)
        .map(|number| {
            let slot = seed::slot(account, number);
            serde_json::json!({
                "credentialId": slot.credential_id,
                "wrappedKm": slot.wrapped_km,
                "wrapAlgo": slot.wrap_algo,
                "slotSignature": slot.slot_signature,
            })
        })
        .collect();
    let (blobs, collections, slots) =
        (serde_json::json!(blobs), serde_json::json!(collections), serde_json::json!(slots));
    format!(r#","blobs":{blobs},"collections":{collections},"slots":{slots}"#)
}

/// Scripts, one per connection, each with users of its own.
pub(super) fn prepare(scenario: Scenario, env: &BenchEnv, connections: usize) -> anyhow::Result<Prepared> {
    let accounts = env.seeded();
    ensure!(accounts.len() >= connections, "{connections} connections need as many users with data");
    let mut scripts: Vec<Box<dyn Script>> = Vec::with_capacity(connections);
    for connection in 0..connections {
        scripts.push(changing(scenario, share_of(accounts, connection, connections))?);
    }
    Ok(Prepared { scripts, changed: accounts.to_vec(), _sinks: None })
}

/// A script that changes the keys of these accounts, which nobody else may change meanwhile.
pub(super) fn changing(scenario: Scenario, accounts: Vec<Account>) -> anyhow::Result<Box<dyn Script>> {
    let resealed =
        |account: &Account| if scenario == Scenario::Keys { String::new() } else { resealed(account) };
    let accounts = accounts.into_iter().map(|account| (resealed(&account), account));
    let accounts = accounts.map(|(resealed, account)| (account, resealed)).collect();
    Ok(Box::new(Changing { scenario, keys: KeyMembers::new()?, accounts, at: 0 }))
}

/// Rotates the keys of an account that others rotate at the same time, and takes a refusal, too.
struct Contending {
    account: Account,
    resealed: String,
    keys: KeyMembers,
    expected: i64,
    accepted: Arc<AtomicI64>,
}

impl Script for Contending {
    fn write_next(&mut self, request: &mut Vec<u8>) -> bool {
        self.expected = self.account.version();
        let keys = self.keys.of(self.expected + 1);
        write_change(request, Scenario::CommitHot, &self.account, self.expected, keys, &self.resealed);
        true
    }

    fn check(&mut self, answer: Answer<'_>) -> Result<(), String> {
        if answer.status == 409 {
            return Ok(());
        }
        let next = self.expected + 1;
        answer.expect(200, &format!(r#""kmVersion":{next}"#))?;
        self.account.version.fetch_max(next, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn contending(env: &BenchEnv, connections: usize) -> anyhow::Result<(Prepared, Arc<AtomicI64>)> {
    let account = env.seeded().first().context("a user with data")?;
    let accepted = Arc::new(AtomicI64::new(0));
    let mut scripts: Vec<Box<dyn Script>> = Vec::with_capacity(connections);
    for _ in 0..connections {
        scripts.push(Box::new(Contending {
            account: account.clone(),
            resealed: resealed(account),
            keys: KeyMembers::new()?,
            expected: 0,
            accepted: Arc::clone(&accepted),
        }));
    }
    Ok((Prepared { scripts, changed: vec![account.clone()], _sinks: None }, accepted))
}

/// Scripts, one per connection, all with the same user.
pub(super) fn prepare_hot(env: &BenchEnv, connections: usize) -> anyhow::Result<Prepared> {
    Ok(contending(env, connections)?.0)
}

/// Measures the store first, on the nodes' database while they are idle; then the nodes.
pub(super) async fn measure(scenario: Scenario, bench: &Bench) -> anyhow::Result<Figures> {
    if scenario == Scenario::CommitHot {
        return measure_hot(bench).await;
    }
    let (statements, wanted) = match scenario {
        Scenario::Keys => (Statements::Keys, WANTED_KEYS),
        _ => (Statements::Rotation, WANTED_ROTATIONS),
    };
    let bare = store_limits(bench, statements).await?;
    let (mut figures, measured) = driven(scenario, bench).await?;
    let mut largest = f64::INFINITY;
    for (name, rate) in bare {
        figures = figures.limit(&name, rate);
        largest = rate;
    }
    let goal = format!("share of {} at once through the store", GROUPS[1]);
    Ok(figures.goal(Goal::at_least(&goal, wanted, measured.rate() / largest)))
}

/// Changes per second through the store without HTTP, with the limit's name. The largest group is
/// last.
pub(super) async fn store_limits(
    bench: &Bench,
    statements: Statements,
) -> anyhow::Result<Vec<(String, f64)>> {
    let store = bench.env.store().await?;
    let accounts = bench.env.seeded();
    let mut rates = Vec::new();
    for group in GROUPS {
        let group = group.min(accounts.len());
        let rate = limits::commits(&store, accounts, statements, group, bench.options.limit_time()).await;
        rates.push((format!("{group} at once through the store, same statements"), rate?));
    }
    store.close().await;
    Ok(rates)
}

async fn measure_hot(bench: &Bench) -> anyhow::Result<Figures> {
    let (options, env) = (&bench.options, &bench.env);
    let bare = store_limits(bench, Statements::Rotation).await?;
    let (prepared, accepted) = contending(env, options.connections)?;
    let before = prepared.changed.first().map_or(0, Account::version);
    let (load, nodes) = (options.load(), env.watch());
    let measured = env.drive(prepared.scripts, load).await?;
    env.compare_versions(&prepared.changed).await?;
    let (accepted, changed) =
        (accepted.load(Ordering::Relaxed), prepared.changed.first().map_or(0, Account::version) - before);
    ensure!(accepted == changed, "{accepted} rotations were acknowledged, and the version rose by {changed}");
    let told = format!("{}, {} conn.", load.pace, options.connections);
    let mut figures = Figures::driven(Scenario::CommitHot.name(), told, &measured, &nodes);
    for (name, rate) in bare {
        figures = figures.limit(&name, rate);
    }
    Ok(figures
        .note(format!("{accepted} answers were rotations, the others refusals of those who came second")))
}
