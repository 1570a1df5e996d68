//! A node whose clock was wrong for a while: nothing that it has stored then is waited for.
#![cfg(debug_assertions)]

use std::time::Duration;

use serde_json::{Value, json};
use vellum::node::FIRST_ADMINISTRATOR;
use vellum_client::http::{ClientError, Method, PendingRevocation};

use crate::support::{Mood, Peer, Steered, now, wait_for, wait_for_up_to};

const DAY_MILLIS: i64 = 86_400_000;
const TWO_DAYS: i64 = 2 * DAY_MILLIS;

/// A peer that takes late revocations.
pub async fn durable_peer() -> Peer {
    let manifest = json!({
        "capabilities": ["durable-revocation-v1"],
        "revocation_window_seconds": 604_800,
    });
    Peer::start_with(manifest).await
}

/// Time for what an idle node does when it looks at its queue, every 30 s.
pub const AT_THE_NEXT_LOOK: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn what_a_clock_two_days_ahead_has_put_off_is_sent_soon_after_it_is_right_again() {
    let steered = Steered::start(&[("VELLUM_FEDERATION__FLUSH_WAIT_MS", "300")]).await;
    let ann = steered.node.person("ann").await;
    let (away, refusing) = (durable_peer().await, durable_peer().await);
    let (bob, carl) = (away.friend_of(&ann, "bob").await, refusing.friend_of(&ann, "carl").await);
    away.set_mood(Mood::Answers(503, String::new()));
    refusing.set_mood(Mood::Answers(400, r#"{"message":"not today"}"#.to_owned()));
    for friend in [&bob, &carl] {
        ann.client.remove_friend(&friend.handle, Some(&ann.revocation(&friend.handle))).await.unwrap();
    }
    steered.set_ahead(TWO_DAYS);
    let is_put_off = |row: &PendingRevocation| {
        row.next_attempt_at.as_ref().is_some_and(|at| at.instant().since(now()) > DAY_MILLIS)
    };
    wait_for(
        "both are put off by the wrong clock",
        || ann.pending(),
        |pending| pending.len() == 2 && pending.iter().all(is_put_off),
    )
    .await;

    away.set_mood(Mood::Well);
    refusing.set_mood(Mood::Well);
    steered.set_ahead(0);
    wait_for_up_to(AT_THE_NEXT_LOOK, "both are delivered", || ann.pending(), |seen| seen.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_failed_by_a_clock_that_was_ahead_is_no_less_waited_for_afterwards() {
    let settings =
        [("VELLUM_FEDERATION__FLUSH_WAIT_MS", "300"), ("VELLUM_FEDERATION__RETRY_MULTIPLIER", "10")];
    let steered = Steered::start(&settings).await;
    let (ann, peer) = (steered.node.person("ann").await, durable_peer().await);
    let bob = peer.friend_of(&ann, "bob").await;
    peer.set_mood(Mood::Answers(503, String::new()));
    // Not so far that the margin for clocks that differ would not hide it.
    steered.set_ahead(50_000);
    ann.client.remove_friend(&bob.handle, Some(&ann.revocation(&bob.handle))).await.unwrap();
    let attempts = || async { ann.pending().await[0].attempts };
    wait_for("it has failed", || async { attempts().await }, |seen| *seen > 0).await;
    steered.set_ahead(0);
    steered.node.process.run(&["queue", "retry"]).await.unwrap();
    let before =
        wait_for("it has failed again", || async { attempts().await }, |attempts| *attempts > 1).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let since = attempts().await - before;
    assert!(since <= 2, "each failure is counted and makes the pause longer: {since} more attempts in 4 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_and_transfers_of_a_clock_that_was_ahead_are_over_and_in_the_way_of_no_new_ones() {
    let steered = Steered::start(&[]).await;
    let node = &steered.node;
    let ann = node.person("ann").await;
    steered.set_ahead(TWO_DAYS);
    let mut client = node.client();
    client.request_code(FIRST_ADMINISTRATOR).await.unwrap();
    let old = node.process.newest_code(0).await.unwrap();
    let begin = json!({ "receiverEphemeralPub": "receiver" });
    let mut transfers = Vec::new();
    for _ in 0..3 {
        let (status, begun) = ann.ask(Method::POST, "/device-transfer", begin.clone()).await;
        assert_eq!(status, 200, "{begun}");
        transfers.push(begun["sessionId"].as_str().unwrap().to_owned());
    }

    steered.set_ahead(0);
    let refused = client.sign_in_with_code(FIRST_ADMINISTRATOR, &old).await;
    assert!(matches!(refused, Err(ClientError::Refused(_))), "for two days more: {refused:?}");
    client.request_code(FIRST_ADMINISTRATOR).await.unwrap();
    // Letters are named by when they were written, so the old one may seem to be the newest.
    let is_code = |line: &&str| line.len() == 8 && line.bytes().all(|byte| byte.is_ascii_digit());
    let codes = || async {
        let letters =
            node.process.letters().into_iter().map(|letter| std::fs::read_to_string(letter).unwrap());
        letters.filter_map(|text| text.lines().find(is_code).map(str::to_owned)).collect::<Vec<_>>()
    };
    let is_new = |code: &String| *code != old;
    let codes = wait_for("a letter with a new code comes", codes, |codes| codes.iter().any(is_new)).await;
    let new = codes.into_iter().find(is_new).unwrap();
    client.sign_in_with_code(FIRST_ADMINISTRATOR, &new).await.unwrap();
    for transfer in transfers {
        let (status, problem) =
            ann.ask(Method::GET, &format!("/device-transfer/{transfer}"), Value::Null).await;
        assert_eq!((status, &problem["code"]), (410, &json!("transfer_over")), "it lasts a minute");
    }
    let (status, begun) = ann.ask(Method::POST, "/device-transfer", begin).await;
    assert_eq!(status, 200, "those of the wrong clock do not count: {begun}");
}

/// What `vellum doctor` says of the clock.
async fn doctor_on_clock(steered: &Steered) -> Value {
    let process = &steered.node.process;
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_vellum"));
    command.args(["--json", "doctor"]).env("VELLUM_DATA_DIR", process.folder());
    command.env("VELLUM_FEDERATION__ALLOW_PRIVATE_PEERS", "true").env("TEST_CLOCK_FILE", &steered.clock);
    command.env("VELLUM_HTTP__ORIGIN", process.origin());
    if let Some(url) = process.setting("VELLUM_DATABASE__URL") {
        command.env("VELLUM_DATABASE__URL", url);
    }
    let output = command.output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = || format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    let findings: Vec<Value> =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {}", told()));
    findings.into_iter().find(|finding| finding["about"] == "clock").unwrap_or_else(|| panic!("{}", told()))
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_compares_the_clock_with_peers_clocks() {
    let steered = Steered::start(&[]).await;
    let (ann, peer) = (steered.node.person("ann").await, Peer::start().await);
    peer.invite(&peer.user("bob"), &ann.handle()).await;
    let finding = doctor_on_clock(&steered).await;
    assert_eq!(finding["severity"], "well", "{finding}");
    steered.set_ahead(412_000);
    let finding = doctor_on_clock(&steered).await;
    let says = finding["says"].as_str().unwrap();
    // To a second or two: the peer tells whole seconds.
    let differs = (408..=413).any(|seconds| says.contains(&format!("{} by -{seconds} s", peer.domain())));
    assert!(finding["severity"] == "broken" && differs, "{finding}");
}
