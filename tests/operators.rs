//! What operators see and decide, by the command line beside a running node: it does as told.

use crate::support::{Mood, Peer, TestNode, wait_for};
use serde_json::Value;
use vellum_client::http::{Method, RevocationState};

/// A command's answer, as programs read it.
async fn run(node: &TestNode, words: &[&str]) -> Value {
    let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&node.process.run(&words).await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_queue_waits_and_goes_on_when_it_is_told() {
    let node = TestNode::start().await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let bob = peer.friend_of(&ann, "bob").await;
    node.process.run(&["queue", "watch"]).await.unwrap();

    run(&node, &["queue", "pause"]).await;
    ann.client.remove_friend(&bob.handle, Some(&ann.revocation(&bob.handle))).await.unwrap();
    let listed = run(&node, &["queue", "list", "--state", "queued"]).await;
    assert_eq!((listed["rows"].as_array().unwrap().len(), &listed["paused"]), (1, &Value::Bool(true)));
    let row = listed["rows"][0]["id"].as_str().unwrap();
    assert_eq!(run(&node, &["queue", "show", row]).await["attempts"], 0);
    assert_eq!(ann.pending().await[0].state, RevocationState::Queued);

    run(&node, &["queue", "resume"]).await;
    wait_for("the revocation leaves", || ann.pending(), |seen| seen.is_empty()).await;
    assert!(node.process.run(&["queue", "show", row]).await.is_err(), "it is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_tried_at_once_and_dropped() {
    let node = TestNode::start_with(&[("VELLUM_FEDERATION__RETRY_FIRST_MS", "600000")]).await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let bob = peer.friend_of(&ann, "bob").await;
    node.process.run(&["queue", "watch"]).await.unwrap();
    peer.set_mood(Mood::Answers(400, r#"{"message":"not today"}"#.to_owned()));
    ann.client.remove_friend(&bob.handle, Some(&ann.revocation(&bob.handle))).await.unwrap();
    let rows =
        wait_for("an attempt fails", || ann.pending(), |rows| rows.iter().any(|row| row.attempts == 1));
    let failed = rows.await.remove(0);
    run(&node, &["queue", "retry", &failed.id]).await;
    wait_for("it is tried again", || ann.pending(), |seen| seen[0].attempts == 2).await;

    run(&node, &["queue", "drop", &failed.id]).await;
    assert!(ann.pending().await.is_empty());
    assert!(node.process.run(&["queue", "drop", &failed.id]).await.is_err(), "once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_with_another_key_is_left_alone_until_an_operator_has_compared_it() {
    let node = TestNode::start().await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let bob = peer.friend_of(&ann, "bob").await;
    node.process.run(&["queue", "watch"]).await.unwrap();

    peer.change_key();
    let shown = peer.server_key();
    // Whatever an operator decides has manifests read anew.
    run(&node, &["queue", "retry"]).await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    ann.client.remove_friend(&bob.handle, Some(&ann.revocation(&bob.handle))).await.unwrap();
    let domain = peer.domain().to_string();
    let probe = || async { run(&node, &["peer", "show", &domain]).await };
    let noted = wait_for("the other key is noted", probe, |peer| peer["offeredKey"].is_string()).await;
    assert_eq!(noted["offeredKey"], shown.as_str(), "{noted}");
    let reason = ann.pending().await[0].last_error.clone().unwrap();
    assert!(reason.contains("the key of"), "{reason}");
    let taken = peer.received().len();
    run(&node, &["queue", "retry"]).await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert_eq!(peer.received().len(), taken, "nothing is sent");

    let of_neither = vellum_protocol::SigningSecret::from_seed([77; 32]).public().to_base64();
    assert!(node.process.run(&["peer", "repin", &domain, "--key", &of_neither]).await.is_err());
    let pinned = run(&node, &["peer", "show", &domain]).await["publicKey"].as_str().unwrap().to_owned();
    run(&node, &["peer", "repin", &domain, "--key", &pinned]).await;
    wait_for(
        "it is asked once more, and still shows the other one",
        || async { run(&node, &["peer", "show", &domain]).await },
        |peer| peer["offeredKey"] == shown.as_str() && peer["publicKey"] == pinned.as_str(),
    )
    .await;
    run(&node, &["peer", "repin", &domain, "--key", &shown]).await;
    wait_for("the revocation leaves", || ann.pending(), |seen| seen.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_exchanged_with_a_blocked_node() {
    let node = TestNode::start().await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let bob = peer.user("bob");
    let domain = peer.domain().to_string();
    run(&node, &["peer", "block", &domain]).await;
    let resolve = format!("/friends/resolve/{}", bob.handle);
    let probe = || async { ann.ask(Method::GET, &resolve, Value::Null).await };
    let (_, refused) = wait_for("the decision is known", probe, |(status, _)| *status == 403).await;
    assert_eq!(refused["code"], "peer_not_admitted");
    let (status, answer) = peer.try_invite(&bob, &ann.handle()).await;
    assert!(status == 401 && answer["message"].as_str().unwrap().contains("does not federate"), "{answer}");
    run(&node, &["peer", "allow", &domain]).await;
    wait_for("they are taken", || async { peer.try_invite(&bob, &ann.handle()).await }, |seen| seen.0 == 202)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allow_list_admits_nobody_else() {
    let node = TestNode::start_with(&[("VELLUM_FEDERATION__MODE", "allow_list")]).await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let bob = peer.user("bob");
    assert_eq!(peer.try_invite(&bob, &ann.handle()).await.0, 401);
    run(&node, &["peer", "allow", &peer.domain().to_string()]).await;
    wait_for("it is admitted", || async { peer.try_invite(&bob, &ann.handle()).await }, |seen| seen.0 == 202)
        .await;
    let listed = run(&node, &["peer", "list"]).await;
    assert_eq!((&listed[0]["standing"], &listed[0]["breaker"]), (&"allowed".into(), &"closed".into()));
}

#[tokio::test]
async fn health_tells_whether_the_node_can_work() {
    let node = TestNode::start().await;
    let address = node.process.origin().replace("http://localhost", "127.0.0.1");
    let asked = |listen: &str| {
        let health = std::process::Command::new(env!("CARGO_BIN_EXE_vellum"))
            .arg("health")
            .arg("--data-dir")
            .arg(node.process.folder())
            .env("VELLUM_HTTP__LISTEN", listen)
            .output()
            .unwrap();
        (health.status.code(), String::from_utf8(health.stdout).unwrap())
    };
    assert_eq!(
        asked(&address),
        (
            Some(0),
            "ok
"
            .to_owned()
        )
    );
    assert_eq!(asked("127.0.0.1:1").0, Some(1));
}

/// The doctor's findings about something, and how it ended.
fn examined(node: &TestNode, settings: &[(&str, &str)]) -> (Option<i32>, Vec<Value>) {
    let doctor = std::process::Command::new(env!("CARGO_BIN_EXE_vellum"))
        .args(["doctor", "--json", "--data-dir"])
        .arg(node.process.folder())
        .envs(settings.iter().copied())
        .env("VELLUM_FEDERATION__ALLOW_PRIVATE_PEERS", "true")
        .env("VELLUM_DATABASE__URL", node.process.setting("VELLUM_DATABASE__URL").unwrap_or_default())
        .output()
        .unwrap();
    (doctor.status.code(), serde_json::from_slice(&doctor.stdout).unwrap())
}

fn severity(findings: &[Value], about: &str) -> Option<String> {
    let finding = findings.iter().find(|finding| finding["about"] == about)?;
    assert!(finding["severity"] == "well" || finding["advice"].is_string(), "{finding}");
    finding["severity"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_says_what_is_wrong_and_what_to_do() {
    let node = TestNode::start().await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let bob = peer.user("bob");
    peer.invite(&bob, &ann.handle()).await;
    let origin = node.process.origin();
    let well = [("VELLUM_HTTP__ORIGIN", origin.as_str())];
    let (code, findings) = examined(&node, &well);
    for about in ["data folder", "database", "queue", "origin", "peers", "clock"] {
        assert_eq!(severity(&findings, about).as_deref(), Some("well"), "{about}: {findings:?}");
    }
    assert_eq!(severity(&findings, "mail").as_deref(), Some("doubtful"), "letters are files");
    assert_eq!(code, Some(0), "nothing is broken");

    use std::os::unix::fs::PermissionsExt;
    let key = node.process.folder().join("server.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let elsewhere = format!("http://{}", peer.domain());
    let broken =
        [("VELLUM_HTTP__ORIGIN", elsewhere.as_str()), ("VELLUM_MAIL__SMTP_URL", "smtp://localhost:1")];
    let (code, findings) = examined(&node, &broken);
    for about in ["keys", "origin", "mail"] {
        assert_eq!(severity(&findings, about).as_deref(), Some("broken"), "{about}: {findings:?}");
    }
    assert_eq!(code, Some(1));
    let nobody = [("VELLUM_HTTP__ORIGIN", "http://localhost:1")];
    assert_eq!(severity(&examined(&node, &nobody).1, "origin").as_deref(), Some("broken"));
}
