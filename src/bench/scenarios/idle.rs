//! `idle`: how soon a node answers after its start, and what it costs without requests.

use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::{Bench, Figures, Goal, Scenario};
use crate::bench::connection::{Connection, write_request};

/// How often the start is measured; the median counts.
const STARTS: usize = 5;
/// How long it is watched doing nothing.
const WATCHED: Duration = Duration::from_secs(20);
/// What it may need.
const WANTED_START_MS: f64 = 150.0;
const WANTED_MB: f64 = 25.0;
const WANTED_CORES: f64 = 0.005;

/// Starts the node some times, then watches it.
pub(super) async fn measure(bench: &mut Bench) -> anyhow::Result<Figures> {
    let mut request = Vec::new();
    write_request(&mut request, "GET /health/live", &[], b"");
    let mut starts = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let env = &mut bench.env;
        env.nodes[0].stop().await?;
        let started = Instant::now();
        env.nodes[0].start().await?;
        let mut connection = Connection::open(env.address()).await?;
        connection.exchange(&request).await?.expect(200, "ok").map_err(|reason| anyhow!(reason))?;
        starts.push(started.elapsed());
    }
    starts.sort();
    let start = starts[STARTS / 2].as_secs_f64() * 1000.0;
    let nodes = bench.env.watch();
    tokio::time::sleep(WATCHED).await;
    let mut figures = Figures::counted(Scenario::Idle.name(), "none".to_owned(), 0.0, &nodes)
        .goal(Goal::at_most("ms from the start to the first answer", WANTED_START_MS, start));
    if let Some(resident) = figures.resident_mb {
        figures = figures.goal(Goal::at_most("MB resident", WANTED_MB, resident));
    }
    if let Some(cores) = figures.cores {
        figures = figures.goal(Goal::at_most("of a core", WANTED_CORES, cores));
    }
    Ok(figures)
}
