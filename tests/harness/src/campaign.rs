//! Many histories, one after the other, and what to do when one fails: find a shorter one that fails in the same way,
//! and say how to see it again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use vellum_test_database::Engine;

use crate::ledger::{Invariant, Ledger, Violation};
use crate::plan::Plan;
use crate::run;
use crate::world::{Defect, World};

/// Histories that share node processes, each with people of its own.
const PER_WORLD: u64 = 20;
/// The longest that a history may take; one that takes longer has failed.
const LONGEST: Duration = Duration::from_secs(180);
/// How often it is said how far it has got.
const TELL: Duration = Duration::from_secs(30);

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program that is a node when it is called with the word `node`.
    pub program: PathBuf,
    /// What databases are on.
    pub engine: Engine,
    /// The first seed; the next history has the next.
    pub seed: u64,
    /// How many.
    pub histories: u64,
    /// No history is begun after this time.
    pub limit: Option<Duration>,
    /// How many at once.
    pub worlds: usize,
    /// A defect that nodes are given.
    pub defect: Defect,
    /// How long a shorter history is looked for.
    pub shrink: Duration,
}

/// How it went.
#[derive(Debug)]
pub struct Outcome {
    /// Histories that were carried out, the failed one too.
    pub histories: u64,
    /// The first that failed.
    pub failure: Option<Failure>,
    /// What was done, counted.
    pub summary: String,
}

/// A history that failed.
#[derive(Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What was broken.
    pub violations: Vec<Violation>,
    /// The shortest that was found and fails in the same way.
    pub shortest: Plan,
    /// Folder with the nodes' logs and databases.
    pub folder: Option<PathBuf>,
}

/// Runs histories until one fails, or all are done; several at once, each with nodes of its own.
///
/// # Errors
/// When nodes cannot be started.
pub async fn campaign(options: &Options, mut say: impl FnMut(&str)) -> anyhow::Result<Outcome> {
    let ledgers: Vec<Arc<Ledger>> = (0..options.worlds).map(|_| Arc::default()).collect();
    let begun = Instant::now();
    let progress =
        Progress { begun, next: AtomicU64::new(0), done: AtomicU64::new(0), failed: AtomicBool::new(false) };
    let lanes = ledgers.iter().map(|ledger| lane(options, Arc::clone(ledger), &progress));
    let (tell, told) = (tokio::time::interval(TELL), &mut say);
    let mut lanes = std::pin::pin!(join_all(lanes));
    let mut tell = std::pin::pin!(tell);
    let ended = loop {
        tokio::select! {
            ended = &mut lanes => break ended,
            _ = tell.tick() => {
                let done = progress.done.load(Ordering::SeqCst);
                told(&format!("{done} histories, {:.0} s", begun.elapsed().as_secs_f64()));
            }
        }
    };
    let took = begun.elapsed();
    let mut failure = None;
    for ended in ended {
        failure = failure.or(ended?);
    }
    let done = progress.done.load(Ordering::SeqCst);
    if let Some(failed) = &mut failure {
        say(&format!("history {} has failed; looking for a shorter one", failed.seed));
        failed.shortest = shrink(options, failed.shortest.clone(), &failed.violations, &mut say).await;
    }
    Ok(Outcome { histories: done, failure, summary: summary(&ledgers, done, took) })
}

/// What is common to all lanes.
struct Progress {
    begun: Instant,
    next: AtomicU64,
    done: AtomicU64,
    failed: AtomicBool,
}

/// One history after the other, with new nodes after some.
async fn lane(
    options: &Options,
    ledger: Arc<Ledger>,
    progress: &Progress,
) -> anyhow::Result<Option<Failure>> {
    let mut world = None;
    let mut used = 0;
    loop {
        let over = options.limit.is_some_and(|limit| progress.begun.elapsed() > limit);
        if over || progress.failed.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let history = progress.next.fetch_add(1, Ordering::SeqCst);
        if history >= options.histories {
            return Ok(None);
        }
        if used == PER_WORLD {
            drop(world.take());
            used = 0;
        }
        used += 1;
        let current = match &mut world {
            Some(world) => world,
            none => none.insert(
                World::start(&options.program, options.engine, Arc::clone(&ledger), &options.defect).await?,
            ),
        };
        let seed = options.seed + history;
        let plan = Plan::draw(seed, options.engine);
        let violations = one(current, &plan, history).await;
        progress.done.fetch_add(1, Ordering::SeqCst);
        if !violations.is_empty() {
            progress.failed.store(true, Ordering::SeqCst);
            return Ok(Some(Failure { seed, violations, shortest: plan, folder: current.keep_folder() }));
        }
    }
}

/// Runs one plan, again and again, each time with new nodes.
///
/// # Errors
/// When nodes cannot be started.
pub async fn replay(options: &Options, plan: &Plan, times: u64) -> anyhow::Result<Option<Failure>> {
    for history in 0..times {
        let ledger = Arc::new(Ledger::default());
        let mut world = World::start(&options.program, options.engine, ledger, &options.defect).await?;
        let violations = one(&world, plan, history).await;
        if !violations.is_empty() {
            let folder = world.keep_folder();
            return Ok(Some(Failure { seed: plan.seed, violations, shortest: plan.clone(), folder }));
        }
    }
    Ok(None)
}

/// A history that breaks off has failed, too.
async fn one(world: &World, plan: &Plan, history: u64) -> Vec<Violation> {
    let broke_off = |why: String| {
        let mut violations = world.ledger.take_violations();
        violations.push(Violation { invariant: Invariant::NoStrangeRefusal, seen: why });
        violations
    };
    match tokio::time::timeout(LONGEST, run::run(world, plan, history)).await {
        Ok(Ok(violations)) => violations,
        Ok(Err(error)) => broke_off(format!("the history broke off: {error:#}")),
        Err(_) => broke_off(format!("the history took longer than {} s", LONGEST.as_secs())),
    }
}

/// Takes parts out of a plan as long as the rest fails in the same way (delta debugging): first what other people do, then
/// halves, then smaller and smaller parts. What fails by chance may stop to fail, so each rest has two tries.
async fn shrink(options: &Options, plan: Plan, violations: &[Violation], say: &mut impl FnMut(&str)) -> Plan {
    let end = Instant::now() + options.shrink;
    let invariant = violations[0].invariant;
    let mut kept = plan.numbers();
    let concerned = plan.of(&people_in(&violations[0].seen));
    if fails(options, &plan.only(&concerned.iter().copied().collect()), invariant).await {
        say(&format!("{} steps are enough", concerned.len()));
        kept = concerned;
    }
    let mut part = kept.len().div_ceil(2);
    while part > 0 && Instant::now() < end {
        let mut smaller = None;
        for start in (0..kept.len()).step_by(part) {
            if Instant::now() >= end {
                break;
            }
            let rest: Vec<usize> = kept
                .iter()
                .enumerate()
                .filter(|(at, _)| !(start..start + part).contains(at))
                .map(|(_, n)| *n)
                .collect();
            if !rest.is_empty()
                && fails(options, &plan.only(&rest.iter().copied().collect()), invariant).await
            {
                smaller = Some(rest);
                break;
            }
        }
        match smaller {
            Some(rest) => {
                say(&format!("{} steps are enough", rest.len()));
                kept = rest;
                part = part.min(kept.len().div_ceil(2));
            }
            None if part == 1 => break,
            None => part = part.div_ceil(2),
        }
    }
    plan.only(&kept.into_iter().collect::<BTreeSet<_>>())
}

/// The people whom a sentence names: `p` and a number.
fn people_in(text: &str) -> BTreeSet<usize> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter_map(|word| word.strip_prefix('p')?.parse().ok()).collect()
}

async fn fails(options: &Options, plan: &Plan, invariant: Invariant) -> bool {
    matches!(
        replay(options, plan, 2).await,
        Ok(Some(failure)) if failure.violations.iter().any(|violation| violation.invariant == invariant)
    )
}

impl Failure {
    /// For people: what was broken, the shortest history, and how to see it again.
    #[must_use]
    pub fn report(&self, engine: Engine, defect: &Defect) -> String {
        let mut text = format!("HISTORY {} HAS FAILED\n", self.seed);
        for violation in &self.violations {
            // Writing to a text does not fail.
            let _ = writeln!(text, "  broken: {}\n    {}", violation.invariant, violation.seen);
        }
        let numbers: Vec<String> = self.shortest.numbers().iter().map(ToString::to_string).collect();
        let engine = match engine {
            Engine::Sqlite => "",
            Engine::Postgres => "TEST_DATABASE=postgres ",
        };
        let (feature, planted) = match defect {
            Some(defect) => (" --features planted-defects", format!(" --defect {defect}")),
            None => ("", String::new()),
        };
        let _ = write!(
            text,
            "the shortest history that was found ({} steps):\n{}again: {engine}cargo run -p harness{feature} -- replay --seed {} --only {}{planted}\n",
            numbers.len(),
            self.shortest,
            self.seed,
            numbers.join(","),
        );
        if let Some(folder) = &self.folder {
            let _ = writeln!(text, "logs and databases of the nodes: {}", folder.display());
        }
        text
    }
}

fn summary(ledgers: &[Arc<Ledger>], histories: u64, took: Duration) -> String {
    let mut counts: BTreeMap<(&str, String), u64> = BTreeMap::new();
    for (name, count) in ledgers.iter().flat_map(|ledger| ledger.counts()) {
        *counts.entry(name).or_default() += count;
    }
    let total = |kind: &str| counts.iter().filter(|((of, _), _)| *of == kind).map(|(_, n)| n).sum::<u64>();
    let mut text = format!(
        "{histories} histories in {:.0} s: {} operations, {} faults, {} checks\n",
        took.as_secs_f64(),
        total("act"),
        total("fault"),
        total("check"),
    );
    for ((kind, what), count) in &counts {
        let _ = writeln!(text, "  {kind}: {what}: {count}");
    }
    text
}
