//! From one database to another, and back from a backup.

mod every_table;

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use vellum_client::http::Method;
use vellum_test_database::{Engine, engine, shared_server};

use crate::support::{Peer, TestNode, command, told, wait_for};

fn vellum(data: &Path, arguments: &[&str]) -> Output {
    command(data, arguments).output().unwrap()
}

/// Table, rows and digest of each table, as `db copy --json` tells them.
fn copied(output: &Output) -> Value {
    assert!(output.status.success(), "{}", told(output));
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["tables"].clone()
}

/// A SQLite database with so many rows more than a new one has.
async fn with_rows(folder: &Path, rows: usize) -> String {
    let url = format!("sqlite://{}", folder.join("from.db").display());
    let made = vellum(
        folder,
        &[
            "user",
            "create",
            "--init",
            "--email",
            "ann@people.example",
            "--first-name",
            "A",
            "--last-name",
            "B",
        ],
    );
    assert!(made.status.success(), "{}", told(&made));
    std::fs::rename(folder.join("vellum.db"), folder.join("from.db")).unwrap();
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    // Texts beyond ASCII, bytes, and values that are not there: whatever the engines keep differently.
    for query in [
        format!(
            "with recursive n(n) as (select 1 union all select n + 1 from n where n < {rows})
             insert into audit (id, user_id, at, event, session_id, ip)
             select printf('a%012d', n), (select id from users), n, 'Grüße 🦀 ' || n,
                 case when n % 3 = 0 then null else 's' || n end, null from n"
        ),
        "insert into one_time_codes (email_folded, code_hash, tries_left, created_at, expires_at)
         values ('ö@people.example', x'00ff10', 3, -1, 9223372036854775807)"
            .to_owned(),
    ] {
        sqlx::query(AssertSqlSafe(query)).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
    url
}

/// How many rows of the large table have arrived in a target; none while that cannot be read.
async fn arrived(url: &str) -> usize {
    let count = "select count(*) from audit";
    let counted: Result<(i64,), sqlx::Error> = if url.starts_with("sqlite:") {
        let Ok(mut target) = SqliteConnection::connect(url).await else { return 0 };
        sqlx::query_as(count).fetch_one(&mut target).await
    } else {
        let Ok(mut target) = PgConnection::connect(url).await else { return 0 };
        sqlx::query_as(count).fetch_one(&mut target).await
    };
    counted.map_or(0, |(count,)| usize::try_from(count).unwrap())
}

/// Copies, and is killed when a quarter, a half and three quarters of the rows are there; then goes on to the end.
async fn copy_with_kills(folder: &Path, from: &str, to: &str, rows: usize) -> Value {
    let copy = ["--json", "db", "copy", "--from", from, "--to", to];
    for quarter in 1..4 {
        let mut child = command(folder, &copy).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while arrived(to).await < rows * quarter / 4 {
            assert_eq!(child.try_wait().unwrap(), None, "the copy ended before {quarter} quarters were seen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let arrived = arrived(to).await;
        assert!(arrived < rows, "it was to be killed before all {rows} rows had arrived: {arrived} have");
    }
    copied(&vellum(folder, &copy))
}

async fn there_and_back(rows: usize) {
    let Some(server) = shared_server() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (from, middle) = (with_rows(folder, rows).await, server.new_database());
    let back = format!("sqlite://{}", folder.join("back.db").display());
    let source = Sha256::digest(std::fs::read(folder.join("from.db")).unwrap());

    let first = copy_with_kills(folder, &from, &middle, rows).await;
    let audit = first.as_array().unwrap().iter().find(|table| table["table"] == "audit").unwrap();
    assert_eq!(audit["rows"], json!(rows));
    let second = copy_with_kills(folder, &middle, &back, rows).await;
    assert_eq!(first, second, "equal digests there and back");
    assert_eq!(
        Sha256::digest(std::fs::read(folder.join("from.db")).unwrap()),
        source,
        "nothing is changed at the source"
    );
    let again = vellum(folder, &["db", "copy", "--from", &from, "--to", &middle]);
    assert!(!again.status.success() && told(&again).contains("not empty"), "{}", told(&again));
}

#[tokio::test(flavor = "multi_thread")]
async fn long_blobs_are_copied_in_pages_of_few() {
    let Some(server) = shared_server() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (from, middle) = (with_rows(folder, 10).await, server.new_database());
    let mut connection = SqliteConnection::connect(&from).await.unwrap();
    for (blobs, bytes) in [(90, 500_000), (2, 12_000_000)] {
        let query = format!(
            "with recursive n(n) as (select 1 union all select n + 1 from n where n < {blobs})
             insert into blobs (user_id, blob_type, encrypted_blob, nonce, km_version, revision, updated_at)
             select (select id from users), 'b{bytes}-' || n, hex(randomblob({bytes})), '', 1, 1, n from n"
        );
        sqlx::query(AssertSqlSafe(query)).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
    let back = format!("sqlite://{}", folder.join("back.db").display());
    let first = copied(&vellum(folder, &["--json", "db", "copy", "--from", &from, "--to", &middle]));
    let second = copied(&vellum(folder, &["--json", "db", "copy", "--from", &middle, "--to", &back]));
    assert_eq!(first, second);
    let blobs = first.as_array().unwrap().iter().find(|table| table["table"] == "blobs").unwrap();
    assert_eq!(blobs["rows"], json!(92));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_to_postgresql_and_back_is_equal_however_often_it_was_killed() {
    there_and_back(60_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes five minutes (docs/testing.md); the same with sixty thousand rows runs always"]
async fn a_million_rows_go_to_postgresql_and_back() {
    there_and_back(1_000_000).await;
}

#[tokio::test]
async fn no_node_works_on_half_a_copy_nor_beside_one() {
    let Some(server) = shared_server() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (from, to) = (with_rows(folder, 200_000).await, server.new_database());
    let copy = ["db", "copy", "--from", &from, "--to", &to];
    let mut child = command(folder, &copy).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let started =
        || told(&command(folder, &["user", "list"]).env("VELLUM_DATABASE__URL", &to).output().unwrap());
    wait_for("the copy has begun", || async { started() }, |seen| seen.contains("not finished")).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(started().contains("not finished"), "{}", started());

    let node = TestNode::prepared(&[("VELLUM_DATABASE__URL", &server.new_database())]);
    let mut node = node;
    node.process.start().await.unwrap();
    let busy = node.process.setting("VELLUM_DATABASE__URL").unwrap();
    let refused = vellum(folder, &["db", "copy", "--from", &from, "--to", busy]);
    assert!(told(&refused).contains("a node is at work"), "{}", told(&refused));
}

/// Begins a copy and kills it before it has ended.
async fn leave_unfinished(folder: &Path, from: &str, to: &str, rows: usize) {
    let copy = ["db", "copy", "--from", from, "--to", to];
    let mut child = command(folder, &copy).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while arrived(to).await == 0 {
        assert_eq!(child.try_wait().unwrap(), None, "the copy ended before any row was seen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let arrived = arrived(to).await;
    assert!(arrived < rows, "it was to be killed before all {rows} rows had arrived: {arrived} have");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_copy_is_continued_from_its_own_source_only() {
    const ROWS: usize = 60_000;
    let Some(server) = shared_server() else { return };
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (file, other_file) = (with_rows(one.path(), ROWS).await, with_rows(other.path(), 5).await);
    let (database, other_database) = (server.new_database(), server.new_database());
    copied(&vellum(other.path(), &["--json", "db", "copy", "--from", &other_file, "--to", &other_database]));
    let folder = one.path();
    let back = format!("sqlite://{}", folder.join("back.db").display());
    for (own, to, strangers) in [
        (&file, &database, [&other_file, &other_database]),
        (&database, &back, [&other_database, &other_file]),
    ] {
        leave_unfinished(folder, own, to, ROWS).await;
        let before = arrived(to).await;
        for stranger in strangers {
            let refused = vellum(folder, &["db", "copy", "--from", stranger, "--to", to]);
            assert!(
                !refused.status.success() && told(&refused).contains("an unfinished copy from elsewhere"),
                "a copy from {stranger} onto half a copy from {own} must be refused: {}",
                told(&refused)
            );
            assert_eq!(arrived(to).await, before, "rows in the target, which was not to be touched");
        }
        copied(&vellum(folder, &["--json", "db", "copy", "--from", own, "--to", to]));
        assert_eq!(arrived(to).await, ROWS, "rows in the target after its own copy has ended");
    }
}

/// A copy that is suspended in its middle.
struct Suspended(std::process::Child);

impl Suspended {
    async fn begin(folder: &Path, from: &str, to: &str) -> Self {
        let copy = ["--json", "db", "copy", "--from", from, "--to", to];
        let child = command(folder, &copy).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut suspended = Self(child);
        while arrived(to).await == 0 {
            assert_eq!(suspended.0.try_wait().unwrap(), None, "the copy ended before any row was seen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        suspended.signal("-STOP");
        suspended
    }

    fn signal(&self, name: &str) {
        let sent =
            std::process::Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success(), "kill {name} failed: {sent}");
    }

    /// Has it go on to its end.
    fn finish(self) -> Output {
        self.signal("-CONT");
        self.0.wait_with_output().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_copies_do_not_go_to_one_target_at_once() {
    const ROWS: usize = 60_000;
    let Some(server) = shared_server() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // A SQLite file keeps others out by itself.
    let (file, from, to) = (with_rows(folder, ROWS).await, server.new_database(), server.new_database());
    copied(&vellum(folder, &["--json", "db", "copy", "--from", &file, "--to", &from]));
    let first = Suspended::begin(folder, &from, &to).await;
    let second = vellum(folder, &["db", "copy", "--from", &from, "--to", &to]);
    assert!(!second.status.success() && told(&second).contains("another copy"), "{}", told(&second));
    copied(&first.finish());
    assert_eq!(arrived(&to).await, ROWS, "rows in the target");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_a_node_works_on_before_or_during_a_copy_makes_no_finished_copy() {
    const ROWS: usize = 60_000;
    let Some(server) = shared_server() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (file, source) = (with_rows(folder, ROWS).await, server.new_database());
    copied(&vellum(folder, &["--json", "db", "copy", "--from", &file, "--to", &source]));
    let to = |name: &str| format!("sqlite://{}", folder.join(name).display());
    let copy = Suspended::begin(folder, &source, &to("during.db")).await;
    let mut node = TestNode::prepared(&[("VELLUM_DATABASE__URL", &source)]);
    node.process.start().await.unwrap();
    let during = copy.finish();
    let before = vellum(folder, &["db", "copy", "--from", &source, "--to", &to("before.db")]);
    for refused in [&during, &before] {
        let told = told(refused);
        assert!(!refused.status.success() && told.contains("a node is at work"), "{told}");
    }
    let unfinished = command(folder, &["user", "list"]).env("VELLUM_DATABASE__URL", to("during.db")).output();
    let told = told(&unfinished.unwrap());
    assert!(told.contains("not finished"), "what was copied is not whole: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_differs_in_the_end_or_is_not_empty_is_refused() {
    const ROWS: usize = 60_000;
    let Some(server) = shared_server() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (from, to) = (with_rows(folder, ROWS).await, server.new_database());
    leave_unfinished(folder, &from, &to, ROWS).await;
    let mut target = PgConnection::connect(&to).await.unwrap();
    let change = "update audit set event = 'another' where id = (select min(id) from audit)";
    sqlx::query(change).execute(&mut target).await.unwrap();
    let refused = vellum(folder, &["db", "copy", "--from", &from, "--to", &to]);
    assert!(
        !refused.status.success() && told(&refused).contains("the table audit differs"),
        "a row was changed: {}",
        told(&refused)
    );

    // Not only accounts count.
    let used = server.new_database();
    let migrated = command(folder, &["db", "migrate"]).env("VELLUM_DATABASE__URL", &used).output().unwrap();
    assert!(migrated.status.success(), "{}", told(&migrated));
    let mut target = PgConnection::connect(&used).await.unwrap();
    sqlx::query("insert into wrong_codes values ('a', '', 0, 1)").execute(&mut target).await.unwrap();
    let refused = vellum(folder, &["db", "copy", "--from", &from, "--to", &used]);
    assert!(
        !refused.status.success() && told(&refused).contains("there are rows in wrong_codes"),
        "{}",
        told(&refused)
    );
}

#[tokio::test]
async fn a_source_of_another_version_is_not_copied() {
    let Some(server) = shared_server() else { return };
    for change in [
        "delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)",
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (9999, 'of tomorrow', 1, x'00', 0)",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let from = with_rows(folder, 3).await;
        let mut source = SqliteConnection::connect(&from).await.unwrap();
        sqlx::query(change).execute(&mut source).await.unwrap();
        source.close().await.unwrap();
        let refused = vellum(folder, &["db", "copy", "--from", &from, "--to", &server.new_database()]);
        assert!(
            !refused.status.success() && told(&refused).contains("does not have this version's schema"),
            "after {change}: {}",
            told(&refused)
        );
    }
}

#[tokio::test]
async fn the_history_of_the_schema_is_told_and_a_newer_one_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let status = |word: &str| told(&vellum(folder, &["db", word]));
    assert!(status("status").contains("to be done") && !folder.join("vellum.db").exists());
    let done = status("migrate");
    assert!(done.contains("done") && !done.contains("to be done"), "{done}");
    let url = format!("sqlite://{}", folder.join("vellum.db").display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
                 values (9999, 'of tomorrow', 1, x'00', 0)";
    sqlx::query(newer).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    assert!(status("status").contains("newer version"));
    let refused = vellum(folder, &["serve"]);
    assert!(!refused.status.success() && told(&refused).contains("schema"), "{}", told(&refused));
}

#[test]
fn on_a_server_the_schema_is_made_when_asked_for_and_not_by_looking() {
    let Some(server) = shared_server() else { return };
    let (folder, address) = (tempfile::tempdir().unwrap(), server.new_database());
    let db = |word: &str| {
        let mut command = command(folder.path(), &["db", word]);
        told(&command.env("VELLUM_DATABASE__URL", &address).output().unwrap())
    };
    assert!(db("status").contains("to be done"));
    assert!(db("status").contains("to be done"), "the look has changed nothing");
    let done = db("migrate");
    assert!(
        done.contains("between_nodes") || done.contains("between nodes"),
        "what is PostgreSQL's alone: {done}"
    );
    for told in [done, db("status"), db("migrate")] {
        assert!(told.contains("done") && !told.contains("to be done"), "{told}");
    }
}

#[tokio::test]
async fn a_null_character_that_an_earlier_version_has_let_in_is_left_behind() {
    let Some(server) = shared_server() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (from, to) = (with_rows(folder, 3).await, server.new_database());
    let mut connection = SqliteConnection::connect(&from).await.unwrap();
    let spoil = "update audit set event = 'a' || char(0) || 'b' where id = (select min(id) from audit)";
    sqlx::query(spoil).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    copied(&vellum(folder, &["--json", "db", "copy", "--from", &from, "--to", &to]));
    let mut target = PgConnection::connect(&to).await.unwrap();
    let (event,): (String,) =
        sqlx::query_as("select event from audit order by id limit 1").fetch_one(&mut target).await.unwrap();
    assert_eq!(event, "ab");
}

/// Leaves only what a backup does not hold: the folder with its keys.
fn lose_the_database(node: &mut TestNode, folder: &Path) {
    if engine() == Engine::Postgres {
        node.process.set("VELLUM_DATABASE__URL", &vellum_test_database::address(folder));
        return;
    }
    for name in ["vellum.db", "vellum.db-wal", "vellum.db-shm"] {
        // The log is gone after a clean stop.
        let _ = std::fs::remove_file(folder.join(name));
    }
}

/// Changes the case of one character in a copy of a backup.
async fn one_changed_character_is_found(node: &TestNode, file: &str) {
    let changed = format!("{file}.changed");
    std::fs::copy(file, &changed).unwrap();
    let mut database = SqliteConnection::connect(&format!("sqlite://{changed}")).await.unwrap();
    let change = "update users set email = 'A' || substr(email, 2) where email like 'ann@%'";
    assert_eq!(sqlx::query(change).execute(&mut database).await.unwrap().rows_affected(), 1);
    database.close().await.unwrap();
    let refused = node.process.run(&["backup", "verify", &changed]).await.unwrap_err().to_string();
    assert!(refused.contains("the table users differs"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_put_back_from_a_backup_sends_nothing_blindly_and_shows_nobody_older_keys() {
    let (mut node, peer) = (TestNode::start().await, Peer::start().await);
    let mut ann = node.person("ann").await;
    let bob = peer.user("bob");
    peer.invite(&bob, &ann.handle()).await;
    ann.accept(&bob.handle).await;
    let folder = node.process.folder().to_owned();
    let file = folder.join("backup.db");
    let file = file.to_str().unwrap();
    let made = node.process.run(&["backup", "create", file]).await.unwrap();
    assert!(made.contains("2 users"), "{made}");
    assert!(node.process.run(&["backup", "create", file]).await.unwrap_err().to_string().contains("already"));
    assert!(node.process.run(&["backup", "verify", file]).await.unwrap().contains("is whole"));
    one_changed_character_is_found(&node, file).await;
    assert!(node.process.run(&["backup", "restore", file]).await.is_err(), "something is there");

    // Later than the backup: new keys.
    let sealed = json!({ "encryptedBlob": "sealed" });
    ann.ask(Method::PUT, "/me/blobs/t", sealed).await;
    let seed = vellum_client::MasterSeed::generate(&mut rand::rng());
    let commit = json!({
        "expectedCurrent": 1, "signingKey": seed.signing_secret().public(), "encryptionKey": seed.encryption_key(),
        "blobs": [{ "blobType": "t", "encryptedBlob": "sealed anew" }], "collections": [], "slots": [],
    });
    ann.ask_for(200, Method::POST, "/users/me/km-version/commit", commit.clone()).await;
    node.process.stop().await.unwrap();
    node.process.start().await.unwrap();
    let queue = node.process.run(&["--json", "queue", "list"]).await.unwrap();
    node.process.stop().await.unwrap();

    lose_the_database(&mut node, &folder);
    node.process.run(&["backup", "restore", file]).await.unwrap();
    node.process.start().await.unwrap();
    let log = std::fs::read_to_string(node.process.log_path()).unwrap();
    assert!(log.contains("put back from a backup"), "the operator is told");
    assert!(queue.contains("\"paused\":false"), "{queue}");
    let queue = node.process.run(&["--json", "queue", "list"]).await.unwrap();
    assert!(queue.contains("\"paused\":true"), "nothing is sent blindly: {queue}");

    ann.client = node.client();
    ann.client.set_token(Some(node.token("ann@people.example").await));
    let known = |version: &'static str| {
        let request = crate::support::plain_http()
            .get(format!("{}/users/me/identity", node.process.origin()))
            .bearer_auth(ann.client.token().unwrap().expose())
            .header("x-known-km-version", version);
        async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
        }
    };
    let (status, problem) = known("2").await;
    assert_eq!(
        (status, &problem["code"], &problem["currentKmVersion"]),
        (409, &json!("server_rolled_back"), &json!(1))
    );
    assert_eq!(known("1").await.0, 200);
    let mut next = commit;
    next["expectedCurrent"] = json!(2);
    let (status, problem) = ann.ask(Method::POST, "/users/me/km-version/commit", next).await;
    assert_eq!((status, &problem["code"]), (409, &json!("server_rolled_back")), "{problem}");
    let blob = json!({ "encryptedBlob": "x", "kmVersion": 2 });
    assert_eq!(ann.ask(Method::PUT, "/me/blobs/t", blob).await.1["code"], "server_rolled_back");

    // Removing a friend makes a message; it waits for the operator.
    ann.client.reset_identity().await.unwrap();
    ann.new_keys().await;
    let flushed = ann.flush(std::slice::from_ref(&bob.handle)).await.remove(0);
    assert!(!flushed.delivered, "{flushed:?}");
    node.process.run(&["queue", "resume"]).await.unwrap();
    wait_for("it is delivered", || ann.pending(), |seen| seen.is_empty()).await;
}

#[tokio::test]
async fn a_clean_restart_and_a_crash_are_no_restored_backup() {
    let mut node = TestNode::start().await;
    node.process.stop().await.unwrap();
    node.process.start().await.unwrap();
    node.process.kill().await.unwrap();
    node.process.start().await.unwrap();
    let log = std::fs::read_to_string(node.process.log_path()).unwrap();
    assert!(!log.contains("put back from a backup"), "{log}");
}
