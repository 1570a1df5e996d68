//! A history: people are set up, the rounds of a plan are carried out, everything is put right, and the world is
//! compared with what it must look like.

use std::time::Duration;

use anyhow::Context;
use futures_util::future::join_all;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::acts::Scene;
use crate::chronicle::{Chronicle, Deed, Event};
use crate::judge;
use crate::ledger::{Invariant, Violation};
use crate::person::Person;
use crate::plan::{Fault, PEOPLE, Plan, Round};
use crate::world::World;

/// For queues to become empty by themselves, before time is made to pass.
const DRAIN: Duration = Duration::from_millis(2_000);
/// For a node to ask again for a peer's documents, which it could not have a moment ago.
const FORGET_MILLIS: i64 = 6_000;
/// How much time is made to pass: more than a lease holds.
const SKIP_MILLIS: i64 = 70_000;
/// How often.
const SKIPS: usize = 6;

/// Carries out a plan and gives what was broken. After something was, the world is not fit for another history.
///
/// # Errors
/// When the nodes could not be worked with at all: that is a failure, too, but of no invariant.
pub async fn run(world: &World, plan: &Plan, history: u64) -> anyhow::Result<Vec<Violation>> {
    let people = set_up(world, plan, history).await?;
    let chronicle = Chronicle::default();
    let scene = Scene { world, people: &people, chronicle: &chronicle };
    for (n, round) in plan.rounds.iter().enumerate() {
        carry_out(&scene, round).await.with_context(|| format!("in round {n}"))?;
        if world.ledger.is_broken() {
            return Ok(world.ledger.take_violations());
        }
    }
    world.network.heal();
    let hurried = drain(world).await?;
    judge::judge(&scene, hurried).await?;
    Ok(world.ledger.take_violations())
}

async fn set_up(world: &World, plan: &Plan, history: u64) -> anyhow::Result<Vec<Option<Mutex<Person>>>> {
    for (node, clock) in plan.clocks.iter().enumerate() {
        world.set_clock(node, *clock).await?;
    }
    let setting_up = (0..PEOPLE).map(|index| async move {
        if !plan.people.contains(&index) {
            return Ok(None);
        }
        let person = Person::set_up(world, index, history).await;
        person.map(|person| Some(Mutex::new(person))).with_context(|| format!("setting up p{index}"))
    });
    let people: Result<Vec<_>, _> = join_all(setting_up).await.into_iter().collect();
    people
}

/// Acts and faults at the same time; then what is broken is put right, and who is unsure looks again.
async fn carry_out(scene: &Scene<'_>, round: &Round) -> anyhow::Result<()> {
    let world = scene.world;
    let copies = begin_faults(scene, round).await?;
    let acts = join_all(round.acts.iter().map(|act| scene.act(act.step, act.n)));
    let faults = join_all(round.faults.iter().map(|fault| happen(world, fault.step)));
    let (_, happened) = tokio::join!(acts, faults);
    happened.into_iter().collect::<anyhow::Result<()>>()?;
    world.network.heal();
    for (node, copy) in copies {
        lose(scene, node, &copy).await?;
    }
    let looking = scene.people.iter().flatten().map(|person| async move {
        let mut person = person.lock().await;
        if !person.unsure || person.lost {
            return Ok(());
        }
        let begin = world.ledger.moment();
        person.look_again(world).await?;
        // It may have had to make keys anew.
        let deed = Deed::ChangesKeys;
        let end = world.ledger.moment();
        scene.chronicle.add(Event { who: person.index, whom: None, deed, begin, end, sure: false });
        Ok(())
    });
    join_all(looking).await.into_iter().collect()
}

/// What is so from the beginning of a round. Gives copies of databases that will be put back.
async fn begin_faults(scene: &Scene<'_>, round: &Round) -> anyhow::Result<Vec<(usize, String)>> {
    let world = scene.world;
    let mut copies = Vec::new();
    for fault in &round.faults {
        world.ledger.count("fault", fault.step.word());
        match fault.step {
            Fault::Cut { from, to, hang } => world.network.set(|links| {
                links[from][to].cut = true;
                links[from][to].hang |= hang;
            }),
            Fault::Isolate { node } => world.network.set(|links| {
                links[node].iter_mut().for_each(|link| link.cut = true);
                links.iter_mut().for_each(|of_other| of_other[node].cut = true);
            }),
            Fault::Lossy { from, to, percent } => world.network.set(|links| links[from][to].lossy = percent),
            Fault::Slow { from, ms } => {
                world.network.set(|links| links[from].iter_mut().for_each(|link| link.slow = ms));
            }
            Fault::Repeat { to } => {
                world.network.set(|links| links.iter_mut().for_each(|link| link[to].repeat = true));
            }
            Fault::DiskFull { node, .. } => {
                world.network.set(|links| links[node].iter_mut().for_each(|link| link.slow = 250));
            }
            Fault::LoseDatabase { node } => {
                for person in scene.people.iter().flatten() {
                    person.lock().await.changed = false;
                }
                copies.push((node, world.keep_copy(node).await?));
            }
            Fault::Kill { .. }
            | Fault::Pause { .. }
            | Fault::DatabaseCrash { .. }
            | Fault::ClockJump { .. } => {}
        }
    }
    Ok(copies)
}

/// What happens while people act.
async fn happen(world: &World, fault: Fault) -> anyhow::Result<()> {
    let ms = Duration::from_millis;
    match fault {
        Fault::Kill { node, after_ms, away_ms } => {
            tokio::time::sleep(ms(after_ms)).await;
            world.kill(node, ms(away_ms)).await
        }
        Fault::Pause { node, after_ms, for_ms } => {
            tokio::time::sleep(ms(after_ms)).await;
            world.pause(node, ms(for_ms)).await
        }
        Fault::DiskFull { node, after_ms, for_ms } => {
            tokio::time::sleep(ms(after_ms)).await;
            world.fill_disk(node, ms(for_ms)).await
        }
        Fault::DatabaseCrash { after_ms } => {
            tokio::time::sleep(ms(after_ms)).await;
            world.crash_server().await
        }
        Fault::ClockJump { node, to_ms } => world.set_clock(node, to_ms).await,
        Fault::Cut { .. }
        | Fault::Isolate { .. }
        | Fault::Lossy { .. }
        | Fault::Slow { .. }
        | Fault::Repeat { .. }
        | Fault::LoseDatabase { .. } => Ok(()),
    }
}

/// A node's database is as it was. It must notice, and send nothing until it is told to.
async fn lose(scene: &Scene<'_>, node: usize, copy: &str) -> anyhow::Result<()> {
    let world = scene.world;
    world.ledger.forgets(node);
    world.put_back(node, copy).await?;
    let queue = world.nodes[node].read().await.queue().await?;
    world.ledger.check(Invariant::RestoreRecognised, queue["paused"] == true, || {
        format!("node {node} goes on delivering with a database that was put back")
    });
    for person in scene.people.iter().flatten() {
        let mut person = person.lock().await;
        if person.node == node && person.changed {
            person.check_rolled_back(world).await;
            person.lost = true;
        }
    }
    world.nodes[node].read().await.resume().await?;
    let begin = world.ledger.moment();
    for person in scene.people.iter().flatten() {
        let person = person.lock().await;
        if person.node == node {
            let event =
                Event { who: person.index, whom: None, deed: Deed::Forgets, begin, end: begin, sure: true };
            scene.chronicle.add(event);
        }
    }
    Ok(())
}

/// Waits until nothing is under way on any node. Tells whether so much time had to pass that messages may have lapsed.
async fn drain(world: &World) -> anyhow::Result<bool> {
    world.skip(FORGET_MILLIS).await?;
    for skips in 0..=SKIPS {
        let end = Instant::now() + DRAIN;
        loop {
            let left = under_way(world).await?;
            if left.is_empty() {
                world.ledger.count("check", Invariant::QueueDrains.to_string());
                return Ok(skips > 0);
            }
            if Instant::now() > end {
                if skips == SKIPS {
                    world.ledger.check(Invariant::QueueDrains, false, || left.join("; "));
                    return Ok(true);
                }
                break;
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        world.ledger.count("time", "made to pass, since a queue was not empty");
        world.skip(SKIP_MILLIS).await?;
        for node in &world.nodes {
            node.read().await.resume().await?;
        }
    }
    Ok(true)
}

/// Rows that are queued or being delivered, in words.
async fn under_way(world: &World) -> anyhow::Result<Vec<String>> {
    let mut left = Vec::new();
    for (n, node) in world.nodes.iter().enumerate() {
        let queue = node.read().await.queue().await?;
        let waits =
            |state: &serde_json::Value| matches!(state["state"].as_str(), Some("queued" | "delivering"));
        if queue["depths"].as_array().into_iter().flatten().any(|depth| waits(depth) && depth["rows"] != 0) {
            let rows = queue["data"].as_array().into_iter().flatten().filter(|row| waits(row));
            left.push(format!(
                "node {n} still has {}",
                rows.map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ));
        }
    }
    Ok(left)
}
