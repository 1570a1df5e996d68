//! The command line of the harness. The same program is each of the nodes: called with the word `node` it does what
//! `vellum` does, so what is examined is what was built with it.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use harness::campaign::{self, Options};
use harness::plan::Plan;

/// Random histories of several nodes with faults. TEST_DATABASE=postgres has them on PostgreSQL.
#[derive(Parser)]
#[command(name = "harness")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs histories until one fails.
    Run {
        /// How many.
        #[arg(long, default_value_t = 500)]
        histories: u64,
        /// The first one's seed; each has the next. Left out: by chance.
        #[arg(long)]
        seed: Option<u64>,
        /// Seconds after which no more is begun.
        #[arg(long)]
        limit: Option<u64>,
        /// How many at once.
        #[arg(long, default_value_t = 2)]
        worlds: usize,
        #[command(flatten)]
        more: More,
    },
    /// Runs one history, or the steps of it that are named, with new nodes each time.
    Replay {
        /// The seed that the failure has told.
        #[arg(long)]
        seed: u64,
        /// The steps' numbers. Left out: all.
        #[arg(long, value_delimiter = ',')]
        only: Vec<usize>,
        /// How often; what rests on chance may need more than one.
        #[arg(long, default_value_t = 5)]
        times: u64,
        #[command(flatten)]
        more: More,
    },
    /// Shows what a history is going to be.
    Show {
        /// Its seed.
        #[arg(long)]
        seed: u64,
    },
}

#[derive(clap::Args)]
struct More {
    /// A defect that the nodes are given (needs the feature planted-defects): no-compare-and-swap, no-nonce-check,
    /// no-established-at, no-lease-expiry or ack-before-commit.
    #[arg(long)]
    defect: Option<String>,
    /// Seconds for which a shorter history is looked for when one fails.
    #[arg(long, default_value_t = 240)]
    shrink: u64,
}

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|word| word == "node") {
        arguments.remove(1);
        return vellum::cli::Cli::parse_from(arguments).run();
    }
    match run(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("harness: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "what the harness finds belongs on standard output")]
fn say(text: &str) {
    println!("{text}");
}

fn run(cli: Cli) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let engine = vellum_test_database::engine();
    match cli.command {
        Command::Run { histories, seed, limit, worlds, more } => {
            let seed = seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
            let options = Options { worlds, ..more.options(seed, histories, limit)? };
            say(&format!("{histories} histories from seed {seed} on {engine:?}"));
            let outcome = runtime.block_on(unless_interrupted(campaign::campaign(&options, say)))?;
            say(&outcome.summary);
            match &outcome.failure {
                None => say("no invariant was broken"),
                Some(failure) => say(&failure.report(engine, &options.defect)),
            }
            Ok(outcome.failure.is_none())
        }
        Command::Replay { seed, only, times, more } => {
            let options = more.options(seed, 1, None)?;
            let mut plan = Plan::draw(seed, engine);
            if !only.is_empty() {
                plan = plan.only(&only.into_iter().collect::<BTreeSet<_>>());
            }
            let failure = runtime.block_on(unless_interrupted(campaign::replay(&options, &plan, times)))?;
            match &failure {
                None => say(&format!("it did not fail in {times} runs")),
                Some(failure) => say(&failure.report(engine, &options.defect)),
            }
            Ok(failure.is_none())
        }
        Command::Show { seed } => {
            say(&Plan::draw(seed, engine).to_string());
            Ok(true)
        }
    }
}

/// Nodes are killed when their values go, which a signal would not do.
async fn unless_interrupted<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        _ = terminated.recv() => anyhow::bail!("interrupted"),
    }
}

impl More {
    fn options(self, seed: u64, histories: u64, limit: Option<u64>) -> anyhow::Result<Options> {
        anyhow::ensure!(
            self.defect.is_none() || cfg!(feature = "planted-defects"),
            "a defect needs a build with --features planted-defects"
        );
        Ok(Options {
            program: std::env::current_exe().context("the path of this program")?,
            engine: vellum_test_database::engine(),
            seed,
            histories,
            limit: limit.map(Duration::from_secs),
            worlds: 1,
            defect: self.defect,
            shrink: Duration::from_secs(self.shrink),
        })
    }
}
