//! What requests cost at the database, from the nodes' `/metrics` before and after a load.

use std::net::SocketAddr;

use anyhow::{Context as _, anyhow};
use serde::Serialize;

use super::connection::{Connection, write_request};

/// Counters of all nodes since their start, summed up.
#[derive(Debug, Default)]
pub struct Counters {
    statements: f64,
    round_trips: f64,
    conflicts: f64,
    connections: f64,
}

/// What the requests of one load cost. What the nodes do by themselves meanwhile is included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseUse {
    /// Statements per request.
    pub statements_per_request: f64,
    /// Round trips to the PostgreSQL server per request; 0 on SQLite.
    pub round_trips_per_request: f64,
    /// Transactions that were run again after a conflict.
    pub retried_transactions: f64,
    /// Open connections at the end, of all nodes.
    pub connections: f64,
}

impl Counters {
    /// Reads `/metrics` of every node.
    ///
    /// # Errors
    /// When one does not answer, or lacks a metric.
    pub async fn read(nodes: &[SocketAddr]) -> anyhow::Result<Self> {
        let mut all = Self::default();
        let mut request = Vec::new();
        write_request(&mut request, "GET /metrics", &[], b"");
        for node in nodes {
            let mut connection = Connection::open(*node).await?;
            let answer = connection.exchange(&request).await?;
            answer.expect(200, "").map_err(|reason| anyhow!("GET /metrics: {reason}"))?;
            all.add(std::str::from_utf8(answer.body)?)?;
        }
        Ok(all)
    }

    fn add(&mut self, text: &str) -> anyhow::Result<()> {
        for (sum, name) in [
            (&mut self.statements, "vellum_database_statements_total"),
            (&mut self.round_trips, "vellum_database_round_trips_total"),
            (&mut self.conflicts, "vellum_database_conflicts_total"),
            (&mut self.connections, "vellum_database_connections"),
        ] {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            *sum += value.with_context(|| format!("/metrics has no {name}"))?.parse::<f64>()?;
        }
        Ok(())
    }

    /// What has been added since `before`, for so many requests.
    #[must_use]
    pub fn since(&self, before: &Self, requests: u64) -> DatabaseUse {
        let requests = (requests as f64).max(1.0);
        DatabaseUse {
            statements_per_request: (self.statements - before.statements) / requests,
            round_trips_per_request: (self.round_trips - before.round_trips) / requests,
            retried_transactions: self.conflicts - before.conflicts,
            connections: self.connections,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(text: &[&str]) -> Counters {
        let mut all = Counters::default();
        for text in text {
            all.add(text).unwrap();
        }
        all
    }

    #[test]
    fn counters_of_all_nodes_are_summed_up_and_divided_by_requests() {
        let node = |n: u32| {
            format!(
                "# HELP vellum_database_statements_total x\nvellum_database_statements_total {}\n\
                 vellum_database_round_trips_total {}\nvellum_database_conflicts_total {n}\n\
                 vellum_database_connections 3\n",
                20 * n,
                40 * n
            )
        };
        let (before, after) = (counters(&[&node(1), &node(1)]), counters(&[&node(2), &node(3)]));
        let expected = DatabaseUse {
            statements_per_request: 6.0,
            round_trips_per_request: 12.0,
            retried_transactions: 3.0,
            connections: 6.0,
        };
        assert_eq!(after.since(&before, 10), expected);
        assert!(Counters::default().add("vellum_database_connections 3").is_err());
    }
}
