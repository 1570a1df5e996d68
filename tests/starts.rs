//! Starts that would do harm are refused, and say why: another database, other keys, another domain. A
//! command in the wrong folder makes no node there. Every test runs on each engine that is installed.

mod commands;
mod keys;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use vellum_client::http::Method;
use vellum_test_database::shared_server;

use crate::support::{Person, TestNode, command, told, wait_for};

const URL: &str = "VELLUM_DATABASE__URL";
const IMPATIENT: [(&str, &str); 2] =
    [("VELLUM_FEDERATION__RETRY_FIRST_MS", "50"), ("VELLUM_FEDERATION__RETRY_LONGEST_MS", "500")];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    /// Those that are installed.
    fn all() -> Vec<Self> {
        let postgres = shared_server().map(|_| Self::Postgres);
        [Self::Sqlite].into_iter().chain(postgres).collect()
    }

    /// The address of a database that is not there, or is empty.
    fn nowhere(self, folder: &Path) -> String {
        match self {
            Self::Sqlite => {
                format!("sqlite://{}", folder.join(format!("{}.db", uuid::Uuid::new_v4())).display())
            }
            Self::Postgres => shared_server().unwrap().new_database(),
        }
    }
}

/// A node that was not started, on a database in its folder or of the server.
fn prepared(engine: Engine) -> TestNode {
    let mut node = TestNode::prepared(&[]);
    let url = match engine {
        Engine::Sqlite => format!("sqlite://{}", node.process.folder().join("vellum.db").display()),
        Engine::Postgres => engine.nowhere(node.process.folder()),
    };
    node.process.set(URL, &url);
    node
}

async fn started(engine: Engine) -> TestNode {
    let mut node = prepared(engine);
    node.process.start().await.unwrap();
    node
}

fn url(node: &TestNode) -> String {
    node.process.setting(URL).unwrap().to_owned()
}

/// Runs a statement on a database that no node works on.
async fn run_sql(url: &str, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    if url.starts_with("sqlite:") {
        let mut database = SqliteConnection::connect(url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut database).await.unwrap();
        database.close().await.unwrap();
    } else {
        let mut database = PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut database).await.unwrap();
        database.close().await.unwrap();
    }
}

/// How many tables there are; 0 for a file that is not there.
async fn tables(url: &str) -> i64 {
    if let Some(file) = url.strip_prefix("sqlite://") {
        if !Path::new(file).exists() {
            return 0;
        }
        let options = SqliteConnectOptions::new().filename(file);
        let mut database = SqliteConnection::connect_with(&options).await.unwrap();
        let count = "select count(*) from sqlite_schema where type = 'table'";
        let count = sqlx::query_scalar(count).fetch_one(&mut database).await.unwrap();
        database.close().await.unwrap();
        return count;
    }
    let mut database = PgConnection::connect(url).await.unwrap();
    let count = "select count(*) from pg_tables where schemaname = current_schema()";
    sqlx::query_scalar(count).fetch_one(&mut database).await.unwrap()
}

/// What the database knows of runs, keys and domain; nothing for one that is not there.
async fn facts(url: &str) -> Vec<String> {
    if tables(url).await == 0 {
        return Vec::new();
    }
    let rows =
        "select folder || ' ' || epoch from epochs union all select name || ' ' || value from node_facts
                union all select name || ' ' || value from node_state order by 1";
    if url.starts_with("sqlite:") {
        let mut database = SqliteConnection::connect(url).await.unwrap();
        let facts = sqlx::query_scalar(rows).fetch_all(&mut database).await.unwrap();
        database.close().await.unwrap();
        return facts;
    }
    let mut database = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(rows).fetch_all(&mut database).await.unwrap()
}

/// Every file below a folder, with its content; nothing for one that is not there.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.to_string_lossy();
        if name.ends_with("-wal") || name.ends_with("-shm") {
            // They are there while somebody looks.
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

/// What a stopped node says when it refuses to start, and what the doctor finds about that. Neither may
/// change anything.
async fn refusal(node: &mut TestNode, about: &str) -> String {
    let (folder, url) = (node.process.folder().to_owned(), url(node));
    let (before, tables_before, facts_before) = (files(&folder), tables(&url).await, facts(&url).await);
    let log_before = std::fs::read_to_string(node.process.log_path()).unwrap_or_default();
    assert!(node.process.start().await.is_err(), "the node must not start: {about}");
    let log = std::fs::read_to_string(node.process.log_path()).unwrap();
    let said = reason(log.strip_prefix(&log_before).unwrap());
    let doctor = doctor(node);
    let says_it = |finding: &&Value| {
        let is_in = |part: &str| said.contains(finding[part].as_str().unwrap_or("nothing"));
        finding["about"] == about && finding["severity"] == "broken" && is_in("says") && is_in("advice")
    };
    assert!(doctor.iter().any(|finding| says_it(&finding)), "about {about}, {doctor:?} differs from {said}");
    let after = files(&folder);
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after), "files were made or removed: {said}");
    // Opening a database may change how its file is kept; what is in it must not change.
    let is_other = |path: &&PathBuf| !path.ends_with("vellum.db") && before[*path] != after[*path];
    let changed: Vec<&PathBuf> = before.keys().filter(is_other).collect();
    assert!(changed.is_empty(), "files were changed: {changed:?}");
    assert_eq!(facts(&url).await, facts_before, "the database was changed: {said}");
    assert_eq!(tables(&url).await, tables_before, "tables were made: {said}");
    said
}

/// The reason that a log gives for a start that failed: in one line, and every line is JSON.
fn reason(log: &str) -> String {
    let read = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?} is no JSON"));
    let lines: Vec<Value> = log.lines().map(read).collect();
    let reasons: Vec<&Value> = lines.iter().filter(|line| line["message"] == "node not started").collect();
    assert!(reasons.len() == 1 && reasons[0]["level"] == "ERROR", "one reason is expected: {log}");
    reasons[0]["error"].as_str().unwrap().to_owned()
}

/// The doctor's findings about a node as it would be started again.
fn doctor(node: &TestNode) -> Vec<Value> {
    let listen = format!("127.0.0.1:{}", node.process.port());
    let mut command = command(node.process.folder(), &["doctor", "--json"]);
    command.env("VELLUM_HTTP__LISTEN", listen).env("VELLUM_FEDERATION__ALLOW_PRIVATE_PEERS", "true");
    for name in [URL, "VELLUM_HTTP__ORIGIN", "VELLUM_SERVER__IDENTITY_KEY"] {
        if let Some(value) = node.process.setting(name) {
            command.env(name, value);
        }
    }
    let output = command.output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(&output)))
}

fn assert_says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "expected {word:?} in {said:?}");
    }
}

async fn is_paused(node: &TestNode) -> bool {
    let listed = node.process.run(&["--json", "queue", "list"]).await.unwrap();
    serde_json::from_str::<Value>(&listed).unwrap()["paused"] == true
}

async fn server_key(node: &TestNode) -> String {
    node.client().manifest().await.unwrap().public_key.to_base64()
}

/// The names in the folder's file of the run: the folder's, and the run's.
fn run_file(node: &TestNode) -> (String, String) {
    let text = std::fs::read_to_string(node.process.folder().join("epoch")).unwrap();
    let mut lines = text.lines().map(str::to_owned);
    (lines.next().unwrap(), lines.next().unwrap())
}

/// Takes a SQLite database out of its folder, or leads the node to another database; gives the way back.
fn lose_database(
    engine: Engine,
    node: &mut TestNode,
    elsewhere: &Path,
) -> impl FnOnce(&mut TestNode) + use<> {
    let (folder, before) = (node.process.folder().to_owned(), url(node));
    if engine == Engine::Sqlite {
        std::fs::rename(folder.join("vellum.db"), elsewhere.join("kept.db")).unwrap();
    } else {
        node.process.set(URL, &engine.nowhere(elsewhere));
    }
    let kept = elsewhere.join("kept.db");
    move |node: &mut TestNode| {
        if engine == Engine::Sqlite {
            std::fs::rename(kept, folder.join("vellum.db")).unwrap();
        }
        node.process.set(URL, &before);
    }
}

/// Gets the secret of somebody's device, which from now on stands in the database, encrypted.
async fn get_wrap_secret(person: &Person) -> Value {
    let path = "/users/me/devices/device-1/wrap-secret";
    let (status, answer) = person.ask(Method::GET, path, Value::Null).await;
    assert_eq!(status, 200, "{answer}");
    answer["secret"].clone()
}

/// Somebody on the node as they are after its restart.
fn again(node: &TestNode, person: &Person) -> Person {
    let mut client = node.client();
    client.set_token(person.client.token().cloned());
    person.seen_through(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_database_is_gone_refuses_to_start_and_no_revocation_is_lost() {
    for engine in Engine::all() {
        let elsewhere = tempfile::tempdir().unwrap();
        let (mut node, away) = (started(engine).await, TestNode::start_with(&IMPATIENT).await);
        let (ann, bob) = (node.person("ann").await, away.person("bob").await);
        ann.befriend(&bob).await;
        bob.await_friends(&[&ann.handle()]).await;
        node.process.stop().await.unwrap();
        let put_back = lose_database(engine, &mut node, elsewhere.path());
        let (folder, run) = run_file(&node);
        let said = refusal(&mut node, "database").await;
        assert_says(&said, &["there is no database at", &folder, &run, "--accept-database"]);
        assert!(!said.contains("postgres@"), "no user's name or password: {said}");

        bob.client.remove_friend(&ann.handle(), Some(&bob.revocation(&ann.handle()))).await.unwrap();
        assert_eq!(bob.pending().await.len(), 1, "it waits for the node");
        put_back(&mut node);
        node.process.start().await.unwrap();
        let ann = again(&node, &ann);
        wait_for("the revocation arrives", || ann.friends(), |seen| seen.is_empty()).await;
        wait_for("it is confirmed", || bob.pending(), |seen| seen.is_empty()).await;
        assert!(!is_paused(&node).await, "{engine:?}: the same database is no restored one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_database_is_refused_unless_an_operator_insists() {
    for engine in Engine::all() {
        let elsewhere = tempfile::tempdir().unwrap();
        let (mut node, mut other) = (started(engine).await, started(engine).await);
        let key = server_key(&node).await;
        node.process.stop().await.unwrap();
        get_wrap_secret(&other.person("olga").await).await;
        other.process.stop().await.unwrap();
        let own = url(&node);
        node.process.set(URL, &url(&other));
        let said = refusal(&mut node, "database").await;
        assert_says(
            &said,
            &["is another one", &run_file(&node).1, "--accept-database", "another server key"],
        );
        let flags = ["--accept-database"];
        assert!(node.process.start_with(&flags).await.is_err(), "its keys are still others");
        assert!(refusal(&mut node, "keys").await.contains("other wrapping keys"));

        // An empty one: a new beginning with the same keys, and nothing that could be sent twice.
        node.process.set(URL, &engine.nowhere(elsewhere.path()));
        refusal(&mut node, "database").await;
        node.process.start_with(&flags).await.unwrap();
        assert_eq!((server_key(&node).await, is_paused(&node).await), (key, false), "{engine:?}");
        node.process.stop().await.unwrap();
        node.process.start().await.unwrap();
        assert!(!is_paused(&node).await, "{engine:?}: the next start needs no flag");
        node.process.stop().await.unwrap();

        // The first one again: older than what the folder knows by now.
        node.process.set(URL, &own);
        node.process.start().await.unwrap();
        assert!(is_paused(&node).await, "{engine:?}: it counts as put back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_database_that_is_in_use_delivers_nothing_until_an_operator_has_looked() {
    for engine in Engine::all() {
        // Of another folder, of two words, and no file at all: those do not know the folder.
        for file in ["a-folder\na-run\na-run\n", "a-folder\na-run\n", ""] {
            let mut node = started(engine).await;
            node.process.stop().await.unwrap();
            let epoch = node.process.folder().join("epoch");
            if file.is_empty() {
                std::fs::remove_file(&epoch).unwrap();
            } else {
                std::fs::write(&epoch, file).unwrap();
                assert_says(&refusal(&mut node, "database").await, &["a-folder", "a-run"]);
            }
            node.process.start_with(&["--accept-database"]).await.unwrap();
            assert!(is_paused(&node).await, "{engine:?}, {file:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_was_killed_before_the_database_knew_of_it_is_no_fault() {
    for engine in Engine::all() {
        let mut node = prepared(engine);
        std::fs::create_dir_all(node.process.folder()).unwrap();
        std::fs::write(node.process.folder().join("epoch"), "a-folder\na-run\n\n").unwrap();
        node.process.start().await.unwrap();
        assert!(!is_paused(&node).await, "{engine:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_domain_stands_from_the_first_published_handle_on() {
    for engine in Engine::all() {
        let mut node = started(engine).await;
        let first = node.process.domain();
        node.user("nobody").await;
        node.process.stop().await.unwrap();
        // Nobody knows it by its name yet.
        node.process.set("VELLUM_HTTP__ORIGIN", "http://node.example:8080");
        node.process.start().await.unwrap();
        node.process.stop().await.unwrap();
        node.process.set("VELLUM_HTTP__ORIGIN", "");
        node.process.start().await.unwrap();
        let ann = node.person("ann").await;
        assert_eq!(ann.handle().to_string(), format!("ann@{first}"));
        node.process.stop().await.unwrap();

        node.process.set("VELLUM_HTTP__ORIGIN", "https://node.example");
        let said = refusal(&mut node, "origin").await;
        let expected = ["node.example is another domain", &first, "http.origin", "moving-a-domain.md"];
        assert_says(&said, &expected);
        node.process.set("VELLUM_HTTP__ORIGIN", "");
        // Only the port, where no origin is set; a free one is known only when the node listens.
        for listen in ["127.0.0.1:1", "127.0.0.1:0"] {
            node.process.set("VELLUM_HTTP__LISTEN", listen);
            let serve = ["serve"];
            let refused = tokio::time::timeout(Duration::from_secs(60), node.process.run(&serve)).await;
            let said = refused.expect("it must not run").unwrap_err().to_string();
            assert_says(&said, &["is another domain", &first, "the port in http.listen"]);
        }
        // The same domain by another way is the same, and white space is none of it.
        node.process.set("VELLUM_HTTP__ORIGIN", &format!(" https://{}\n", first.to_uppercase()));
        node.process.start().await.unwrap();
        assert_eq!(again(&node, &ann).friends().await, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_an_earlier_version_says_itself_which_domain_it_has() {
    for engine in Engine::all() {
        let (mut node, away) = (started(engine).await, TestNode::start_with(&IMPATIENT).await);
        let (ann, bob) = (node.person("ann").await, away.person("bob").await);
        ann.befriend(&bob).await;
        bob.await_friends(&[&ann.handle()]).await;
        let domain = node.process.domain();
        node.process.stop().await.unwrap();
        run_sql(&url(&node), "delete from node_facts").await;
        // As when serve is run by hand, without the service's settings.
        node.process.set("VELLUM_HTTP__ORIGIN", "https://node.example");
        let said = refusal(&mut node, "origin").await;
        assert_says(&said, &["node.example is another domain", &domain, "moving-a-domain.md"]);
        node.process.set("VELLUM_HTTP__ORIGIN", "");
        node.process.start().await.unwrap();
        node.process.stop().await.unwrap();

        // A wrong one was stated: what docs/operations/moving-a-domain.md says.
        run_sql(&url(&node), "update node_facts set value = 'node.example' where name = 'domain'").await;
        assert_says(&refusal(&mut node, "origin").await, &["is another domain than node.example"]);
        run_sql(&url(&node), "delete from node_facts where name = 'domain'").await;
        node.process.start().await.unwrap();
        assert_eq!(again(&node, &ann).friends().await, [bob.handle()], "{engine:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_faults_are_told_at_once() {
    for engine in Engine::all() {
        let mut node = started(engine).await;
        node.person("ann").await;
        node.process.stop().await.unwrap();
        std::fs::write(node.process.folder().join("epoch"), "a-folder\na-run\na-run\n").unwrap();
        std::fs::remove_file(node.process.folder().join("wrap.keys")).unwrap();
        node.process.set("VELLUM_HTTP__ORIGIN", "https://node.example");
        for about in ["database", "keys", "origin"] {
            let said = refusal(&mut node, about).await;
            assert_says(&said, &["a-run", "wrap.keys is missing", "is another domain"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newline_at_the_end_of_a_setting_or_a_key_is_no_part_of_it() {
    for engine in Engine::all() {
        let mut node = started(engine).await;
        let ann = node.person("ann").await;
        let key = server_key(&node).await;
        node.process.stop().await.unwrap();
        let (own, folder) = (url(&node), node.process.folder().to_owned());
        let seed = std::fs::read_to_string(folder.join("server.key")).unwrap();
        let ring = std::fs::read_to_string(folder.join("wrap.keys")).unwrap();
        node.process.set(URL, &format!("{own}\n"));
        node.process.set("VELLUM_DATA_DIR", &format!("{}\n", folder.display()));
        for name in ["server.key", "wrap.keys"] {
            let text = std::fs::read_to_string(folder.join(name)).unwrap();
            std::fs::write(folder.join(name), format!("\n{text}\r\n")).unwrap();
        }
        let as_setting = [
            ("VELLUM_SERVER__IDENTITY_KEY", format!("{}\n", seed.trim())),
            ("VELLUM_SERVER__WRAPPING_KEYS", format!("{}\n", ring.trim())),
        ];
        for settings in [&[][..], &as_setting] {
            settings.iter().for_each(|(name, value)| node.process.set(name, value));
            node.process.start().await.unwrap();
            assert_eq!(server_key(&node).await, key, "{engine:?}");
            assert_eq!(again(&node, &ann).friends().await, []);
            assert!(!is_paused(&node).await, "{engine:?}");
            node.process.stop().await.unwrap();
        }
    }
}
