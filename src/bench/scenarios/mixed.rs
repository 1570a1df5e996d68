//! `mixed`: most of the others at once, for as long as one likes, with an eye on the node's memory.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::ensure;

use super::{Bench, Figures, Goal, Prepared, Scenario, Script, driven, inbox, reading, share_of, writing};
use crate::bench::process::Watched;

/// Who asks what, in turn: reading is most of it.
const KINDS: [Scenario; 8] = [
    Scenario::Identity,
    Scenario::Resolve,
    Scenario::Keys,
    Scenario::Commit,
    Scenario::Inbox,
    Scenario::Identity,
    Scenario::Resolve,
    Scenario::Identity,
];
/// The most memory that the node may have, in MB.
const WANTED_MB: f64 = 120.0;
/// How much more it may have at the end than at a third of the time: no more than figures of memory waver.
const FLAT: f64 = 1.1;
/// How often memory is looked at in a run.
const LOOKS: u32 = 20;

/// A script a connection, of the kinds in turn. Those that change keys share no account.
pub(super) async fn prepare(bench: &Bench) -> anyhow::Result<Prepared> {
    let (env, connections) = (&bench.env, bench.options.connections);
    let sinks = inbox::senders(bench).await?;
    let seeded = env.seeded();
    ensure!(seeded.len() >= connections, "{connections} connections need as many users with data");
    let mut reading =
        (reading::identity(env, connections).into_iter(), reading::resolve(env, connections).into_iter());
    let mut scripts: Vec<Box<dyn Script>> = Vec::with_capacity(connections);
    for connection in 0..connections {
        let kind = KINDS[connection % KINDS.len()];
        let script = match kind {
            Scenario::Identity => reading.0.next(),
            Scenario::Resolve => reading.1.next(),
            Scenario::Inbox => Some(inbox::signing(bench, &sinks, connection, connections)?),
            kind => Some(writing::changing(kind, share_of(seeded, connection, connections))?),
        };
        scripts.extend(script);
    }
    Ok(Prepared { scripts, changed: seeded.to_vec(), _sinks: Some(sinks) })
}

/// Runs it, and looks at the memory meanwhile.
pub(super) async fn measure(bench: &Bench) -> anyhow::Result<Figures> {
    let looks = Arc::new(Mutex::new(Vec::new()));
    let duration = bench.options.load().duration;
    let every = duration / LOOKS;
    let looking = tokio::spawn(look(bench.env.watch(), every, Arc::clone(&looks)));
    let done = driven(Scenario::Mixed, bench).await;
    looking.abort();
    let (mut figures, _) = done?;
    let mut looks = std::mem::take(&mut *looks.lock().unwrap_or_else(PoisonError::into_inner));
    // What was seen while the run was prepared is no part of it.
    looks.drain(..looks.len().saturating_sub(usize::try_from(LOOKS).unwrap_or(usize::MAX)));
    if let Some(most) = figures.most_resident_mb {
        figures = figures.goal(Goal::at_most("MB resident at most", WANTED_MB, most));
    }
    if let (Some(third), Some(last)) = (looks.get(looks.len() / 3), looks.last()) {
        figures = figures.goal(Goal::at_most("memory at the end by that at a third", FLAT, last / third));
    }
    let told: Vec<String> = looks.iter().map(|resident| format!("{resident:.0}")).collect();
    let every = every.as_secs_f64();
    Ok(figures.note(format!("MB resident, every {every:.1} s: {}", told.join(" "))))
}

async fn look(node: Watched, every: Duration, looks: Arc<Mutex<Vec<f64>>>) {
    let mut interval = tokio::time::interval(every.max(Duration::from_millis(10)));
    loop {
        interval.tick().await;
        looks.lock().unwrap_or_else(PoisonError::into_inner).extend(node.resident());
    }
}
