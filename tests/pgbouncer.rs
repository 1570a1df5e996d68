//! Nodes on PostgreSQL through PgBouncer: with the file of `config/proxy`, in which only addresses and
//! passwords are other ones, and in the modes that do not do.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use vellum_test_database::{PostgresServer, shared_server};

use crate::support::{Replicas, TestNode, installed, wait_for};

/// PgBouncer at work. It ends with the value.
struct PgBouncer {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl PgBouncer {
    /// Starts it in front of a server, in a pool mode.
    async fn start(program: &Path, server: &str, mode: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let text = include_str!("../config/proxy/pgbouncer.ini");
        let changes = [
            ("vellum = host=127.0.0.1 port=5432 dbname=vellum", format!("* = {server}")),
            ("listen_port = 6432", format!("listen_port = {port}")),
            ("auth_type = scram-sha-256", "auth_type = trust".to_owned()),
            ("/etc/pgbouncer/userlist.txt", path("users")),
            ("/var/log/postgresql/pgbouncer.log", path("log")),
            ("/var/run/postgresql/pgbouncer.pid", path("pid")),
            ("unix_socket_dir = /var/run/postgresql", "unix_socket_dir =".to_owned()),
            ("pool_mode = session", format!("pool_mode = {mode}")),
        ];
        let text = changes.iter().fold(text.to_owned(), |text, (word, other)| {
            assert!(text.contains(word), "the file has no {word:?} any more");
            text.replace(word, other)
        });
        std::fs::write(folder.path().join("users"), "\"postgres\" \"\"\n").unwrap();
        std::fs::write(folder.path().join("pgbouncer.ini"), text).unwrap();
        let mut command = Command::new(program);
        let id = Command::new("id").arg("-u").output().unwrap();
        if id.stdout == b"0\n" {
            // It does not run as root; its own user has to reach the folder.
            let owned = Command::new("chown").args(["-R", "postgres"]).arg(folder.path()).status().unwrap();
            assert!(owned.success());
            command.args(["-u", "postgres"]);
        }
        command.arg(folder.path().join("pgbouncer.ini")).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pooler = Self { child, port, _folder: folder };
        let probe = || async { TcpStream::connect(("127.0.0.1", port)) };
        wait_for("PgBouncer takes connections", probe, Result::is_ok).await.unwrap();
        pooler
    }

    /// The address of a database of the server, through the pooler.
    fn address(&self, database: &str) -> String {
        let name = database.rsplit('/').next().unwrap();
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }
}

/// The server as PgBouncer's file names it.
fn place_of(server: &PostgresServer) -> String {
    let address = server.new_database();
    let port = address.rsplit(':').next().unwrap().split('/').next().unwrap();
    format!("host=127.0.0.1 port={port}")
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_share_a_database_through_pgbouncer_in_session_mode() {
    let (Some(program), Some(server)) = (installed("pgbouncer"), shared_server()) else { return };
    let pooler = PgBouncer::start(&program, &place_of(server), "session").await;
    let database = server.new_database();
    let address = pooler.address(&database);
    // As a node connects: PgBouncer refuses what it does not know.
    let options: PgConnectOptions = address.parse().unwrap();
    let pool = PgPoolOptions::new().connect_with(options.extra_float_digits(None)).await.unwrap();
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    listener.listen("vellum").await.unwrap();

    let shared = Replicas::start(server, 2, &[("VELLUM_DATABASE__URL", &address)]).await;
    let other =
        TestNode::start_with(&[("VELLUM_DATABASE__URL", &pooler.address(&server.new_database()))]).await;
    let (ann, bob) = (shared.nodes[0].person("ann").await, other.person("bob").await);
    ann.befriend(&bob).await;
    // The one node has made the friends, and the other ends it.
    let through_other = shared.through(1, &ann);
    assert_eq!(through_other.friends().await, [bob.handle()]);
    let revocation = ann.revocation(&bob.handle());
    through_other.client.remove_friend(&bob.handle(), Some(&revocation)).await.unwrap();
    wait_for("bob's node has heard that it is over", || bob.friends(), |seen| seen.is_empty()).await;
    let heard = tokio::time::timeout(Duration::from_secs(20), listener.recv()).await;
    let heard = heard.expect("nodes tell each other of outcomes").unwrap();
    assert!(heard.payload().starts_with("outcome "), "{heard:?}");
    let mut direct = PgConnection::connect(&database).await.unwrap();
    let (connected,): (i64,) = sqlx::query_as(
        "select count(*) from pg_stat_activity
         where datname = current_database() and application_name = 'vellum'",
    )
    .fetch_one(&mut direct)
    .await
    .unwrap();
    assert!(connected > 0, "the server sees the nodes at work: db copy refuses to begin");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_keeps_no_sessions_is_refused_by_name_and_nothing_is_changed() {
    let (Some(program), Some(server)) = (installed("pgbouncer"), shared_server()) else { return };
    for (mode, expected) in [
        ("transaction", "pool_mode = session"),
        ("statement", "transaction blocks not allowed in statement pooling mode"),
    ] {
        let pooler = PgBouncer::start(&program, &place_of(server), mode).await;
        let database = server.new_database();
        let node = TestNode::prepared(&[("VELLUM_DATABASE__URL", &pooler.address(&database))]);
        for command in [&["serve"] as &[&str], &["user", "list"], &["db", "status"], &["serve"]] {
            let refused = node.process.run(command).await.unwrap_err().to_string();
            assert!(refused.contains(expected), "{mode}, {command:?}: {refused}");
        }
        let mut direct = PgConnection::connect(&database).await.unwrap();
        let (tables,): (i64,) = sqlx::query_as("select count(*) from pg_tables where schemaname = 'public'")
            .fetch_one(&mut direct)
            .await
            .unwrap();
        assert_eq!(tables, 0, "{mode}: no schema is begun");
    }
}
