//! The report of a run: a table for people, JSON for programs.

use serde::Serialize;

use super::attack::Answers;
use super::database_use::DatabaseUse;
use super::histogram::Histogram;
use super::load::Measured;
use super::process::Watched;

/// What the machine can do at most.
#[derive(Debug, Clone, Serialize)]
pub struct Limit {
    /// What was measured.
    pub name: String,
    /// A second.
    pub rate: f64,
}

/// A bound that a scenario has to keep.
#[derive(Debug, Clone, Serialize)]
pub struct Goal {
    /// What is compared with what.
    pub what: String,
    /// The bound.
    pub wanted: f64,
    /// What it was.
    pub reached: f64,
    /// Whether that is within the bound.
    pub met: bool,
}

impl Goal {
    /// It has to be so much or more.
    #[must_use]
    pub fn at_least(what: &str, wanted: f64, reached: f64) -> Self {
        Self { what: what.to_owned(), wanted, reached, met: reached >= wanted }
    }

    /// It has to be so much or less.
    #[must_use]
    pub fn at_most(what: &str, wanted: f64, reached: f64) -> Self {
        Self { what: what.to_owned(), wanted, reached, met: reached <= wanted }
    }
}

/// How long answers took, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Times {
    /// Half of the answers took no longer.
    pub p50: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p999: f64,
    /// All.
    pub max: f64,
}

impl From<&Measured> for Times {
    fn from(measured: &Measured) -> Self {
        (&measured.times).into()
    }
}

impl From<&Histogram> for Times {
    fn from(times: &Histogram) -> Self {
        Self {
            p50: times.percentile(0.5),
            p99: times.percentile(0.99),
            p999: times.percentile(0.999),
            max: times.max(),
        }
    }
}

/// The figures of one scenario.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Which.
    pub scenario: String,
    /// How it was loaded.
    pub load: String,
    /// Requests or deliveries per second.
    pub rate: f64,
    /// How long each took; `None` where nobody waits for an answer.
    pub times: Option<Times>,
    /// What the machine could do at most, measured in the same run.
    pub limits: Vec<Limit>,
    /// What it has to show.
    pub goals: Vec<Goal>,
    /// What requests cost at the database; `None` where nobody asks.
    pub database: Option<DatabaseUse>,
    /// The nodes' resident memory at the end, in MB.
    pub resident_mb: Option<f64>,
    /// The most that it had since its start, in MB.
    pub most_resident_mb: Option<f64>,
    /// The cores that the nodes used, on average.
    pub cores: Option<f64>,
    /// What honest people notice beside attacks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attacks: Vec<Beside>,
    /// What else there is to say.
    pub notes: Vec<String>,
}

/// What honest people notice beside one attack.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Beside {
    /// Which.
    pub attack: String,
    /// How many identities were asked for.
    pub identities: u64,
    /// How many were answered.
    pub identities_answered: u64,
    /// How long those took.
    pub identity: Times,
    /// How many messages were sent by other nodes.
    pub messages: u64,
    /// How many were accepted.
    pub accepted: u64,
    /// How many of those within 2 s.
    pub accepted_in_time: u64,
    /// How long those took that were accepted.
    pub acceptance: Times,
    /// The most memory that the node had since its start, in MB.
    pub most_resident_mb: Option<f64>,
    /// The cores that the node used, on average.
    pub cores: Option<f64>,
    /// What the attacker was answered.
    pub answers: Answers,
}

impl Figures {
    /// The figures of a driven scenario; limits and goals are added by whoever knows them.
    #[must_use]
    pub fn driven(scenario: &str, load: String, measured: &Measured, nodes: &Watched) -> Self {
        let counted = Self::counted(scenario, load, measured.rate(), nodes);
        Self { times: Some(measured.into()), database: measured.database, ..counted }
    }

    /// The figures of a scenario without answers.
    #[must_use]
    pub fn counted(scenario: &str, load: String, rate: f64, nodes: &Watched) -> Self {
        Self {
            scenario: scenario.to_owned(),
            load,
            rate,
            times: None,
            limits: Vec::new(),
            goals: Vec::new(),
            database: None,
            resident_mb: nodes.resident(),
            most_resident_mb: nodes.most_resident(),
            cores: nodes.cores(),
            attacks: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// With a limit, and its share that was reached.
    #[must_use]
    pub fn limit(mut self, name: &str, rate: f64) -> Self {
        self.limits.push(Limit { name: name.to_owned(), rate });
        self
    }

    /// With something that it has to show.
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Self {
        self.goals.push(goal);
        self
    }

    /// With a remark.
    #[must_use]
    pub fn note(mut self, note: String) -> Self {
        self.notes.push(note);
        self
    }
}

/// Everything that one run has shown.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The node's version.
    pub version: &'static str,
    /// Whether it was built without optimisations: its figures mean nothing then.
    pub debug_build: bool,
    /// The cores of the machine, which node and driver share.
    pub machine_cores: usize,
    /// The database's engine.
    pub engine: &'static str,
    /// Nodes on the database.
    pub nodes: usize,
    /// Accounts in the database.
    pub users: usize,
    /// Accounts that are asked for.
    pub active: usize,
    /// The scenarios, in order.
    pub scenarios: Vec<Figures>,
    /// Throughput and times against load.
    pub sweeps: Vec<Sweep>,
    /// What growth does.
    pub growth: Vec<Growth>,
}

/// One scenario under growing load.
#[derive(Debug, Clone, Serialize)]
pub struct Sweep {
    /// Which.
    pub scenario: String,
    /// From little load to much.
    pub points: Vec<Point>,
}

/// One load.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Point {
    /// Requests a second that were due.
    pub offered: f64,
    /// Answers a second.
    pub rate: f64,
    /// How long they took.
    pub times: Times,
}

/// One scenario with ever more of something.
#[derive(Debug, Clone, Serialize)]
pub struct Growth {
    /// Which.
    pub scenario: String,
    /// Of what there is more.
    pub of: &'static str,
    /// How many, and the rate then.
    pub rates: Vec<(usize, f64)>,
}

impl Report {
    /// The report as a table with everything below it that does not fit in.
    #[must_use]
    pub fn table(&self) -> String {
        let Self { engine, nodes, users, active, .. } = self;
        let mut lines = vec![format!("{engine}, {nodes} node(s), {users} users, {active} of them active")];
        lines.push(format!(
            "{:<12} {:>22} {:>10} {:>9} {:>9} {:>9} {:>9} {:>8} {:>6}",
            "scenario", "load", "a second", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "MB", "cores"
        ));
        for figures in &self.scenarios {
            lines.push(row(figures));
            lines.extend(figures.database.as_ref().map(database_row));
            lines.extend(figures.limits.iter().map(|limit| {
                let share = if limit.rate > 0.0 { figures.rate / limit.rate } else { 0.0 };
                format!("    limit: {:<52} {:>10.0}/s  reached: {:.2}", limit.name, limit.rate, share)
            }));
            lines.extend(figures.goals.iter().map(|goal| {
                let met = if goal.met { "met" } else { "NOT MET" };
                format!(
                    "    goal:  {:<52} {:>10.2}    it is: {:.2}  {met}",
                    goal.what, goal.wanted, goal.reached
                )
            }));
            lines.extend(attack_table(&figures.attacks));
            lines.extend(figures.notes.iter().map(|note| format!("    {note}")));
        }
        for sweep in &self.sweeps {
            lines.push(format!("\n{} against load:", sweep.scenario));
            lines.extend(sweep.points.iter().map(|point| {
                let Point { offered, rate, times } = point;
                format!(
                    "    due {offered:>8.0}/s  answered {rate:>8.0}/s  p50 {:>8.2} ms  p99 {:>8.2} ms",
                    times.p50, times.p99
                )
            }));
        }
        for growth in &self.growth {
            lines.push(format!("\n{} with more {}:", growth.scenario, growth.of));
            let first = growth.rates.first().map_or(0.0, |(_, rate)| *rate);
            lines.extend(growth.rates.iter().map(|(count, rate)| {
                format!("    {count:>9}  {rate:>8.0}/s  {:.2} of the first", rate / first.max(1e-9))
            }));
        }
        lines.join("\n")
    }
}

fn database_row(database: &DatabaseUse) -> String {
    let DatabaseUse { statements_per_request, round_trips_per_request, retried_transactions, connections } =
        database;
    format!(
        "    database: {statements_per_request:.2} statements and {round_trips_per_request:.2} round trips \
         per request, {retried_transactions} retried transactions, {connections} connections"
    )
}

/// A row for each attack, and below it what the attacker was answered.
fn attack_table(attacks: &[Beside]) -> Vec<String> {
    if attacks.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![format!(
        "    {:<20} {:>13} {:>8} {:>8} {:>8} {:>15} {:>10} {:>8} {:>8} {:>7} {:>6}",
        "beside",
        "identities",
        "p50 ms",
        "p99 ms",
        "max ms",
        "messages in 2 s",
        "accepted",
        "p50 ms",
        "max ms",
        "MB",
        "cores"
    )];
    for row in attacks {
        let of = |part: u64, all: u64| format!("{part}/{all}");
        let number =
            |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |number| format!("{number:.1}"));
        lines.push(format!(
            "    {:<20} {:>13} {:>8.1} {:>8.1} {:>8.1} {:>15} {:>10} {:>8.1} {:>8.1} {:>7} {:>6}",
            row.attack,
            of(row.identities_answered, row.identities),
            row.identity.p50,
            row.identity.p99,
            row.identity.max,
            of(row.accepted_in_time, row.messages),
            of(row.accepted, row.messages),
            row.acceptance.p50,
            row.acceptance.max,
            number(row.most_resident_mb),
            number(row.cores),
        ));
        let answers: Vec<String> =
            row.answers.iter().map(|(answer, count)| format!("{count} x {answer}")).collect();
        if !answers.is_empty() {
            lines.push(format!("        the attacker was answered: {}", answers.join(", ")));
        }
    }
    lines
}

fn row(figures: &Figures) -> String {
    let number = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |number| format!("{number:.2}"));
    let time = |pick: fn(&Times) -> f64| number(figures.times.as_ref().map(pick));
    format!(
        "{:<12} {:>22} {:>10.1} {:>9} {:>9} {:>9} {:>9} {:>8} {:>6}",
        figures.scenario,
        figures.load,
        figures.rate,
        time(|times| times.p50),
        time(|times| times.p99),
        time(|times| times.p999),
        time(|times| times.max),
        number(figures.resident_mb),
        number(figures.cores),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::database_use::Counters;

    #[test]
    fn a_goal_is_met_within_its_bound() {
        assert!(Goal::at_least("a", 0.6, 0.6).met && !Goal::at_least("a", 0.6, 0.59).met);
        assert!(Goal::at_most("a", 25.0, 25.0).met && !Goal::at_most("a", 25.0, 25.1).met);
    }

    #[test]
    fn the_table_shows_every_limit_and_every_goal() {
        let nodes = Watched::begin(vec![u32::MAX]);
        let figures = Figures::counted("keys", "closed".to_owned(), 500.0, &nodes)
            .limit("one at a time", 100.0)
            .goal(Goal::at_least("times one at a time", 5.0, 5.0));
        let database = Counters::default().since(&Counters::default(), 1);
        let figures = Figures { database: Some(database), ..figures };
        let report = Report {
            version: "1",
            debug_build: true,
            machine_cores: 2,
            engine: "SQLite",
            nodes: 1,
            users: 1,
            active: 1,
            scenarios: vec![figures],
            sweeps: Vec::new(),
            growth: Vec::new(),
        };
        let table = report.table();
        assert!(table.contains("0.00 round trips per request"), "{table}");
        assert!(table.contains("one at a time") && table.contains("reached: 5.00") && table.contains("met"));
    }
}
