//! The command line, the first start, the restart, and stopping.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vellum::node::FIRST_ADMINISTRATOR;
use vellum_client::http::{Delivery, Method};
use vellum_protocol::MessageType;
use vellum_test_database::{Engine, engine};

use crate::support::{Mood, Peer, TestNode, wait_for};

fn vellum(arguments: &[&str], environment: &[(&str, &str)]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vellum"));
    command.args(arguments).envs(environment.iter().copied()).output().unwrap()
}

#[tokio::test]
async fn the_first_start_makes_everything_and_a_restart_changes_none_of_it() {
    let mut node = TestNode::start().await;
    let mode = |name: &str| {
        let path = node.process.folder().join(name);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode(""), mode("server.key")), (0o700, 0o600));
    if engine() == Engine::Sqlite {
        assert_eq!(mode("vellum.db"), 0o600);
    }
    let before = (
        node.client().manifest().await.unwrap(),
        node.process.run(&["--json", "user", "list"]).await.unwrap(),
    );
    let users: Value = serde_json::from_str(&before.1).unwrap();
    assert_eq!((&users[0]["email"], &users[0]["roles"]), (&json!(FIRST_ADMINISTRATOR), &json!(["admin"])));
    assert_eq!(users.as_array().unwrap().len(), 1);
    let token = node.token(FIRST_ADMINISTRATOR).await;

    node.process.stop().await.unwrap();
    node.process.start().await.unwrap();
    let after = (
        node.client().manifest().await.unwrap(),
        node.process.run(&["--json", "user", "list"]).await.unwrap(),
    );
    assert_eq!(before, after);
    let mut client = node.client();
    client.set_token(Some(token));
    assert!(client.current_session().await.unwrap().is_some(), "sessions survive");
}

#[tokio::test]
async fn health_tells_alive_and_ready() {
    let node = TestNode::start().await;
    for path in ["/health/live", "/health/ready"] {
        let answer = node.client().request_json(Method::GET, path, None).await.unwrap();
        assert_eq!(answer, (200, json!({ "status": "ok" })));
    }
    assert_eq!(node.client().request_json(Method::HEAD, "/health/live", None).await.unwrap().0, 200);
}

#[tokio::test]
async fn two_nodes_do_not_share_a_database_file() {
    if engine() == Engine::Postgres {
        // There they do: see replicas.rs.
        return;
    }
    let node = TestNode::start().await;
    let refused = node.process.run(&["serve"]).await.unwrap_err().to_string();
    assert!(refused.contains("another node is running"), "{refused}");
}

#[tokio::test]
async fn a_stopping_node_ends_in_time_and_takes_up_its_deliveries_when_it_starts_again() {
    let mut node = TestNode::start_with(&[("VELLUM_FEDERATION__FLUSH_WAIT_MS", "60000")]).await;
    let peer = Peer::start().await;
    let (ann, bob) = (node.person("ann").await, peer.user("bob"));
    peer.invite(&bob, &ann.handle()).await;
    ann.accept(&bob.handle).await;
    peer.set_mood(Mood::Hangs);
    let (client, signed) = (ann.client.clone(), ann.revocation(&bob.handle));
    let handle = bob.handle.clone();
    let waiting = tokio::spawn(async move { client.remove_friend(&handle, Some(&signed)).await });
    wait_for(
        "the revocation is under way",
        || async { peer.received_of(MessageType::RelationshipRevoke) },
        |seen| !seen.is_empty(),
    )
    .await;

    let began = Instant::now();
    node.process.stop().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "although a request was waiting for a hanging peer");
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!(answer, Delivery::Queued, "a request that waited is told so rather than cut off");
    peer.set_mood(Mood::Well);
    node.process.start().await.unwrap();
    wait_for("it is delivered", || ann.pending(), |seen| seen.is_empty()).await;
    assert_eq!(peer.received_of(MessageType::RelationshipRevoke).len(), 2);
}

#[test]
fn wrong_use_exits_with_2_and_names_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    for (arguments, environment, word) in [
        (vec!["nonsense"], vec![], "nonsense"),
        (vec!["serve", "--nonsense"], vec![], "--nonsense"),
        (vec!["user", "create", "--email", "a@b.example"], vec![], "--first-name"),
        (vec!["serve"], vec![("VELLUM_HTTP__LISTEN", "nowhere")], "http.listen"),
        (vec!["serve"], vec![("VELLUM_LIMITS__ENABLED", "perhaps")], "limits.enabled"),
        (vec!["serve"], vec![("VELLUM_HTTP__LISTNE", "127.0.0.1:0")], "listne"),
        (vec!["serve", "--config", "/does/not/exist.toml"], vec![], "exist"),
    ] {
        let mut environment = environment;
        environment.push(("VELLUM_DATA_DIR", folder));
        let output = vellum(&arguments, &environment);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
        assert!(told.contains(word), "{arguments:?}: {told}");
        assert!(output.stdout.is_empty(), "the reason is on standard error alone");
    }
}

#[test]
fn a_failure_exits_with_1_and_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let data = [("VELLUM_DATA_DIR", folder)];
    let create = [
        "user",
        "create",
        "--init",
        "--email",
        "ann@people.example",
        "--first-name",
        "A",
        "--last-name",
        "B",
    ];
    let made = vellum(&create, &data);
    assert!(made.status.success());
    let id = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    assert!(!id.is_empty() && !id.contains(char::is_whitespace), "the id alone: {id}");
    assert_eq!(vellum(&create, &data).status.code(), Some(1), "the address is taken");
    let nobody = vellum(&["user", "session", "--email", "nobody@people.example"], &data);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("no such user"));
    let table = String::from_utf8(vellum(&["user", "list"], &data).stdout).unwrap();
    assert!(table.contains("ann@people.example") && table.contains(&id));
    let token =
        String::from_utf8(vellum(&["user", "session", "--email", "ann@people.example"], &data).stdout)
            .unwrap();
    assert_eq!(token.trim().lines().count(), 1, "the token alone on one line");
}

#[test]
fn the_demo_holds_and_says_so_to_people_and_to_programs() {
    let began = Instant::now();
    let output = vellum(&["demo"], &[]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(began.elapsed() < Duration::from_secs(30));
    assert!(
        shown.contains("every step was checked and held") && !shown.contains('\u{1b}'),
        "plain text: {shown}"
    );
    let output = vellum(&["demo", "--json"], &[]);
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    assert_eq!(lines.lines().count(), 15);
    assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).unwrap()["held"] == true));
}

/// At the most talkative level, with a peer, a sign-in, and everything that is secret.
#[tokio::test]
async fn no_secret_ever_reaches_the_log() {
    let node = TestNode::start_with(&[("VELLUM_LOG__FILTER", "trace"), ("VELLUM_LOG__FORMAT", "json")]).await;
    let peer = Peer::start().await;
    let (ann, bob) = (node.person("ann").await, peer.user("bob"));
    let mut client = node.client();
    client.request_code(FIRST_ADMINISTRATOR).await.unwrap();
    let code = node.process.newest_code(0).await.unwrap();
    client.sign_in_with_code(FIRST_ADMINISTRATOR, &code).await.unwrap();
    let (_, wrapped) = ann.ask(Method::GET, "/users/me/devices/device-1/wrap-secret", Value::Null).await;
    ann.invite(&bob.handle).await;
    let sealed_seed = "sealed seed on its way";
    let begun = json!({ "receiverEphemeralPub": "receiver" });
    let transfer = ann.ask(Method::POST, "/device-transfer", begun).await.1;
    let upload =
        json!({ "senderEphemeralPub": "sender", "sealedSeed": sealed_seed, "senderSignature": "signed" });
    let path = format!("/device-transfer/{}", transfer["sessionId"].as_str().unwrap());
    ann.ask(Method::POST, &format!("{path}/upload"), upload).await;
    assert_eq!(ann.ask(Method::GET, &path, Value::Null).await.1["sealedSeed"], sealed_seed);
    ann.client.reset_identity().await.unwrap();
    let secret_of = |file: &str| std::fs::read_to_string(node.process.folder().join(file)).unwrap();
    let wrapping = secret_of("wrap.keys");
    let secrets = [
        code,
        client.token().unwrap().expose().to_owned(),
        ann.client.token().unwrap().expose().to_owned(),
        wrapped["secret"].as_str().unwrap().to_owned(),
        sealed_seed.to_owned(),
        secret_of("server.key").trim().to_owned(),
        wrapping.split_whitespace().nth(1).unwrap().to_owned(),
    ];
    let log = std::fs::read_to_string(node.process.log_path()).unwrap();
    assert!(
        log.contains("\"level\":\"TRACE\"") && log.contains("reset_identity"),
        "the log says what happens"
    );
    for secret in secrets {
        assert!(secret.len() >= 8);
        let line = log.lines().find(|line| line.contains(&secret));
        assert!(line.is_none(), "{line:?}");
    }
}
