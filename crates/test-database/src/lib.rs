//! Databases for tests. Every test that needs one asks here, so the whole suite runs on either engine:
//! on SQLite, or with `TEST_DATABASE=postgres` on databases of a private PostgreSQL server, started
//! from the installed binaries on a free port of this machine and gone with the test process.
//!
//! Nothing of a node lives here, and nothing but tests uses it.

mod server;

use std::sync::OnceLock;

pub use server::PostgresServer;

/// Which engine the suite runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// A file per database.
    Sqlite,
    /// The private server.
    Postgres,
}

/// The engine that `TEST_DATABASE` names: `sqlite` (the default) or `postgres`.
///
/// # Panics
/// For any other word, and for `postgres` where no PostgreSQL is installed: the suite was asked for.
#[must_use]
pub fn engine() -> Engine {
    match std::env::var("TEST_DATABASE").as_deref() {
        Err(_) | Ok("" | "sqlite") => Engine::Sqlite,
        Ok("postgres") => Engine::Postgres,
        Ok(other) => panic!("TEST_DATABASE is {other:?}; it may be sqlite or postgres"),
    }
}

/// The address of a new, empty database on the engine of the suite. `folder` is where a file would lie.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn address(folder: &std::path::Path) -> String {
    match engine() {
        Engine::Sqlite => format!("sqlite://{}", folder.join("vellum.db").display()),
        Engine::Postgres => match shared_server() {
            Some(server) => server.new_database(),
            None => panic!("TEST_DATABASE=postgres, but no PostgreSQL is installed"),
        },
    }
}

/// The server that the tests of this process share; `None` where no PostgreSQL is installed, said loudly.
///
/// # Panics
/// When there is one and it does not start, and when there is none although `TEST_POSTGRES=required`.
#[must_use]
pub fn shared_server() -> Option<&'static PostgresServer> {
    static SERVER: OnceLock<Option<PostgresServer>> = OnceLock::new();
    SERVER.get_or_init(PostgresServer::start).as_ref()
}
