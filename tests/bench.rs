//! The load driver measures a node and checks what it answers. How fast anything is, no test says.

use std::process::Command;

use serde_json::Value;
use sqlx::Connection;
use vellum_test_database::shared_server;

fn bench(arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vellum"));
    let folder = std::env::temp_dir();
    command.args(["bench", "--folder"]).arg(folder).args(arguments).output().unwrap()
}

#[test]
fn a_run_gives_figures_beside_the_limits_of_the_machine() {
    let run = ["identity", "keys", "commit-hot", "inbox", "mixed"];
    let how = ["--seconds", "1", "--users", "50", "--peers", "5", "--connections", "8", "--json"];
    let output = bench(&[&run[..], &how[..]].concat());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert_eq!(told.contains("FIGURES MEAN NOTHING"), cfg!(debug_assertions), "{told}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let scenarios = report["scenarios"].as_array().unwrap();
    let names: Vec<&str> = scenarios.iter().map(|one| one["scenario"].as_str().unwrap()).collect();
    assert_eq!(names, run);
    for figures in scenarios {
        assert!(figures["rate"].as_f64().unwrap() > 0.0, "{figures}");
        let times = &figures["times"];
        assert!(times["p50"].as_f64().unwrap() <= times["max"].as_f64().unwrap(), "{figures}");
        let limits = figures["limits"].as_array().unwrap();
        assert!(limits.iter().all(|limit| limit["rate"].as_f64().unwrap() > 0.0), "{figures}");
        assert_eq!(limits.is_empty(), figures["scenario"] == "mixed", "{figures}");
    }
}

#[tokio::test]
async fn two_nodes_on_one_postgresql_are_measured_with_what_requests_cost_there() {
    let Some(server) = shared_server() else { return };
    let database = server.new_database();
    let how = ["--database", &database, "--nodes", "2", "--seconds", "1", "--users", "60", "--peers", "5"];
    let queue = ["--drain-peers", "6", "--rows", "60", "--connections", "8", "--json"];
    let output = bench(&[&["core"][..], &how, &queue].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["engine"], &report["nodes"]), (&"PostgreSQL".into(), &2.into()), "{report}");
    let scenarios = report["scenarios"].as_array().unwrap();
    let names: Vec<&str> = scenarios.iter().map(|one| one["scenario"].as_str().unwrap()).collect();
    assert_eq!(names, ["identity", "resolve", "keys", "rotation", "inbox", "drain"]);
    for figures in scenarios {
        let of = |name: &str| figures["database"][name].as_f64().unwrap_or(-1.0);
        assert!(of("statementsPerRequest") >= 1.0, "each request has a statement or more: {figures}");
        assert!(of("roundTripsPerRequest") >= 1.0, "each request goes to the server: {figures}");
        assert!(of("retriedTransactions") >= 0.0, "retries are counted: {figures}");
        assert!(of("connections") >= 2.0, "each node has a connection: {figures}");
    }
    let mut connection = sqlx::PgConnection::connect(&database).await.unwrap();
    let left: Vec<(String,)> =
        sqlx::query_as("select datname from pg_database where datname like 'vellum_bench%'")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    assert!(left.is_empty(), "the run's own database is dropped, but there is {left:?}");
}

#[test]
fn a_queue_is_drained_to_the_last_row_also_with_half_of_the_peers_away() {
    let how = ["--seconds", "1", "--users", "20", "--drain-peers", "6", "--rows", "60", "--json"];
    let output = bench(&[&["flush", "drain"][..], &how[..]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let goals = report["scenarios"][1]["goals"].as_array().unwrap();
    assert!(goals.iter().all(|goal| goal["reached"].as_f64().unwrap() > 0.0), "{goals:?}");
}

#[test]
fn honest_people_are_measured_beside_every_attack_and_without_one() {
    let output = bench(&["attack", "--seconds", "2", "--users", "20", "--peers", "4", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let attacks = report["scenarios"][0]["attacks"].as_array().unwrap();
    let names: Vec<&str> = attacks.iter().map(|row| row["attack"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "none",
            "1 forged addresses",
            "2 codes",
            "3a dripping senders",
            "3b dripping peers",
            "5a large bodies",
            "5b dripping uploads",
            "5c large texts"
        ]
    );
    for row in attacks {
        let number = |name: &str| row[name].as_u64().unwrap();
        assert!(number("identities") > 0 && number("messages") > 0, "{row}");
        assert!(number("identitiesAnswered") > 0, "{row}");
        let answers = row["answers"].as_object().unwrap();
        assert!(!answers.keys().any(|answer| answer.ends_with("not connected")), "{row}");
    }
    let none = &attacks[0];
    assert_eq!(none["identitiesAnswered"], none["identities"], "without an attack all are answered: {none}");
    assert_eq!(none["accepted"], none["messages"], "without an attack all are accepted: {none}");
    // What drips may hold its places beyond the end of so short a run.
    for flood in [1, 2, 7] {
        assert!(!attacks[flood]["answers"].as_object().unwrap().is_empty(), "{}", attacks[flood]);
    }
}

#[test]
fn what_cannot_be_measured_is_refused() {
    for wrong in [
        &["nothing"][..],
        &["identity", "--seconds", "0"],
        &["identity", "--nodes", "2"],
        &["identity", "--database", "sqlite://vellum.db"],
        &["keys", "--users", "4", "--connections", "8"],
    ] {
        assert!(!bench(wrong).status.success(), "{wrong:?}");
    }
}
