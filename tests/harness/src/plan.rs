//! What a history is going to be: rounds of acts by people and of faults, drawn from a seed. Nothing is done here. A
//! plan is a plain value, so that parts of it can be taken out and the rest done again.

use std::collections::BTreeSet;
use std::fmt;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use vellum_test_database::Engine;

/// Nodes of a history.
pub const NODES: usize = 5;
/// People of a history; the nth lives on node n modulo [`NODES`].
pub const PEOPLE: usize = 40;
/// Rounds of a history.
const ROUNDS: usize = 7;

/// What one person does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named in the words of `Display`")]
pub enum Act {
    /// Invites somebody, who accepts when the invitation arrives.
    Befriend { who: usize, whom: usize },
    /// Ends a friendship; without a signature, a revocation waits for one.
    Unfriend { who: usize, whom: usize, signed: bool },
    /// Ends a friendship and makes it anew at once.
    Quarrel { who: usize, whom: usize },
    /// Shares something with a friend.
    Share { who: usize, whom: usize },
    /// Erases all and registers new keys; signs what is pending, or leaves it.
    Reset { who: usize, flush: bool },
    /// Signs whatever waits for a signature.
    Flush { who: usize },
    /// Discards the oldest pending revocation.
    Discard { who: usize },
    /// Rotates the keys, with all that is sealed.
    Rotate { who: usize },
    /// Two devices rotate from the same version at once.
    RaceRotate { who: usize },
    /// Writes a blob.
    Write { who: usize, blob: usize },
    /// Changes the profile's name.
    Rename { who: usize },
    /// Signs out and in again.
    SignIn { who: usize },
}

/// What goes wrong during a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named in the words of `Display`")]
pub enum Fault {
    /// A node is killed, and started again after a while.
    Kill { node: usize, after_ms: u64, away_ms: u64 },
    /// A node stands still for a while.
    Pause { node: usize, after_ms: u64, for_ms: u64 },
    /// Nothing gets from one node to another; connections are refused, or hang.
    Cut { from: usize, to: usize, hang: bool },
    /// Nothing gets to or from a node.
    Isolate { node: usize },
    /// Of the requests from one node to another some are lost, or their answers are.
    Lossy { from: usize, to: usize, percent: u8 },
    /// Requests from a node take longer, each for itself, so that one overtakes another.
    Slow { from: usize, ms: u64 },
    /// Every message to a node arrives twice.
    Repeat { to: usize },
    /// A node can write nothing to its disk for a while, and what it sends waits on the way.
    DiskFull { node: usize, after_ms: u64, for_ms: u64 },
    /// The database server of all nodes crashes, and comes back.
    DatabaseCrash { after_ms: u64 },
    /// A node's clock jumps.
    ClockJump { node: usize, to_ms: i64 },
    /// A node's database is put back, at the end of the round, as it was at its beginning.
    LoseDatabase { node: usize },
}

/// An act or a fault, with its number in the whole plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbered<T> {
    /// Its number.
    pub n: usize,
    /// What it is.
    pub step: T,
}

/// What happens at the same time.
#[derive(Debug, Clone, Default)]
pub struct Round {
    /// What people do.
    pub acts: Vec<Numbered<Act>>,
    /// What goes wrong meanwhile. It is put right at the end of the round.
    pub faults: Vec<Numbered<Fault>>,
}

/// A history to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it was drawn from.
    pub seed: u64,
    /// One after the other.
    pub rounds: Vec<Round>,
    /// Who takes part; the others are not even set up.
    pub people: BTreeSet<usize>,
    /// By how much each node's clock is wrong at the beginning.
    pub clocks: [i64; NODES],
}

impl Plan {
    /// The plan that follows from a seed. Some faults are possible on one engine only.
    #[must_use]
    pub fn draw(seed: u64, engine: Engine) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let clocks = std::array::from_fn(|_| rng.random_range(-60_000..=60_000));
        let mut next = 0;
        let mut number = || {
            next += 1;
            next - 1
        };
        let mut rounds = vec![first_round(&mut rng, &mut number)];
        let mut friends = Friends::default();
        friends.note(&rounds[0]);
        for _ in 1..ROUNDS {
            let acts = (0..12).map(|_| Numbered { n: number(), step: friends.draw_act(&mut rng) }).collect();
            let count = *[0, 1, 1, 2, 2, 3].choose(&mut rng).unwrap_or(&1);
            let faults = (0..count).map(|_| Numbered { n: number(), step: draw_fault(&mut rng, engine) });
            let mut round = Round { acts, faults: faults.collect() };
            round.keep_one_outage();
            friends.note(&round);
            rounds.push(round);
        }
        Self { seed, rounds, people: (0..PEOPLE).collect(), clocks }
    }

    /// The numbers of all steps.
    #[must_use]
    pub fn numbers(&self) -> Vec<usize> {
        let of_round = |round: &Round| {
            let acts = round.acts.iter().map(|act| act.n);
            acts.chain(round.faults.iter().map(|fault| fault.n)).collect::<Vec<_>>()
        };
        self.rounds.iter().flat_map(of_round).collect()
    }

    /// The numbers of what these people do to each other or for themselves, and of all faults.
    #[must_use]
    pub fn of(&self, people: &BTreeSet<usize>) -> Vec<usize> {
        let of_round = |round: &Round| {
            let acts = round
                .acts
                .iter()
                .filter(|act| act.step.people().iter().all(|person| people.contains(person)));
            let acts = acts.map(|act| act.n);
            acts.chain(round.faults.iter().map(|fault| fault.n)).collect::<Vec<_>>()
        };
        self.rounds.iter().flat_map(of_round).collect()
    }

    /// The same plan with these steps only, and those people who take part in them.
    #[must_use]
    pub fn only(&self, kept: &BTreeSet<usize>) -> Self {
        let mut plan = self.clone();
        for round in &mut plan.rounds {
            round.acts.retain(|act| kept.contains(&act.n));
            round.faults.retain(|fault| kept.contains(&fault.n));
        }
        plan.rounds.retain(|round| !round.acts.is_empty() || !round.faults.is_empty());
        plan.people =
            plan.rounds.iter().flat_map(|round| &round.acts).flat_map(|act| act.step.people()).collect();
        plan
    }
}

impl Round {
    /// At most one fault of a round takes a process or its disk away: two of them would only wait for each other.
    fn keep_one_outage(&mut self) {
        let mut seen = false;
        self.faults.retain(|fault| !fault.step.is_outage() || !std::mem::replace(&mut seen, true));
    }
}

impl Act {
    /// Whoever does it, or has it done to them.
    #[must_use]
    pub fn people(self) -> Vec<usize> {
        match self {
            Self::Befriend { who, whom }
            | Self::Unfriend { who, whom, .. }
            | Self::Quarrel { who, whom }
            | Self::Share { who, whom } => vec![who, whom],
            Self::Reset { who, .. }
            | Self::Flush { who }
            | Self::Discard { who }
            | Self::Rotate { who }
            | Self::RaceRotate { who }
            | Self::Write { who, .. }
            | Self::Rename { who }
            | Self::SignIn { who } => vec![who],
        }
    }

    /// One word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Befriend { .. } => "befriend",
            Self::Unfriend { .. } => "unfriend",
            Self::Quarrel { .. } => "quarrel",
            Self::Share { .. } => "share",
            Self::Reset { .. } => "reset",
            Self::Flush { .. } => "flush",
            Self::Discard { .. } => "discard",
            Self::Rotate { .. } => "rotate",
            Self::RaceRotate { .. } => "race of two rotations",
            Self::Write { .. } => "write a blob",
            Self::Rename { .. } => "rename",
            Self::SignIn { .. } => "sign out and in",
        }
    }
}

impl Fault {
    fn is_outage(self) -> bool {
        matches!(
            self,
            Self::Kill { .. }
                | Self::Pause { .. }
                | Self::DiskFull { .. }
                | Self::DatabaseCrash { .. }
                | Self::LoseDatabase { .. }
        )
    }

    /// One word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill",
            Self::Pause { .. } => "pause",
            Self::Cut { hang: false, .. } => "cut",
            Self::Cut { hang: true, .. } => "cut that hangs",
            Self::Isolate { .. } => "isolate",
            Self::Lossy { .. } => "lossy link",
            Self::Slow { .. } => "slow links",
            Self::Repeat { .. } => "repetitions",
            Self::DiskFull { .. } => "disk full",
            Self::DatabaseCrash { .. } => "database server crash",
            Self::ClockJump { .. } => "clock jump",
            Self::LoseDatabase { .. } => "database put back",
        }
    }
}

/// Everybody makes a friend or writes something, so that later rounds have something to act on.
fn first_round(rng: &mut StdRng, number: &mut impl FnMut() -> usize) -> Round {
    let mut acts = Vec::new();
    for who in 0..PEOPLE {
        let step = if rng.random_ratio(2, 3) {
            Act::Befriend { who, whom: neighbour(rng, who) }
        } else {
            Act::Write { who, blob: 0 }
        };
        acts.push(Numbered { n: number(), step });
    }
    Round { acts, faults: Vec::new() }
}

/// Few people know each other, so that what they do concerns each other.
fn neighbour(rng: &mut StdRng, who: usize) -> usize {
    (who + *[1, 1, 2, PEOPLE - 1, PEOPLE - 1, PEOPLE - 2, NODES].choose(rng).unwrap_or(&1)) % PEOPLE
}

/// Who should be friends by now, so that what only friends do is done among them.
#[derive(Default)]
struct Friends(Vec<(usize, usize)>);

impl Friends {
    fn note(&mut self, round: &Round) {
        for act in &round.acts {
            match act.step {
                Act::Befriend { who, whom } => self.0.push((who, whom)),
                Act::Unfriend { who, whom, .. } => {
                    self.0.retain(|pair| *pair != (who, whom) && *pair != (whom, who));
                }
                Act::Reset { who, .. } => self.0.retain(|pair| pair.0 != who && pair.1 != who),
                _ => {}
            }
        }
    }

    /// Two friends, in either order; two neighbours where nobody is.
    fn pair(&self, rng: &mut StdRng) -> (usize, usize) {
        match self.0.choose(rng) {
            Some((one, other)) if rng.random() => (*one, *other),
            Some((one, other)) => (*other, *one),
            None => (0, 1),
        }
    }

    fn draw_act(&self, rng: &mut StdRng) -> Act {
        let who = rng.random_range(0..PEOPLE);
        let friends = self.pair(rng);
        match rng.random_range(0..100) {
            0..18 => Act::Befriend { who, whom: neighbour(rng, who) },
            18..26 => Act::Unfriend { who: friends.0, whom: friends.1, signed: rng.random_ratio(3, 4) },
            26..38 => Act::Quarrel { who: friends.0, whom: friends.1 },
            38..44 => Act::Share { who: friends.0, whom: friends.1 },
            44..52 => Act::Reset { who: friends.0, flush: rng.random_ratio(3, 4) },
            52..57 => Act::Flush { who },
            57..61 => Act::Discard { who: friends.0 },
            61..67 => Act::Rotate { who },
            67..72 => Act::RaceRotate { who },
            72..84 => Act::Write { who, blob: rng.random_range(0..2) },
            84..94 => Act::Rename { who },
            _ => Act::SignIn { who },
        }
    }
}

fn draw_fault(rng: &mut StdRng, engine: Engine) -> Fault {
    let node = rng.random_range(0..NODES);
    let (from, to) = (node, (node + rng.random_range(1..NODES)) % NODES);
    let after_ms = rng.random_range(0..150);
    match rng.random_range(0..100) {
        0..16 => Fault::Kill { node, after_ms, away_ms: rng.random_range(0..200) },
        16..24 => Fault::Pause { node, after_ms, for_ms: rng.random_range(50..400) },
        24..32 => Fault::Cut { from, to, hang: rng.random_ratio(1, 3) },
        32..40 => Fault::Isolate { node },
        40..54 => Fault::Lossy { from, to, percent: rng.random_range(20..80) },
        54..66 => Fault::Slow { from, ms: rng.random_range(100..800) },
        66..76 => Fault::Repeat { to },
        76..88 if engine == Engine::Sqlite => {
            Fault::DiskFull { node, after_ms, for_ms: rng.random_range(50..300) }
        }
        76..79 => Fault::DatabaseCrash { after_ms },
        79..95 => Fault::ClockJump { node, to_ms: rng.random_range(-60_000..=60_000) },
        _ => Fault::LoseDatabase { node },
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Befriend { who, whom } => write!(f, "p{who} befriends p{whom}"),
            Self::Unfriend { who, whom, signed: true } => {
                write!(f, "p{who} ends the friendship with p{whom}")
            }
            Self::Unfriend { who, whom, signed: false } => {
                write!(f, "p{who} ends the friendship with p{whom}, unsigned")
            }
            Self::Quarrel { who, whom } => {
                write!(f, "p{who} ends the friendship with p{whom} and befriends them anew")
            }
            Self::Share { who, whom } => write!(f, "p{who} shares with p{whom}"),
            Self::Reset { who, flush: true } => write!(f, "p{who} resets, and signs what is pending"),
            Self::Reset { who, flush: false } => write!(f, "p{who} resets, and signs nothing"),
            Self::Flush { who } => write!(f, "p{who} signs what is pending"),
            Self::Discard { who } => write!(f, "p{who} discards a pending revocation"),
            Self::Rotate { who } => write!(f, "p{who} rotates"),
            Self::RaceRotate { who } => write!(f, "p{who} rotates on two devices at once"),
            Self::Write { who, blob } => write!(f, "p{who} writes blob {blob}"),
            Self::Rename { who } => write!(f, "p{who} changes the name"),
            Self::SignIn { who } => write!(f, "p{who} signs out and in"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Kill { node, after_ms, away_ms } => {
                write!(f, "node {node} is killed after {after_ms} ms and away for {away_ms} ms")
            }
            Self::Pause { node, after_ms, for_ms } => {
                write!(f, "node {node} stands still after {after_ms} ms, for {for_ms} ms")
            }
            Self::Cut { from, to, hang: false } => write!(f, "node {from} cannot connect to node {to}"),
            Self::Cut { from, to, hang: true } => write!(f, "what node {from} sends to node {to} hangs"),
            Self::Isolate { node } => write!(f, "node {node} is cut off"),
            Self::Lossy { from, to, percent } => {
                write!(
                    f,
                    "of the requests from node {from} to node {to} {percent} % are lost or not heard of"
                )
            }
            Self::Slow { from, ms } => {
                write!(f, "requests from node {from} take up to {ms} ms more")
            }
            Self::Repeat { to } => write!(f, "what is sent to node {to} arrives twice"),
            Self::DiskFull { node, after_ms, for_ms } => {
                write!(f, "the disk of node {node} is full after {after_ms} ms, for {for_ms} ms")
            }
            Self::DatabaseCrash { after_ms } => write!(f, "the database server crashes after {after_ms} ms"),
            Self::ClockJump { node, to_ms } => write!(f, "the clock of node {node} jumps to {to_ms} ms off"),
            Self::LoseDatabase { node } => {
                write!(f, "the database of node {node} is put back to the beginning of this round")
            }
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, round) in self.rounds.iter().enumerate() {
            writeln!(f, "  round {n}")?;
            for fault in &round.faults {
                writeln!(f, "    [{}] fault: {}", fault.n, fault.step)?;
            }
            for act in &round.acts {
                writeln!(f, "    [{}] {}", act.n, act.step)?;
            }
        }
        Ok(())
    }
}
