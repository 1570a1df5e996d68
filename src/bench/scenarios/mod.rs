//! The scenarios, a file for each kind: their requests, the right answers, and the limit of each.
//! Timing is in [`super::load`], output in [`super::report`].

mod attack;
mod idle;
mod inbox;
mod mixed;
mod outbox;
mod reading;
mod sign_in;
mod writing;

use clap::ValueEnum;

pub(super) use inbox::rate as inbox_rate;
pub(super) use outbox::drained;

use super::Bench;
use super::env::BenchEnv;
use super::load::{Load, Measured, Pace, Script};
use super::report::{Figures, Goal};
use super::seed::Account;
use super::sinks::Sinks;

/// Connections of [`Scenario::Rotation`].
const ROTATING: usize = 16;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// A user reads their identity (GET /users/me/identity).
    Identity,
    /// Another node asks who a user is (GET /.well-known/user/…).
    Resolve,
    /// Users register new keys (PUT /users/me/keys).
    Keys,
    /// Users rotate: three blobs, five collections, three slots of 1 KiB each.
    Commit,
    /// The same on 16 connections.
    Rotation,
    /// Every connection rotates the keys of one and the same user.
    CommitHot,
    /// Users sign in with a code.
    Signin,
    /// Many peers send signed revocations.
    Inbox,
    /// A user flushes 200 revocations for 20 peers that need 50 ms each.
    Flush,
    /// The node delivers a long queue to many peers: all of them well, then half of them away.
    Drain,
    /// Most of the others at once.
    Mixed,
    /// What honest people notice of attacks: identity and messages beside each.
    Attack,
    /// The start, and a node without requests.
    Idle,
}

impl Scenario {
    /// The scenarios that the core of a node is judged by.
    pub const CORE: [Self; 6] =
        [Self::Identity, Self::Resolve, Self::Keys, Self::Rotation, Self::Inbox, Self::Drain];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Resolve => "resolve",
            Self::Keys => "keys",
            Self::Commit => "commit",
            Self::Rotation => "rotation",
            Self::CommitHot => "commit-hot",
            Self::Signin => "signin",
            Self::Inbox => "inbox",
            Self::Flush => "flush",
            Self::Drain => "drain",
            Self::Mixed => "mixed",
            Self::Attack => "attack",
            Self::Idle => "idle",
        }
    }

    /// Whether connections ask and wait for answers, so that a load can be chosen.
    #[must_use]
    pub fn is_driven(self) -> bool {
        !matches!(self, Self::Drain | Self::Attack | Self::Idle)
    }

    /// How many connections it has.
    fn connections(self, bench: &Bench) -> usize {
        if self == Self::Rotation { ROTATING } else { bench.options.connections }
    }

    /// Measures it, with its limits.
    ///
    /// # Errors
    /// The first wrong answer, or why it could not be measured.
    pub(super) async fn measure(self, bench: &mut Bench) -> anyhow::Result<Figures> {
        let mut figures = self.measure_beside_limits(bench).await?;
        if bench.options.database.is_some() {
            // The shares of the limits are goals for SQLite.
            figures.goals = self.trips_goal(&figures).into_iter().collect();
        }
        Ok(figures)
    }

    /// How many round trips a request may take on PostgreSQL. Retries and what nodes do by
    /// themselves add to the count, so it is rounded to one decimal.
    fn trips_goal(self, figures: &Figures) -> Option<Goal> {
        let wanted = match self {
            Self::Identity | Self::Resolve => 1.0,
            Self::Keys => 3.0,
            Self::Commit | Self::Rotation => 5.0,
            Self::Inbox => 6.0,
            _ => return None,
        };
        let trips = figures.database?.round_trips_per_request;
        Some(Goal::at_most("round trips per request", wanted, (trips * 10.0).round() / 10.0))
    }

    async fn measure_beside_limits(self, bench: &mut Bench) -> anyhow::Result<Figures> {
        match self {
            Self::Identity | Self::Resolve => reading::measure(self, bench).await,
            Self::Keys | Self::Commit | Self::Rotation | Self::CommitHot => {
                writing::measure(self, bench).await
            }
            Self::Signin => sign_in::measure(bench).await,
            Self::Inbox => inbox::measure(bench).await,
            Self::Flush => outbox::flush(bench).await,
            Self::Drain => outbox::drain(bench).await,
            Self::Mixed => mixed::measure(bench).await,
            Self::Attack => attack::measure(bench).await,
            Self::Idle => idle::measure(bench).await,
        }
    }

    /// Puts the nodes under this load once, and checks the database afterwards.
    ///
    /// # Errors
    /// As [`Self::measure`].
    pub(super) async fn load(self, bench: &Bench, load: Load) -> anyhow::Result<Measured> {
        let prepared = self.prepare(bench, load).await?;
        let measured = bench.env.drive(prepared.scripts, load).await?;
        bench.env.compare_versions(&prepared.changed).await?;
        Ok(measured)
    }

    async fn prepare(self, bench: &Bench, load: Load) -> anyhow::Result<Prepared> {
        let (env, connections) = (&bench.env, self.connections(bench));
        let unchanged = |scripts| Prepared { scripts, changed: Vec::new(), _sinks: None };
        Ok(match self {
            Self::Identity => unchanged(reading::identity(env, connections)),
            Self::Resolve => unchanged(reading::resolve(env, connections)),
            Self::Keys | Self::Commit | Self::Rotation => writing::prepare(self, env, connections)?,
            Self::CommitHot => writing::prepare_hot(env, connections)?,
            Self::Signin => unchanged(sign_in::prepare(env, connections).await?),
            Self::Inbox => inbox::prepare(bench, load).await?,
            Self::Mixed => mixed::prepare(bench).await?,
            Self::Flush => outbox::prepare_flush(bench).await?,
            Self::Drain | Self::Attack | Self::Idle => anyhow::bail!("{} takes no load", self.name()),
        })
    }
}

/// The requests of a scenario.
struct Prepared {
    /// One script per connection.
    scripts: Vec<Box<dyn Script>>,
    /// Accounts whose version in the database has to be the one answered last.
    changed: Vec<Account>,
    /// The other nodes, which end with the value.
    _sinks: Option<Sinks>,
}

/// The accounts that a connection takes in turn: a row of neighbours, so that what is under way at
/// one moment is spread over the database. Accounts that were made one after the other lie on the
/// same pages, where their changes would be in each other's way.
fn share_of(accounts: &[Account], connection: usize, connections: usize) -> Vec<Account> {
    let count = accounts.len();
    if count < connections {
        // Some have the same one.
        return accounts.iter().skip(connection % count.max(1)).take(1).cloned().collect();
    }
    let begins = |connection: usize| connection * count / connections;
    accounts[begins(connection)..begins(connection + 1)].to_vec()
}

/// Puts the nodes under the load of the options. Returns the figures without limits.
async fn driven(scenario: Scenario, bench: &Bench) -> anyhow::Result<(Figures, Measured)> {
    let load = bench.options.load();
    let nodes = bench.env.watch();
    let measured = scenario.load(bench, load).await?;
    let told = format!("{}, {} conn.", load.pace, scenario.connections(bench));
    Ok((Figures::driven(scenario.name(), told, &measured, &nodes), measured))
}
