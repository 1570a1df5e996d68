//! `vellum bench`: measures this machine and a node on it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum as _};

use super::serve::install_tls;
use super::{Context, block_on, print};
use crate::bench::{self, Options, Scenario};

/// Measures nodes of this binary, on throw-away data, beside what the machine can do at most.
///
/// Every answer is checked, and the first wrong one ends the run. The driver and the nodes share
/// the machine, so nothing else should run on it. Figures of a debug build mean nothing. Without
/// --rate the loop is closed: each connection sends the next request when it has the last answer.
/// With it requests are due at fixed moments, and their times count from then on.
#[derive(Debug, Args)]
pub struct Bench {
    /// What to measure: identity, resolve, keys, commit, rotation, commit-hot, signin, inbox,
    /// flush, drain, mixed, attack, idle; core (identity, resolve, keys, rotation, inbox, drain);
    /// or all.
    #[arg(default_value = "all")]
    scenarios: Vec<String>,
    /// Connections of the driver.
    #[arg(long, default_value_t = 32, value_name = "N")]
    connections: usize,
    /// How long each scenario is measured, in seconds.
    #[arg(long, default_value_t = 10.0, value_name = "S")]
    seconds: f64,
    /// Requests a second, over all connections: an open loop.
    #[arg(long, value_name = "R")]
    rate: Option<f64>,
    /// Measures on PostgreSQL: creates a database on the server of this one, and drops it
    /// afterwards. Left out: SQLite.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Nodes on the database, each a process. The driver's connections go to them in turn.
    #[arg(long, default_value_t = 1, value_name = "N")]
    nodes: usize,
    /// Accounts in the database.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    users: usize,
    /// Accounts with a session, which requests are made for; at most --users.
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    active: usize,
    /// Other nodes that send to the inbox.
    #[arg(long, default_value_t = 100, value_name = "N")]
    peers: usize,
    /// Other nodes that the queue of drain is for.
    #[arg(long, default_value_t = 2_000, value_name = "N")]
    drain_peers: usize,
    /// Envelopes in the queue of drain.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    rows: usize,
    /// Where the throw-away folder is made: the disk that is measured. Left out: the system's folder for such things.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// A setting of the node by its environment variable, such as VELLUM_LOG__FILTER=info; may be given again.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// Measures throughput and times at parts of each scenario's highest rate, too.
    #[arg(long)]
    sweep: bool,
    /// Measures what more users, peers and rows do, too, up to so many of each (a million if nothing is said).
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1000000")]
    growth: Option<usize>,
    /// Writes everything as JSON into this file, beside the table. (--json prints it instead.)
    #[arg(long = "json-file", value_name = "FILE")]
    json_file: Option<PathBuf>,
    /// Writes a picture of every sweep (SVG) into this folder.
    #[arg(long, value_name = "DIR", requires = "sweep")]
    svg: Option<PathBuf>,
    /// The other half of a measurement: actix-web alone, with answers of so many bytes.
    #[arg(long, hide = true, value_name = "BYTES")]
    bare_server: Option<usize>,
}

/// Measures, and prints.
pub fn run(context: &Context, bench: Bench) -> anyhow::Result<()> {
    if let Some(length) = bench.bare_server {
        return bench::bare::serve(length);
    }
    install_tls();
    if cfg!(debug_assertions) {
        warn_of_debug_build();
    }
    let file = bench.json_file.clone();
    let options = bench.options()?;
    let report = block_on(async {
        tokio::select! {
            report = bench::run(options) => report,
            // What the run has made is removed with it.
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        }
    })?;
    let json = serde_json::to_string_pretty(&report)?;
    match file {
        Some(file) => {
            std::fs::write(&file, json).with_context(|| format!("writing {}", file.display()))?;
            print(&report.table());
        }
        None if context.json => print(&json),
        None => print(&report.table()),
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "standard output is for the figures")]
fn warn_of_debug_build() {
    eprintln!("bench: THIS IS A DEBUG BUILD. ITS FIGURES MEAN NOTHING. Build with --release.");
}

impl Bench {
    fn options(self) -> anyhow::Result<Options> {
        if self.connections == 0 || self.users.min(self.active) < 4 || self.peers == 0 || self.drain_peers < 2
        {
            bail!("there have to be connections, four active users, a peer, and two peers of drain");
        }
        let is_postgres = |url: &String| url.starts_with("postgres://") || url.starts_with("postgresql://");
        if self.database.as_ref().is_some_and(|url| !is_postgres(url)) {
            bail!("--database takes postgres://…; SQLite is measured without it");
        }
        if self.nodes == 0 || (self.nodes > 1 && self.database.is_none()) {
            bail!("--nodes has to be 1 or more; several nodes need --database");
        }
        // Written so that NaN is refused, too.
        if !(self.seconds > 0.0 && self.seconds < 1e6 && self.rate.is_none_or(|rate| rate > 0.0)) {
            bail!("seconds and rate have to be more than 0");
        }
        let setting = |text: &String| {
            let (name, value) = text.split_once('=').with_context(|| format!("{text} is no NAME=VALUE"))?;
            anyhow::Ok((name.to_owned(), value.to_owned()))
        };
        Ok(Options {
            scenarios: scenarios(&self.scenarios)?,
            connections: self.connections,
            duration: Duration::from_secs_f64(self.seconds),
            rate: self.rate,
            database: self.database,
            nodes: self.nodes,
            users: self.users,
            active: self.active,
            peers: self.peers,
            drain_peers: self.drain_peers,
            rows: self.rows,
            folder: self.folder.unwrap_or_else(std::env::temp_dir),
            settings: self.settings.iter().map(setting).collect::<anyhow::Result<_>>()?,
            sweep: self.sweep,
            growth: self.growth,
            pictures: self.svg,
        })
    }
}

/// Reads the names; `all` and `core` stand for several.
fn scenarios(names: &[String]) -> anyhow::Result<Vec<Scenario>> {
    if names.iter().any(|name| name == "all") {
        return Ok(Scenario::value_variants().to_vec());
    }
    let mut scenarios = Vec::new();
    for name in names {
        match Scenario::from_str(name, false) {
            Ok(scenario) => scenarios.push(scenario),
            Err(_) if name == "core" => scenarios.extend(Scenario::CORE),
            Err(_) => bail!("there is no scenario {name}"),
        }
    }
    Ok(scenarios)
}
