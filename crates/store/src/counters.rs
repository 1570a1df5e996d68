//! Counters of what the database is asked, for `/metrics`.

use std::sync::LazyLock;

use metrics::{Counter, counter};

// Looked up once per process: the node installs its recorder before it opens the database.
static STATEMENTS: LazyLock<Counter> = LazyLock::new(|| counter!("vellum_database_statements_total"));
static ROUND_TRIPS: LazyLock<Counter> = LazyLock::new(|| counter!("vellum_database_round_trips_total"));

/// Counts one statement that is sent to the database. The writer's own on SQLite, which begin and
/// commit its groups, are not counted.
pub(crate) fn statement() {
    STATEMENTS.increment(1);
}

/// Counts one request to the PostgreSQL server and its answer. The extra trip that prepares a
/// statement the first time on a connection is not counted.
pub(crate) fn round_trip() {
    ROUND_TRIPS.increment(1);
}
