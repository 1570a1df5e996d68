//! `vellum bench`: a load driver that measures nodes of this binary beside the limits of the
//! machine.
//!
//! ```text
//!   scenarios ──── requests, their right answers, and the limit of each
//!      │  uses env (nodes, database, accounts; written by seed) and sinks (the other nodes)
//!      ▼
//!   load ───────── when requests are due and from when their time counts ── connection, histogram
//!   attack ─────── what an attacker sends and what honest people notice
//!   database_use ─ statements and round trips per request
//!      ▼
//!   report, chart ── output          limits, bare ── what the machine can do at most
//! ```
//!
//! No part of a node depends on it.

mod attack;
pub mod bare;
mod chart;
pub mod connection;
mod database_use;
mod env;
mod growth;
pub mod histogram;
mod limits;
pub mod load;
mod process;
mod report;
mod scenarios;
mod seed;
mod sinks;
mod sweep;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context as _;

pub use report::Report;
pub use scenarios::Scenario;

use env::BenchEnv;
use load::{Load, Pace};

/// The longest that requests go on before they are measured.
const LONGEST_WARM_UP: Duration = Duration::from_secs(2);
/// The longest that a limit is measured.
const LONGEST_LIMIT: Duration = Duration::from_secs(3);

/// What is to be measured, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which scenarios, in order.
    pub scenarios: Vec<Scenario>,
    /// Connections of the driver.
    pub connections: usize,
    /// How long each is measured.
    pub duration: Duration,
    /// An open loop with so many requests a second; `None`: a closed loop.
    pub rate: Option<f64>,
    /// A PostgreSQL server to create the nodes' database on; `None`: SQLite.
    pub database: Option<String>,
    /// Nodes on the database.
    pub nodes: usize,
    /// Accounts in the database.
    pub users: usize,
    /// Accounts with a session, which requests are made for.
    pub active: usize,
    /// Other nodes that send to the inbox.
    pub peers: usize,
    /// Other nodes that a queue is for.
    pub drain_peers: usize,
    /// Rows of the queue.
    pub rows: usize,
    /// Where the node's folder is made: the disk that is measured.
    pub folder: PathBuf,
    /// Settings of the node, by environment variable.
    pub settings: Vec<(String, String)>,
    /// Measures throughput and times against load.
    pub sweep: bool,
    /// Measures with ever more users, peers and rows, up to so many users; `None`: not at all.
    pub growth: Option<usize>,
    /// Where pictures of the sweeps are written.
    pub pictures: Option<PathBuf>,
}

impl Options {
    /// The load that was asked for.
    fn load(&self) -> Load {
        let pace = self.rate.map_or(Pace::Closed, Pace::Open);
        Load { pace, duration: self.duration, warm_up: (self.duration / 4).min(LONGEST_WARM_UP) }
    }

    /// How long a limit is measured.
    fn limit_time(&self) -> Duration {
        self.duration.min(LONGEST_LIMIT)
    }
}

/// A run: its options and its environment.
struct Bench {
    options: Options,
    binary: PathBuf,
    env: BenchEnv,
    verifications: OnceLock<f64>,
}

impl Bench {
    async fn prepare(options: &Options) -> anyhow::Result<Self> {
        let binary = std::env::current_exe().context("this binary's path")?;
        let env = BenchEnv::prepare(&binary, options).await?;
        Ok(Self { options: options.clone(), binary, env, verifications: OnceLock::new() })
    }

    /// Ed25519 verifications a second of all cores, measured once.
    fn verifications(&self) -> f64 {
        *self.verifications.get_or_init(|| limits::verifications(self.options.limit_time()))
    }
}

/// Measures the scenarios of the options. Progress goes to standard error.
///
/// # Errors
/// The first wrong answer, or why something could not be measured.
pub async fn run(options: Options) -> anyhow::Result<Report> {
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        debug_build: cfg!(debug_assertions),
        machine_cores: limits::cores(),
        engine: if options.database.is_some() { "PostgreSQL" } else { "SQLite" },
        nodes: options.nodes,
        users: options.users,
        active: options.users.min(options.active),
        scenarios: Vec::new(),
        sweeps: Vec::new(),
        growth: Vec::new(),
    };
    say(&format!("writing {} accounts", options.users));
    let mut bench = Bench::prepare(&options).await?;
    for scenario in options.scenarios.clone() {
        say(scenario.name());
        let figures = scenario.measure(&mut bench).await;
        report.scenarios.push(figures.with_context(|| format!("the scenario {}", scenario.name()))?);
        if options.sweep && scenario.is_driven() {
            say(&format!("{} against load", scenario.name()));
            report.sweeps.push(sweep::measure(scenario, &bench).await?);
        }
    }
    if let Some(folder) = &options.pictures {
        for sweep in &report.sweeps {
            let path = folder.join(format!("{}.svg", sweep.scenario));
            std::fs::write(&path, chart::draw(sweep))
                .with_context(|| format!("writing {}", path.display()))?;
        }
    }
    drop(bench);
    if let Some(most_users) = options.growth {
        report.growth = growth::measure(&options, most_users).await?;
    }
    Ok(report)
}

/// Prints progress. Standard output is for the figures.
#[expect(clippy::print_stderr, reason = "a run takes minutes")]
fn say(what: &str) {
    eprintln!("bench: {what}");
}
