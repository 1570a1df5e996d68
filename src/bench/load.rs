//! Putting a node under load and timing its answers.
//!
//! A *closed* loop has so many connections, each of which sends the next request when it has the last answer:
//! it finds the highest rate. Its times say nothing of a rate that does not wait for answers. An *open* loop has
//! a schedule: a request is due at its moment whether or not earlier ones are answered, and its time counts
//! from then on, also while it waits for a free connection. So a node that stands still for a second shows it
//! in every request that was due in that second (this is what "coordinated omission" leaves out).
//!
//! What is asked and what is a right answer is a [`Script`]'s business. The first wrong answer ends the run.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use tokio::task::JoinSet;

use super::connection::{Answer, Connection};
use super::database_use::DatabaseUse;
use super::histogram::Histogram;

/// A timer of this process may be late by so much without the node being to blame.
const TIMER: Duration = Duration::from_millis(2);

/// How long the last answers may take after the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one connection asks.
pub trait Script: Send {
    /// Writes the next request, in place of what is in `request`. `false`: there are no more.
    fn write_next(&mut self, request: &mut Vec<u8>) -> bool;

    /// Looks at the answer to it.
    ///
    /// # Errors
    /// Why it is not the right one.
    fn check(&mut self, answer: Answer<'_>) -> Result<(), String>;
}

/// When requests are due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// When the last answer is there.
    Closed,
    /// So many a second, over all connections together.
    Open(f64),
}

impl std::fmt::Display for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => f.write_str("closed"),
            Self::Open(rate) => write!(f, "open, {rate:.0}/s"),
        }
    }
}

/// How long and how hard.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// When requests are due.
    pub pace: Pace,
    /// How long is measured.
    pub duration: Duration,
    /// How long requests go on before, without being measured.
    pub warm_up: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// How long the answers took.
    pub times: Histogram,
    /// How long it was measured.
    pub elapsed: Duration,
    /// How many answers there were, with those of the warm-up.
    pub answered: u64,
    /// What they cost at the database, where that was measured.
    pub database: Option<DatabaseUse>,
}

impl Measured {
    /// Answers a second.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of answers is far below where floats lose whole numbers"
    )]
    pub fn rate(&self) -> f64 {
        self.times.total() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Runs each script on a connection of its own. The connections go to `servers` in turn.
///
/// # Errors
/// The first wrong answer, or a connection that failed.
pub async fn drive(
    servers: &[SocketAddr],
    scripts: Vec<Box<dyn Script>>,
    load: Load,
) -> anyhow::Result<Measured> {
    let connections = scripts.len();
    let mut ready = Vec::with_capacity(connections);
    for (server, script) in servers.iter().cycle().zip(scripts) {
        ready.push((Connection::open(*server).await.context("connecting to the node")?, script));
    }
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, (connection, script)) in ready.into_iter().enumerate() {
        let schedule = Schedule::new(load, begin, number, connections);
        tasks.spawn(converse(connection, script, schedule));
    }
    let mut measured = Measured::default();
    let mut last = begin + load.warm_up;
    let deadline = begin + load.warm_up + load.duration + PATIENCE;
    loop {
        let next = tokio::time::timeout_at(deadline.into(), tasks.join_next()).await;
        let Some(done) = next.context("an answer did not come")? else { break };
        let (times, answered, ended) = done.context("a connection's task")??;
        measured.times.add(&times);
        measured.answered += answered;
        last = last.max(ended);
    }
    measured.elapsed = last.duration_since(begin + load.warm_up);
    Ok(measured)
}

/// When one connection's requests are due.
struct Schedule {
    measured_from: Instant,
    end: Instant,
    /// For an open loop: when the next one is due, and the time between two of this connection.
    due: Option<(Instant, Duration)>,
}

impl Schedule {
    fn new(load: Load, begin: Instant, number: usize, connections: usize) -> Self {
        let due = match load.pace {
            Pace::Closed => None,
            Pace::Open(rate) => {
                let (number, connections) =
                    (u32::try_from(number).unwrap_or(0), u32::try_from(connections).unwrap_or(1));
                let between = Duration::from_secs_f64(1.0 / rate);
                Some((begin + between * number, between * connections))
            }
        };
        let measured_from = begin + load.warm_up;
        Self { measured_from, end: measured_from + load.duration, due }
    }

    /// Waits until the next request is due, and gives the moment that its time counts from. `None`: the end.
    async fn next(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let Some((due, between)) = &mut self.due else {
            return (now < self.end).then_some(now);
        };
        let moment = *due;
        *due += *between;
        if moment >= self.end {
            return None;
        }
        if moment <= now {
            return Some(moment);
        }
        tokio::time::sleep_until(moment.into()).await;
        // The connection was free in time. That the timer of this process woke it a little late is not the node's
        // doing; that this process got no processor for longer is, since it is the node that has it.
        let woken = Instant::now();
        Some(if woken.duration_since(moment) < TIMER { woken } else { moment })
    }
}

async fn converse(
    mut connection: Connection,
    mut script: Box<dyn Script>,
    mut schedule: Schedule,
) -> anyhow::Result<(Histogram, u64, Instant)> {
    let (mut times, mut answered) = (Histogram::default(), 0);
    let mut request = Vec::new();
    let mut ended = schedule.measured_from;
    // Written before it is due: making a request costs nothing of its time.
    while script.write_next(&mut request) {
        let Some(due) = schedule.next().await else { break };
        let answer = connection.exchange(&request).await?;
        let now = Instant::now();
        script.check(answer).map_err(|reason| anyhow!("a wrong answer: {reason}"))?;
        answered += 1;
        if due >= schedule.measured_from {
            times.record(now.duration_since(due));
            ended = now;
        }
    }
    Ok((times, answered, ended))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(pace: Pace) -> Load {
        Load { pace, duration: Duration::from_secs(10), warm_up: Duration::ZERO }
    }

    #[tokio::test]
    async fn a_request_that_had_to_wait_counts_from_when_it_was_due() {
        let begin = Instant::now().checked_sub(Duration::from_secs(5)).unwrap();
        let mut schedule = Schedule::new(load(Pace::Open(100.0)), begin, 3, 10);
        assert_eq!(schedule.next().await, Some(begin + Duration::from_millis(30)));
        assert_eq!(schedule.next().await, Some(begin + Duration::from_millis(130)), "one in ten is its own");
    }

    #[tokio::test]
    async fn a_schedule_ends_with_its_time() {
        let begin = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        assert_eq!(Schedule::new(load(Pace::Closed), begin, 0, 1).next().await, None);
        let mut open = Schedule::new(load(Pace::Open(1.0)), begin, 0, 1);
        let mut due = 0;
        while open.next().await.is_some() {
            due += 1;
        }
        assert_eq!(due, 10);
    }
}
