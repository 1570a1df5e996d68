//! `identity` and `resolve`: what a user and another node read most, beside what actix-web alone could answer.

use super::{Bench, Figures, Goal, Ground, Scenario, Script, driven, share_of};
use crate::bench::bare;
use crate::bench::connection::{Answer, Connection, write_request};

/// The share of the bare rate that has to be reached.
const WANTED: f64 = 0.6;

/// A list of requests, again and again, each with a text that its answer has to have.
struct Asking {
    requests: Vec<(Vec<u8>, String)>,
    next: usize,
}

impl Script for Asking {
    fn write_next(&mut self, request: &mut Vec<u8>) -> bool {
        self.next = (self.next + 1) % self.requests.len();
        request.clone_from(&self.requests[self.next].0);
        true
    }

    fn check(&mut self, answer: Answer<'_>) -> Result<(), String> {
        answer.expect(200, &self.requests[self.next].1)
    }
}

/// A script a connection that reads identities.
pub(super) fn identity(ground: &Ground, connections: usize) -> Vec<Box<dyn Script>> {
    asking(ground, connections, |bearer, _, request| {
        write_request(request, "GET /users/me/identity", &[("authorization", bearer)], b"");
    })
}

/// A script a connection that resolves users.
pub(super) fn resolve(ground: &Ground, connections: usize) -> Vec<Box<dyn Script>> {
    asking(ground, connections, |_, alias, request| {
        write_request(request, &format!("GET /.well-known/user/{alias}"), &[], b"");
    })
}

fn asking(
    ground: &Ground,
    connections: usize,
    write: impl Fn(&str, &str, &mut Vec<u8>),
) -> Vec<Box<dyn Script>> {
    let script = |connection| -> Box<dyn Script> {
        let accounts = share_of(&ground.accounts, connection, connections);
        let requests = accounts.iter().map(|account| {
            let mut request = Vec::new();
            write(&account.bearer, &account.alias, &mut request);
            (request, format!(r#""handle":"{}""#, ground.handle(account)))
        });
        Box::new(Asking { requests: requests.collect(), next: 0 })
    };
    (0..connections).map(script).collect()
}

/// How many bytes an answer's body has.
async fn length_of_answer(scenario: Scenario, ground: &Ground) -> anyhow::Result<usize> {
    let mut scripts = if scenario == Scenario::Identity { identity(ground, 1) } else { resolve(ground, 1) };
    let mut request = Vec::new();
    for script in &mut scripts {
        script.write_next(&mut request);
    }
    Ok(Connection::open(ground.address()).await?.exchange(&request).await?.body.len())
}

/// Measures the bare server first, then the node, with the same driver and as many connections.
pub(super) async fn measure(scenario: Scenario, bench: &Bench) -> anyhow::Result<Figures> {
    let length = length_of_answer(scenario, &bench.ground).await?;
    let options = &bench.options;
    let bare = bare::measure(&bench.binary, length, options.connections, options.load()).await?.rate();
    let (figures, measured) = driven(scenario, bench).await?;
    let goal = Goal::at_least("share of the bare answers", WANTED, measured.rate() / bare);
    Ok(figures.limit(&format!("bare actix-web, {length} bytes"), bare).goal(goal))
}
