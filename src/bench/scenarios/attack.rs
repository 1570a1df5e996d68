//! `attack`: what honest people notice while somebody attacks the node, one attack after the other,
//! and without one. The node has its limits on and stands behind a proxy on this machine, as one on
//! the internet does.

use std::time::Duration;

use super::{Bench, Figures, Goal, Scenario, inbox};
use crate::bench::attack::{Attack, Honest, Running, Target};
use crate::bench::env::BenchEnv;
use crate::bench::report::Beside;
use crate::bench::sinks::Sinks;
use crate::bench::{Options, say};
use vellum_protocol::Handle;

/// Accounts of the node that is attacked, and other nodes with honest people, at most.
const MOST_USERS: usize = 1_000;
const MOST_PEERS: usize = 8;
/// What honest people may notice: how slow the slowest of 100 readings is, and how many messages
/// are accepted in time.
const WANTED_P99_MS: f64 = 100.0;
const WANTED_SHARE: f64 = 1.0;
/// As a node behind a proxy has them. Whatever else is limited is so by default.
const SETTINGS: [(&str, &str); 2] =
    [("VELLUM_LIMITS__ENABLED", "true"), ("VELLUM_HTTP__TRUSTED_PROXIES", "127.0.0.1/32")];

/// Measures the node without an attack, then beside each.
pub(super) async fn measure(bench: &Bench) -> anyhow::Result<Figures> {
    let options = &bench.options;
    let mut settings: Vec<(String, String)> =
        SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    settings.extend_from_slice(&options.settings);
    let users = options.users.min(MOST_USERS);
    let options = &Options { settings, users, nodes: 1, ..options.clone() };
    let mut env = BenchEnv::prepare(&bench.binary, options).await?;
    let sinks = Sinks::start(options.peers.min(MOST_PEERS), 0, Duration::ZERO).await?;
    inbox::meet(&env, &sinks).await?;
    let nodes = env.watch();
    let mut beside = Vec::with_capacity(Attack::ALL.len());
    for attack in Attack::ALL {
        say(&format!("attack: {}", attack.name()));
        // Killed, so that nothing of the attack before goes on, and memory is counted anew.
        env.nodes[0].kill().await?;
        env.start().await?;
        beside.push(one(attack, &env, &sinks, options.load().duration, options.load().warm_up).await?);
    }
    let mut figures = Figures::counted(Scenario::Attack.name(), "open".to_owned(), 0.0, &nodes);
    figures.times = beside.first().map(|none| none.identity);
    for row in &beside {
        let share = |part: u64, all: u64| part as f64 / (all as f64).max(1.0);
        figures = figures
            .goal(Goal::at_most(
                &format!("p99 ms of identity, {}", row.attack),
                WANTED_P99_MS,
                row.identity.p99,
            ))
            .goal(Goal::at_least(
                &format!("share of identities answered, {}", row.attack),
                WANTED_SHARE,
                share(row.identities_answered, row.identities),
            ))
            .goal(Goal::at_least(
                &format!("share of messages accepted within 2 s, {}", row.attack),
                WANTED_SHARE,
                share(row.accepted_in_time, row.messages),
            ));
    }
    figures.attacks = beside;
    Ok(figures)
}

async fn one(
    attack: Attack,
    env: &BenchEnv,
    sinks: &Sinks,
    duration: Duration,
    warm_up: Duration,
) -> anyhow::Result<Beside> {
    let node = env.watch();
    // The victim and the attacker are users like any others.
    let (victim, attacker) = (&env.plain()[0], &env.accounts[0]);
    let target = Target {
        address: env.address(),
        victim: Handle::parse(&env.handle(victim))?,
        email: victim.email.clone(),
        bearer: attacker.bearer.clone(),
    };
    let mut honest = Honest::new(env, &sinks.alive)?;
    let running = Running::begin(attack, target)?;
    tokio::time::sleep(warm_up).await;
    let (identity, messages) = honest.go_on_for(duration).await?;
    let answers = running.stop().await?;
    Ok(Beside {
        attack: attack.name().to_owned(),
        identities: identity.sent,
        identities_answered: identity.right,
        identity: (&identity.times).into(),
        messages: messages.sent,
        accepted: messages.right,
        accepted_in_time: messages.in_time,
        acceptance: (&messages.times).into(),
        most_resident_mb: node.most_resident(),
        cores: node.cores(),
        answers,
    })
}
