//! Starts that would do harm are refused, and say why: another database, other keys, another domain. A
//! command in the wrong folder makes no node there. Every test runs on each engine that is installed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use vellum_client::http::Method;
use vellum_test_database::shared_server;

use crate::support::{Person, TestNode, eventually};

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
    let said = log.strip_prefix(&log_before).unwrap().to_owned();
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

fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vellum"));
    command.args(arguments).env("VELLUM_DATA_DIR", data).stdin(Stdio::null());
    command
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
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
        eventually("the revocation arrives", || async { ann.friends().await.is_empty().then_some(()) }).await;
        eventually("it is confirmed", || async { bob.pending().await.is_empty().then_some(()) }).await;
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
async fn a_missing_key_beside_a_used_database_is_refused_and_not_made_anew() {
    for engine in Engine::all() {
        let mut node = started(engine).await;
        let key = server_key(&node).await;
        node.process.stop().await.unwrap();
        let of_key = ["server.key", "wrap.keys"].map(|name| node.process.folder().join(name));
        let kept = of_key.each_ref().map(|path| std::fs::read(path).unwrap());
        let shown = of_key.each_ref().map(|path| path.to_str().unwrap().to_owned());
        // Also on a database of an earlier version, which has stated no keys.
        for facts in ["select 1", "delete from node_facts"] {
            run_sql(&url(&node), facts).await;
            for missing in [vec![0], vec![1], vec![0, 1]] {
                missing.iter().for_each(|n| std::fs::remove_file(&of_key[*n]).unwrap());
                let said = refusal(&mut node, "keys").await;
                assert_says(&said, &["is missing", "--new-identity", "docs/operations/keys.md"]);
                for (n, path) in shown.iter().enumerate() {
                    assert_eq!(said.contains(path), missing.contains(&n), "{engine:?}, {path}: {said}");
                }
                missing.iter().for_each(|n| std::fs::write(&of_key[*n], &kept[*n]).unwrap());
            }
        }
        node.process.start().await.unwrap();
        assert_eq!(server_key(&node).await, key, "{engine:?}: and with them it starts");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_keys_are_refused_until_an_operator_insists_and_then_they_are_the_nodes() {
    for engine in Engine::all() {
        let mut node = started(engine).await;
        let ann = node.person("ann").await;
        let path = "/users/me/devices/device-1/wrap-secret";
        assert_eq!(ann.ask(Method::GET, path, Value::Null).await.0, 200);
        let before = server_key(&node).await;
        node.process.stop().await.unwrap();
        // The keys of an earlier version's node are those that its first start of this version finds.
        run_sql(&url(&node), "delete from node_facts").await;
        node.process.start().await.unwrap();
        assert!(!is_paused(&node).await);
        node.process.stop().await.unwrap();

        let folder = node.process.folder().to_owned();
        let kept = std::fs::read(folder.join("server.key")).unwrap();
        std::fs::write(folder.join("server.key"), "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=\n").unwrap();
        assert_says(&refusal(&mut node, "keys").await, &["another server key", &before, "--new-identity"]);
        std::fs::write(folder.join("server.key"), &kept).unwrap();
        node.process.set("VELLUM_SERVER__IDENTITY_KEY", "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=\n");
        assert_says(&refusal(&mut node, "keys").await, &["server.identity_key", "another server key"]);
        node.process.set("VELLUM_SERVER__IDENTITY_KEY", "");
        let wrapping = std::fs::read(folder.join("wrap.keys")).unwrap();
        std::fs::write(folder.join("wrap.keys"), "mine BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=")
            .unwrap();
        assert_says(&refusal(&mut node, "keys").await, &["other wrapping keys"]);
        std::fs::write(folder.join("wrap.keys"), wrapping).unwrap();

        // The key is lost: a new one is made, and is the node's from now on.
        std::fs::remove_file(folder.join("server.key")).unwrap();
        node.process.start_with(&["--new-identity"]).await.unwrap();
        let new = server_key(&node).await;
        assert_ne!(new, before, "{engine:?}");
        assert_eq!(
            again(&node, &ann).ask(Method::GET, path, Value::Null).await.0,
            200,
            "nothing else is lost"
        );
        for _ in 0..2 {
            node.process.stop().await.unwrap();
            node.process.start().await.unwrap();
            assert_eq!(server_key(&node).await, new, "{engine:?}");
        }
        node.process.stop().await.unwrap();
        std::fs::write(folder.join("server.key"), &kept).unwrap();
        assert_says(&refusal(&mut node, "keys").await, &["another server key", &new]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_wrapping_keys_are_made_anew_when_an_operator_insists_and_devices_get_new_secrets() {
    for engine in Engine::all() {
        let mut node = started(engine).await;
        let ann = node.person("ann").await;
        let path = "/users/me/devices/device-1/wrap-secret";
        let (_, secret) = ann.ask(Method::GET, path, Value::Null).await;
        node.process.stop().await.unwrap();
        std::fs::remove_file(node.process.folder().join("wrap.keys")).unwrap();
        node.process.start_with(&["--new-identity"]).await.unwrap();
        let ann = again(&node, &ann);
        assert_eq!(ann.ask(Method::GET, path, Value::Null).await.0, 500, "what docs/operations/keys.md says");
        let renew = "/users/me/device-wrap-secrets/rotate";
        let (status, answer) = ann.ask(Method::POST, renew, Value::Null).await;
        assert!((200..300).contains(&status), "{status}: {answer}");
        let (status, renewed) = ann.ask(Method::GET, path, Value::Null).await;
        assert_eq!(status, 200, "{renewed}");
        assert_ne!(renewed["secret"], secret["secret"], "{engine:?}");
        node.process.stop().await.unwrap();
        node.process.start().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_wrapping_key_may_be_removed_once_nothing_is_encrypted_with_it() {
    for engine in Engine::all() {
        let mut node = started(engine).await;
        let ann = node.person("ann").await;
        let path = "/users/me/devices/device-1/wrap-secret";
        let (_, secret) = ann.ask(Method::GET, path, Value::Null).await;
        node.process.run(&["secrets", "rotate"]).await.unwrap();
        node.process.stop().await.unwrap();
        let file = node.process.folder().join("wrap.keys");
        let ring = std::fs::read_to_string(&file).unwrap();
        let (newest, oldest) = ring.trim().split_once('\n').unwrap();
        std::fs::write(&file, oldest).unwrap();
        assert_says(&refusal(&mut node, "keys").await, &[newest.split(' ').next().unwrap()]);
        for _ in 0..2 {
            std::fs::write(&file, newest).unwrap();
            node.process.start().await.unwrap();
            let (_, opened) = again(&node, &ann).ask(Method::GET, path, Value::Null).await;
            assert_eq!(opened["secret"], secret["secret"], "{engine:?}");
            node.process.stop().await.unwrap();
        }
        // Without the file nothing is renewed, and above all none is made.
        std::fs::remove_file(&file).unwrap();
        let told = node.process.run(&["secrets", "rotate"]).await.unwrap_err().to_string();
        assert_says(&told, &[file.to_str().unwrap(), "is missing"]);
        assert!(!file.exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_folder_on_a_used_server_is_a_new_node_if_it_has_the_keys() {
    let Some(server) = shared_server() else { return };
    let mut first = TestNode::prepared(&[(URL, &server.new_database())]);
    first.process.set("VELLUM_HTTP__ORIGIN", "http://localhost:4999");
    first.process.start().await.unwrap();
    let settings = [(URL, &*url(&first)), ("VELLUM_HTTP__ORIGIN", "http://localhost:4999")];
    let mut second = TestNode::prepared(&settings);
    let said = second.process.run(&["serve"]).await.unwrap_err().to_string();
    assert_says(&said, &["server.key is missing", "wrap.keys is missing", "another node"]);
    let insisted = second.process.run(&["serve", "--new-identity"]).await.unwrap_err().to_string();
    assert_says(&insisted, &["other nodes are at work"]);
    assert!(!second.process.folder().exists(), "no key was made, and no folder");
    std::fs::create_dir_all(second.process.folder()).unwrap();
    for name in ["server.key", "wrap.keys"] {
        std::fs::copy(first.process.folder().join(name), second.process.folder().join(name)).unwrap();
    }
    second.process.start().await.unwrap();
    assert!(!is_paused(&second).await, "a new node is no restored database");
    assert_eq!(server_key(&second).await, server_key(&first).await);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_command_in_the_wrong_folder_says_that_no_node_is_there_and_makes_none() {
    let commands: [&[&str]; 17] = [
        &["user", "list"],
        &["user", "session", "--email", "ann@people.example"],
        &["user", "create", "--email", "a@b.example", "--first-name", "A", "--last-name", "B"],
        &["queue", "list"],
        &["queue", "show", "x"],
        &["queue", "retry"],
        &["queue", "pause"],
        &["queue", "resume"],
        &["queue", "drop", "x"],
        &["queue", "watch"],
        &["peer", "list"],
        &["peer", "block", "node.example"],
        &["peer", "repin", "node.example", "--key", "x"],
        &["secrets", "rotate"],
        &["backup", "create", "backup.db"],
        &["db", "status"],
        &["doctor"],
    ];
    for engine in Engine::all() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("data");
        let address = match engine {
            // Left out, it is in the data folder.
            Engine::Sqlite => String::new(),
            Engine::Postgres => engine.nowhere(parent.path()),
        };
        let place = match engine {
            Engine::Sqlite => data.join("vellum.db").display().to_string(),
            Engine::Postgres => address.replace("postgres@", ""),
        };
        for words in commands {
            if engine == Engine::Postgres && words[0] == "backup" {
                // There, backups are the server's business.
                continue;
            }
            for json in [false, true] {
                let mut command = command(&data, words);
                command.env(URL, &address).current_dir(parent.path());
                command.args(json.then_some("--json"));
                let output = command.output().unwrap();
                let said = told(&output);
                assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
                assert_says(&said, &[&format!("no node at {place}")]);
            }
        }
        let source = format!("sqlite://{}", data.join("vellum.db").display());
        let target = format!("sqlite://{}", parent.path().join("to.db").display());
        let copied = command(&data, &["db", "copy", "--from", &source, "--to", &target]).output().unwrap();
        assert_eq!(copied.status.code(), Some(1));
        assert_says(&told(&copied), &["no node at", "vellum.db"]);
        assert_eq!(files(parent.path()).len(), 0, "{:?}", files(parent.path()).keys());
        assert!(!data.exists(), "{engine:?}: no folder either");
        if engine == Engine::Postgres {
            assert_eq!(tables(&address).await, 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_make_a_database_make_one_that_the_node_starts_on() {
    let init: &[&str] =
        &["user", "create", "--init", "--email", "a@b.example", "--first-name", "A", "--last-name", "B"];
    for engine in Engine::all() {
        for words in [init, &["db", "migrate"]] {
            let mut node = prepared(engine);
            node.process.run(words).await.unwrap();
            assert!(tables(&url(&node)).await > 0, "{words:?}");
            node.process.start().await.unwrap();
            let users = node.process.run(&["user", "list"]).await.unwrap();
            assert_eq!(users.contains("a@b.example"), words == init, "{users}");
            assert!(!is_paused(&node).await, "{engine:?}, {words:?}");
            node.process.stop().await.unwrap();
            // Nor do they make one beside a folder whose database is lost.
            let elsewhere = tempfile::tempdir().unwrap();
            let put_back = lose_database(engine, &mut node, elsewhere.path());
            let before = files(node.process.folder());
            let said = node.process.run(words).await.unwrap_err().to_string();
            assert_says(&said, &["there is no database at", &run_file(&node).1]);
            assert_eq!(files(node.process.folder()), before, "{engine:?}, {words:?}");
            assert_eq!(tables(&url(&node)).await, 0, "{engine:?}, {words:?}");
            put_back(&mut node);
            node.process.start().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_says_that_it_has_no_keys_and_a_restore_takes_them_or_says_what_is_missing() {
    let mut node = started(Engine::Sqlite).await;
    node.person("ann").await;
    let key = server_key(&node).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let backup = elsewhere.path().join("backup.db");
    let backup = backup.to_str().unwrap();
    let made = node.process.run(&["--json", "backup", "create", backup]).await.unwrap();
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made["notIncluded"], json!(["server.key", "wrap.keys"]), "{made}");
    std::fs::remove_file(backup).unwrap();
    let made = node.process.run(&["backup", "create", backup]).await.unwrap();
    assert_says(&made, &["keys are not in it", "server.key", "wrap.keys"]);
    node.process.stop().await.unwrap();
    let keys = node.process.folder().to_owned();
    let origin = node.process.origin();
    let empty = || {
        let mut node = TestNode::prepared(&[("VELLUM_HTTP__ORIGIN", &origin)]);
        node.process.set(URL, &format!("sqlite://{}", node.process.folder().join("vellum.db").display()));
        node
    };

    // Without the keys it says what is missing, and the node does not start.
    let mut without = empty();
    let told = without.process.run(&["backup", "restore", backup]).await.unwrap();
    assert_says(&told, &["DOES NOT START", "server.key is missing", "wrap.keys is missing"]);
    assert_says(&refusal(&mut without, "keys").await, &["server.key is missing", "wrap.keys is missing"]);
    let mut in_words = empty();
    let told = in_words.process.run(&["--json", "backup", "restore", backup]).await.unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["startRefused"].as_array().unwrap().len(), 2, "{told}");
    for name in ["server.key", "wrap.keys"] {
        std::fs::copy(keys.join(name), in_words.process.folder().join(name)).unwrap();
    }
    in_words.process.start().await.unwrap();
    assert_eq!((server_key(&in_words).await, is_paused(&in_words).await), (key.clone(), true));

    // With them.
    let mut with = empty();
    let restore = ["backup", "restore", backup, "--keys", keys.to_str().unwrap()];
    let told = with.process.run(&restore).await.unwrap();
    assert!(!told.contains("missing"), "{told}");
    with.process.start().await.unwrap();
    assert_eq!((server_key(&with).await, is_paused(&with).await), (key, true));

    // With those of another node, and from a folder without any: nothing is put back.
    let mut other = started(Engine::Sqlite).await;
    other.process.stop().await.unwrap();
    let foreign = empty();
    let theirs = ["backup", "restore", backup, "--keys", other.process.folder().to_str().unwrap()];
    assert_says(&foreign.process.run(&theirs).await.unwrap(), &["another server key", "other wrapping keys"]);
    let none = empty();
    let nothing = ["backup", "restore", backup, "--keys", elsewhere.path().to_str().unwrap()];
    assert_says(&none.process.run(&nothing).await.unwrap_err().to_string(), &["server.key is missing"]);
    assert!(!none.process.folder().join("vellum.db").exists());
}
