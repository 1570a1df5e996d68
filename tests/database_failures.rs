//! What a node says and does when its database does not work: the disk is full, the server was demoted, a right is
//! missing, the encoding is another.

mod storage;

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use vellum_client::http::Method;
use vellum_test_database::{Engine, PostgresServer, engine, shared_server};

use crate::support::{Database, Person, TestNode, plain_http, wait_for, wait_for_up_to};
use storage::{IO_ERROR, NO_SPACE, READ_ONLY, SmallDisk};

/// What an answer says: status, code, `Retry-After` in seconds, and the sentence.
#[derive(Debug)]
struct Told {
    status: u16,
    code: String,
    retry_after: Option<u64>,
    detail: String,
}

async fn told(answer: reqwest::Response) -> Told {
    let status = answer.status().as_u16();
    let retry_after =
        answer.headers().get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
    let body: Value = answer.json().await.unwrap_or_default();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    Told { status, code: text("code"), retry_after, detail: text("detail") }
}

async fn put_blob(node: &TestNode, person: &Person, length: usize) -> Told {
    put_blob_named(node, person, "note", length).await
}

async fn put_blob_named(node: &TestNode, person: &Person, name: &str, length: usize) -> Told {
    let url = format!("{}/me/blobs/{name}", node.process.origin());
    let token = person.client.token().unwrap().expose();
    let body = json!({ "encryptedBlob": "A".repeat(length) });
    told(plain_http().put(url).bearer_auth(token).json(&body).send().await.unwrap()).await
}

async fn ready(node: &TestNode) -> Told {
    told(plain_http().get(format!("{}/health/ready", node.process.origin())).send().await.unwrap()).await
}

/// What `vellum health` says of a node that is not well.
fn health(node: &TestNode) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vellum"));
    command.arg("health").env("VELLUM_HTTP__LISTEN", format!("127.0.0.1:{}", node.process.port()));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn log(node: &TestNode) -> String {
    std::fs::read_to_string(node.process.log_path()).unwrap()
}

fn count(text: &str, words: &str) -> usize {
    text.lines().filter(|line| line.contains(words)).count()
}

/// Nothing can be stored, since …
fn assert_not_stored(told: &Told, since: &str) {
    assert_eq!((told.status, told.code.as_str()), (503, "storage_unavailable"), "{told:?}");
    assert!(told.retry_after.is_some_and(|seconds| seconds > 0), "it says when to come back: {told:?}");
    assert_eq!(told.detail, format!("Nothing can be stored now, since {since}."));
}

/// Writes fail for as long as nothing can be written, everything else goes on, and the log says it once.
#[tokio::test(flavor = "multi_thread")]
async fn while_nothing_can_be_written_answers_are_503_and_reading_goes_on() {
    let Some((node, mut storage, _folder)) = storage::node(&[]).await else { return };
    let ann = node.person("ann").await;
    let faults = match engine() {
        Engine::Sqlite => vec![
            (NO_SPACE, "the disk is full"),
            (READ_ONLY, "the storage reports errors"),
            (IO_ERROR, "the storage reports errors"),
        ],
        Engine::Postgres => vec![(READ_ONLY, "the database is read-only")],
    };
    for (times, (errno, since)) in faults.into_iter().enumerate() {
        assert_eq!(put_blob(&node, &ann, 100).await.status, 200, "before fault {errno}");
        // The next request would prolong the session, which nothing may fail for.
        Database::of(&node).await.age_sessions(&ann).await;
        storage.fail(errno).await;
        let has_failed = |told: &Told| {
            assert_eq!(told.status, 503, "{told:?}");
            // A connection that was ended says so first.
            told.code == "storage_unavailable"
        };
        let failed =
            wait_for("a write has failed for this reason", || put_blob(&node, &ann, 100), has_failed).await;
        assert_not_stored(&failed, since);
        for _ in 0..3 {
            assert_not_stored(&put_blob(&node, &ann, 100).await, since);
        }
        assert_not_stored(&ready(&node).await, since);
        let verify = format!("{}/auth/verify", node.process.origin());
        let code =
            plain_http().post(verify).json(&json!({ "email": "ann@people.example" })).send().await.unwrap();
        assert_not_stored(&told(code).await, since);
        let health = health(&node);
        assert!(health.contains(since), "vellum health says why: {health}");
        let (status, _) = ann.ask(Method::GET, "/me/blobs/note", Value::Null).await;
        assert_eq!(status, 200, "reading goes on");
        let said = log(&node);
        let lines = said.lines().filter(|line| line.contains("database failure") && line.contains(since));
        let lines: Vec<&str> = lines.collect();
        let expected = if since == "the storage reports errors" { times } else { 1 };
        assert_eq!(lines.len(), expected, "the log says it once for each time: {lines:#?}");

        storage.mend().await;
        wait_for("a write succeeds", || put_blob(&node, &ann, 100), |seen| seen.status == 200).await;
        assert_eq!(ready(&node).await.status, 200, "the last write was a success");
        let said = count(&log(&node), "database writable again");
        match engine() {
            Engine::Sqlite => assert_eq!(said, times + 1, "{}", log(&node)),
            // There a write on a new connection may come between two failures.
            Engine::Postgres => assert!(said > times, "{}", log(&node)),
        }
    }
}

/// Nobody writes; the node finds out for itself when it is asked.
#[tokio::test(flavor = "multi_thread")]
async fn readiness_notices_without_a_write_that_nothing_can_be_written_and_that_it_can_again() {
    let Some((node, mut storage, _folder)) = storage::node(&[]).await else { return };
    assert_eq!(ready(&node).await.status, 200);
    storage.fail(NO_SPACE).await;
    let is_unavailable = |told: &Told| told.code == "storage_unavailable";
    let told = wait_for_up_to(AT_THE_NEXT_LOOK, "it is not ready", || ready(&node), is_unavailable).await;
    assert!(told.status == 503 && told.retry_after.is_some(), "{told:?}");
    assert!(!told.detail.contains('/') && !told.detail.contains("127.0.0.1"), "no inner address: {told:?}");
    storage.mend().await;
    wait_for_up_to(AT_THE_NEXT_LOOK, "it is ready again", || ready(&node), |seen| seen.status == 200).await;
}

/// Time for what the node looks at every 30 seconds.
const AT_THE_NEXT_LOOK: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_on_a_full_disk_goes_on_when_there_is_room() {
    if engine() == Engine::Postgres {
        // Its disk is the server's business: 53100 is read as SQLite's code is (crates/store/src/error.rs).
        return;
    }
    let mut node = TestNode::prepared(&[]);
    let Some(disk) = SmallDisk::at(node.process.folder(), "6m") else { return };
    node.process.start().await.unwrap();
    let ann = node.person("ann").await;
    let mut stored = 0;
    let full = loop {
        let told = put_blob_named(&node, &ann, &format!("note{stored}"), 400_000).await;
        if told.status != 200 {
            break told;
        }
        stored += 1;
        assert!(stored < 100, "6 MiB are never full");
    };
    assert_not_stored(&full, "the disk is full");
    let told = wait_for(
        "readiness follows the failed write",
        || async {
            // A small write of the node's own may find room in between.
            assert_not_stored(&put_blob_named(&node, &ann, "one-more", 400_000).await, "the disk is full");
            ready(&node).await
        },
        |told| told.status == 503,
    )
    .await;
    assert_not_stored(&told, "the disk is full");
    let (status, listed) = ann.ask(Method::GET, "/me/blobs", Value::Null).await;
    let kept = listed["blobs"].as_array().map(Vec::len);
    assert_eq!((status, kept), (200, Some(stored)), "what was answered is there: {listed}");
    disk.grow("64m");
    assert_eq!(put_blob(&node, &ann, 400_000).await.status, 200);
    assert_eq!(ready(&node).await.status, 200);
    node.process.stop().await.unwrap();
    drop(disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demoted_postgresql_is_read_and_not_written_until_it_is_promoted() {
    let Some(server) = PostgresServer::start() else { return };
    let database = server.new_database();
    let node = TestNode::start_with(&[("VELLUM_DATABASE__URL", &database)]).await;
    let ann = node.person("ann").await;
    assert_eq!(put_blob(&node, &ann, 100).await.status, 200);
    server.demote();
    let meets_it = |told: &Told| {
        assert_eq!(told.status, 503, "{told:?}");
        told.code == "storage_unavailable"
    };
    let refused = wait_for("a write meets the standby", || put_blob(&node, &ann, 100), meets_it).await;
    assert_not_stored(&refused, "the database is read-only");
    assert_not_stored(&ready(&node).await, "the database is read-only");
    assert_eq!(ann.ask(Method::GET, "/me/blobs/note", Value::Null).await.0, 200, "reading goes on");
    assert!(log(&node).contains("hot standby"), "the log has the server's words");
    server.promote();
    wait_for("a write succeeds", || put_blob(&node, &ann, 100), |seen| seen.status == 200).await;
    assert_eq!(ready(&node).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_that_is_down_cannot_be_reached_and_is_not_busy() {
    let Some(server) = PostgresServer::start() else { return };
    let database = server.new_database();
    let node = TestNode::start_with(&[("VELLUM_DATABASE__URL", &database)]).await;
    let ann = node.person("ann").await;
    assert_eq!(put_blob(&node, &ann, 100).await.status, 200);
    server.crash();
    for _ in 0..3 {
        for told in [put_blob(&node, &ann, 100).await, ready(&node).await] {
            let what = (told.status, told.code.as_str(), told.detail.as_str());
            assert_eq!(what, (503, "unavailable", "The database cannot be reached."));
        }
    }
    let health = health(&node);
    assert!(health.contains("The database cannot be reached"), "the reason, and in time: {health}");
    assert_eq!(count(&log(&node), "database failure"), 1, "{}", log(&node));
    server.restart();
    wait_for("a write succeeds", || put_blob(&node, &ann, 100), |seen| seen.status == 200).await;
    assert_eq!(ready(&node).await.status, 200);
    assert_eq!(count(&log(&node), "database writable again"), 1, "{}", log(&node));
}

/// Runs SQL as the server's superuser.
async fn sql(url: &str, text: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// The reason why a node does not start.
async fn refusal(node: &TestNode) -> String {
    let serving = tokio::time::timeout(Duration::from_secs(60), node.process.run(&["serve"])).await;
    serving.unwrap_or_else(|_| panic!("the node starts")).unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_named_at_the_start_and_in_the_log() {
    let Some(server) = shared_server() else { return };
    let database = server.new_database();
    let role = format!("r{}", uuid::Uuid::new_v4().simple());
    sql(&database, &format!("create role {role} login; revoke create on schema public from public")).await;
    let as_role = database.replace("postgres://postgres@", &format!("postgres://{role}@"));
    let settings = [("VELLUM_DATABASE__URL", as_role.as_str()), ("VELLUM_HTTP__LISTEN", "127.0.0.1:0")];
    let mut node = TestNode::prepared(&settings);
    let said = refusal(&node).await;
    assert!(said.contains(&format!("{role} lacks CREATE on schema public")), "{said}");
    sql(&database, "revoke usage on schema public from public").await;
    let said = node.process.run(&["user", "list"]).await.unwrap_err().to_string();
    assert!(said.contains(&format!("{role} has no schema to work in: it lacks USAGE")), "{said}");
    sql(&database, "grant usage on schema public to public").await;

    let owner = TestNode::prepared(&[("VELLUM_DATABASE__URL", &database)]);
    owner.process.run(&["db", "migrate"]).await.unwrap();
    let said = refusal(&node).await;
    assert!(said.contains("permission denied for table _sqlx_migrations"), "{said}");
    sql(&database, &format!("grant select on all tables in schema public to {role}")).await;
    let said = refusal(&node).await;
    for right in ["INSERT, UPDATE, DELETE on users", "INSERT, UPDATE, DELETE on commit_marks"] {
        assert!(said.contains(right), "{right} is missing: {said}");
    }
    assert!(!said.contains("SELECT on"), "nothing else is said to be missing: {said}");
    let all = format!("grant select, insert, update, delete on all tables in schema public to {role}");
    sql(&database, &format!("{all}; revoke delete on outbox from {role}")).await;
    let said = refusal(&node).await;
    assert!(said.contains(&format!("the role {role} lacks DELETE on outbox: grant ")), "{said}");

    // It needs no right to make tables.
    sql(&database, &all).await;
    node.process.start().await.unwrap();
    let ann = node.person("ann").await;
    assert_eq!(put_blob(&node, &ann, 100).await.status, 200);
    sql(&database, &format!("revoke insert on blobs from {role}")).await;
    let told = put_blob(&node, &ann, 100).await;
    assert_eq!((told.status, told.code.as_str()), (500, "internal"), "no waiting helps: {told:?}");
    let fail = || async {
        // Another table's write may succeed in between.
        assert_eq!(put_blob(&node, &ann, 100).await.status, 500, "no right to write blobs");
        ready(&node).await
    };
    wait_for("readiness follows the failed write", fail, |seen| seen.status == 503).await;
    assert!(log(&node).contains("permission denied for table blobs"), "{}", log(&node));
    sql(&database, &all).await;
    assert_eq!(put_blob(&node, &ann, 100).await.status, 200);
    assert_eq!(ready(&node).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_database_that_is_not_utf_8_is_refused_at_the_start() {
    let Some(server) = shared_server() else { return };
    let database = server.new_database();
    for encoding in ["SQL_ASCII", "LATIN1"] {
        let name = format!("t{}", uuid::Uuid::new_v4().simple());
        let create = format!(
            "create database {name} template template0 encoding '{encoding}' lc_collate 'C' lc_ctype 'C'"
        );
        sql(&database, &create).await;
        let url = format!("{}/{name}", database.rsplit_once('/').unwrap().0);
        let node =
            TestNode::prepared(&[("VELLUM_DATABASE__URL", &url), ("VELLUM_HTTP__LISTEN", "127.0.0.1:0")]);
        let said = refusal(&node).await;
        assert!(said.contains(&format!("encoding is {encoding}")), "{said}");
        assert!(said.contains("createdb --encoding=UTF8"), "it says what to do: {said}");
        let tables = "do $$ begin
            if exists (select from pg_tables where schemaname = 'public') then raise 'tables'; end if; end $$";
        sql(&url, tables).await;
    }
}
