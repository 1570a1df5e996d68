//! What growth does: the same scenarios with ten times as many users each time, in a database of their own, and the
//! delivery with ever more peers and ever more rows.

use std::time::Duration;

use super::report::Growth;
use super::scenarios::{Scenario, drained, inbox_rate};
use super::sinks::Sinks;
use super::{Bench, Options, say};

/// What is measured with more users.
const BY_USERS: [Scenario; 4] = [Scenario::Identity, Scenario::Resolve, Scenario::Keys, Scenario::Commit];
/// Users to begin with.
const FEWEST_USERS: usize = 1_000;
/// Numbers of peers. Ten thousand are about as many open files as a process commonly may have.
const PEERS: [usize; 4] = [10, 100, 1_000, 9_000];
/// Rows for each of these numbers of peers.
const ROWS_BY_PEERS: usize = 18_000;
/// Numbers of rows, over so many peers.
const ROWS: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const PEERS_BY_ROWS: usize = 100;
/// Users in the database meanwhile.
const USERS_BESIDE: usize = 1_000;

/// Measures everything, up to so many users, peers and rows.
pub(super) async fn measure(options: &Options, most: usize) -> anyhow::Result<Vec<Growth>> {
    let mut all = by_users(options, most).await?;
    let mut bench = Bench::prepare(&Options { users: USERS_BESIDE, ..options.clone() }).await?;
    let mut inbox = Growth { scenario: "inbox".to_owned(), of: "peers", rates: Vec::new() };
    let mut peers = Growth { scenario: "drain".to_owned(), of: "peers", rates: Vec::new() };
    for count in PEERS.into_iter().filter(|count| *count <= most) {
        bench.options.peers = count;
        inbox.add(count, inbox_rate(&bench).await?);
        let sinks = Sinks::start(count, 0, Duration::ZERO).await?;
        peers.add(count, drained(&mut bench, &sinks, ROWS_BY_PEERS).await?.rate);
    }
    let mut rows = Growth { scenario: "drain".to_owned(), of: "rows", rates: Vec::new() };
    for count in ROWS.into_iter().filter(|count| *count <= most) {
        let sinks = Sinks::start(PEERS_BY_ROWS, 0, Duration::ZERO).await?;
        rows.add(count, drained(&mut bench, &sinks, count).await?.rate);
    }
    all.extend([inbox, peers, rows]);
    Ok(all)
}

async fn by_users(options: &Options, most: usize) -> anyhow::Result<Vec<Growth>> {
    let growth =
        |scenario: Scenario| Growth { scenario: scenario.name().to_owned(), of: "users", rates: Vec::new() };
    let mut all: Vec<Growth> = BY_USERS.into_iter().map(growth).collect();
    let sizes = std::iter::successors(Some(FEWEST_USERS), |users| users.checked_mul(10));
    for users in sizes.take_while(|users| *users <= most) {
        say(&format!("writing {users} accounts"));
        let bench = Bench::prepare(&Options { users, ..options.clone() }).await?;
        for (scenario, growth) in BY_USERS.into_iter().zip(&mut all) {
            growth.add(users, scenario.load(&bench, options.load()).await?.rate());
        }
    }
    Ok(all)
}

impl Growth {
    /// Told at once: all of it takes long, and whoever ends it early has what was measured so far.
    fn add(&mut self, count: usize, rate: f64) {
        say(&format!("{} with {count} {}: {rate:.0} a second", self.scenario, self.of));
        self.rates.push((count, rate));
    }
}
