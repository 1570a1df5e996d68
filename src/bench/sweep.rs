//! A scenario under growing load: first the highest rate of a closed loop, then an open loop at parts of it, up to
//! more than the node can do.

use super::load::{Load, Pace};
use super::report::{Point, Sweep};
use super::scenarios::Scenario;
use super::{Bench, say};

/// The parts of the highest rate.
const PARTS: [f64; 9] = [0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 1.0, 1.1];

/// Measures every load in turn.
pub(super) async fn measure(scenario: Scenario, bench: &Bench) -> anyhow::Result<Sweep> {
    let load = bench.options.load();
    let highest = scenario.load(bench, Load { pace: Pace::Closed, ..load }).await?.rate();
    let mut points = Vec::with_capacity(PARTS.len());
    for part in PARTS {
        let offered = highest * part;
        say(&format!("{} at {offered:.0}/s", scenario.name()));
        let measured = scenario.load(bench, Load { pace: Pace::Open(offered), ..load }).await?;
        points.push(Point { offered, rate: measured.rate(), times: (&measured).into() });
    }
    Ok(Sweep { scenario: scenario.name().to_owned(), points })
}
