//! `identity` and `resolve`: what users and other nodes read most, beside what actix-web alone can
//! answer, without and with the same read from the database.

use super::{Bench, BenchEnv, Figures, Goal, Scenario, Script, driven, share_of};
use crate::bench::bare;
use crate::bench::connection::{Answer, Connection, write_request};

/// The share of the bare rate to reach.
const WANTED: f64 = 0.6;
/// The same when so many users are active.
const WANTED_OF_MANY: f64 = 0.4;
const MANY: usize = 1_000_000;
/// The share to reach of a bare handler that does the same read.
const WANTED_OF_READS: f64 = 0.8;

/// Sends a list of requests again and again.
struct Asking {
    requests: Vec<(Vec<u8>, String)>,
    next: usize,
    /// Whether each answer has to have the text beside its request.
    is_checked: bool,
}

impl Script for Asking {
    fn write_next(&mut self, request: &mut Vec<u8>) -> bool {
        self.next = (self.next + 1) % self.requests.len();
        request.clone_from(&self.requests[self.next].0);
        true
    }

    fn check(&mut self, answer: Answer<'_>) -> Result<(), String> {
        let expected = if self.is_checked { self.requests[self.next].1.as_str() } else { "" };
        answer.expect(200, expected)
    }
}

/// Scripts that read identities, one per connection.
pub(super) fn identity(env: &BenchEnv, connections: usize) -> Vec<Box<dyn Script>> {
    asking(Scenario::Identity, env, connections, true)
}

/// Scripts that resolve users, one per connection.
pub(super) fn resolve(env: &BenchEnv, connections: usize) -> Vec<Box<dyn Script>> {
    asking(Scenario::Resolve, env, connections, true)
}

fn asking(scenario: Scenario, env: &BenchEnv, connections: usize, is_checked: bool) -> Vec<Box<dyn Script>> {
    let script = |connection| -> Box<dyn Script> {
        let accounts = share_of(&env.accounts, connection, connections);
        let requests = accounts.iter().map(|account| {
            let mut request = Vec::new();
            if scenario == Scenario::Identity {
                let token = [("authorization", account.bearer.as_str())];
                write_request(&mut request, "GET /users/me/identity", &token, b"");
            } else {
                let start = format!("GET /.well-known/user/{}", account.alias);
                write_request(&mut request, &start, &[], b"");
            }
            (request, format!(r#""handle":"{}""#, env.handle(account)))
        });
        Box::new(Asking { requests: requests.collect(), next: 0, is_checked })
    };
    (0..connections).map(script).collect()
}

/// The length of an answer's body in bytes.
async fn length_of_answer(scenario: Scenario, env: &BenchEnv) -> anyhow::Result<usize> {
    let mut request = Vec::new();
    for script in &mut asking(scenario, env, 1, true) {
        script.write_next(&mut request);
    }
    Ok(Connection::open(env.address()).await?.exchange(&request).await?.body.len())
}

/// Measures the bare servers first, then the node, with the same driver and as many connections.
pub(super) async fn measure(scenario: Scenario, bench: &Bench) -> anyhow::Result<Figures> {
    let (options, env) = (&bench.options, &bench.env);
    let length = length_of_answer(scenario, env).await?;
    let scripts = || asking(scenario, env, options.connections, false);
    let bare = bare::measure(bench, length, false, scripts(), options.load()).await?;
    let reading = bare::measure(bench, length, true, scripts(), options.load()).await?;
    let (figures, measured) = driven(scenario, bench).await?;
    let wanted = if env.accounts.len() < MANY { WANTED } else { WANTED_OF_MANY };
    let rate = measured.rate();
    Ok(figures
        .limit(&format!("bare actix-web, {length} bytes"), bare)
        .limit("the same with the same read", reading)
        .goal(Goal::at_least("share of the bare answers", wanted, rate / bare))
        .goal(Goal::at_least(
            "share of the bare answers with the same read",
            WANTED_OF_READS,
            rate / reading,
        )))
}
