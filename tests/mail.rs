//! Emails wait in the database until a mail server takes them: through refusals, restarts and
//! deaths of nodes, for an hour, and each goes once.

use std::time::Duration;

use serde_json::{Value, json};
use vellum::node::FIRST_ADMINISTRATOR;
use vellum_client::http::Method;
use vellum_test_database::shared_server;

use crate::metrics::{scrape, value};
#[cfg(debug_assertions)]
use crate::support::Steered;
use crate::support::{
    Database, Manners, NO_ANSWER, PostOffice, Replicas, TestNode, wait_for, wait_for_up_to,
};

const ANN: &str = "ann@people.example";

async fn ask(node: &TestNode, email: &str) {
    let body = json!({ "email": email });
    let answer = node.client().request_json(Method::POST, "/auth/verify", Some(&body)).await.unwrap();
    assert_eq!(answer, (201, Value::Null), "{email}");
}

/// A node that sends its emails to this server, with an account of Ann's.
async fn node_with(office: &PostOffice, settings: &[(&str, &str)]) -> TestNode {
    let url = office.url();
    let mut all = vec![("VELLUM_MAIL__SMTP_URL", url.as_str())];
    all.extend_from_slice(settings);
    let node = TestNode::start_with(&all).await;
    node.user("ann").await;
    node
}

async fn letter(office: &PostOffice, number: usize) -> String {
    let what = format!("email number {} arrives", number + 1);
    wait_for(&what, || async { office.letters() }, |letters| letters.len() > number).await.remove(number)
}

fn code_in(letter: &str) -> String {
    let is_code = |line: &&str| line.len() == 8 && line.bytes().all(|byte| byte.is_ascii_digit());
    letter.lines().find(is_code).expect("a code alone on a line").to_owned()
}

fn log(node: &TestNode) -> String {
    std::fs::read_to_string(node.process.log_path()).unwrap()
}

/// What the doctor says about emails.
async fn doctor(node: &TestNode) -> String {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_vellum"));
    command.args(["doctor", "--json"]).env("VELLUM_DATA_DIR", node.process.folder());
    for name in ["VELLUM_DATABASE__URL", "VELLUM_MAIL__SMTP_URL"] {
        command.env(name, node.process.setting(name).unwrap());
    }
    let told = command.output().await.unwrap().stdout;
    let findings: Vec<Value> = serde_json::from_slice(&told).unwrap();
    let about_mail =
        findings.into_iter().filter(|finding| finding["about"].as_str().unwrap().contains("mail"));
    Value::from_iter(about_mail).to_string()
}

/// Waits until so many attempts have failed, and has the next one be due.
async fn hasten(database: &Database, attempts: i64) {
    let what = format!("an email waits after {attempts} failed attempts");
    wait_for(&what, || database.hasten_emails(attempts), |emails| *emails > 0).await;
}

#[tokio::test]
async fn a_passing_refusal_is_tried_again_and_is_no_new_email() {
    let office = PostOffice::open().await;
    let node = node_with(&office, &[("VELLUM_AUTH__EMAILS_AT_ONCE", "1")]).await;
    let database = Database::of(&node).await;
    for refused_at in ["RCPT", "MAIL", "EHLO", "."] {
        office.answer(refused_at, "451 4.7.1 <ann@people.example> greylisted");
    }
    ask(&node, ANN).await;
    for attempt in 1..=4 {
        hasten(&database, attempt).await;
        // Once the last is due it may go at any moment.
        assert!(attempt == 4 || office.letters().is_empty(), "attempt {attempt} was refused");
    }
    let code = code_in(&letter(&office, 0).await);
    wait_for("nothing waits", || database.count_emails(), |seen| *seen == 0).await;
    // The allowance was one, and all the attempts were one email.
    ask(&node, ANN).await;
    assert_eq!(database.count_emails().await, 0, "the allowance is used up");
    assert!(node.client().sign_in_with_code(ANN, &code).await.is_ok(), "the code of the last attempt works");
    assert_eq!(office.letters().len(), 1);
    let log = log(&node);
    let told: Vec<&str> = log.lines().filter(|line| line.contains("email not sent")).collect();
    assert_eq!(told.len(), 4, "one line for each failed attempt: {log}");
    assert!(
        told.iter().all(|line| line.contains("greylisted") && line.contains("people.example")),
        "{told:?}"
    );
    assert!(!log.contains(ANN), "no address in the log: {log}");
}

#[tokio::test]
async fn an_email_that_a_mail_server_may_have_taken_is_not_sent_again() {
    let office = PostOffice::open().await;
    let mut node = node_with(&office, &[("VELLUM_AUTH__EMAILS_AT_ONCE", "3")]).await;
    let database = Database::of(&node).await;
    let emails = || async { database.count_emails().await };

    office.answer(".", NO_ANSWER);
    ask(&node, ANN).await;
    let code = code_in(&letter(&office, 0).await);
    wait_for("nothing waits", emails, |emails| *emails == 0).await;
    assert!(log(&node).contains("email may have been sent: no answer"), "{}", log(&node));
    assert!(node.client().sign_in_with_code(ANN, &code).await.is_ok(), "its code works");

    // The node dies while the server looks the letter through.
    let slow = PostOffice::with(Manners { waits_at: Some("."), ..Manners::default() }).await;
    node.process.stop().await.unwrap();
    node.process.set("VELLUM_MAIL__SMTP_URL", &slow.url());
    node.process.start().await.unwrap();
    ask(&node, ANN).await;
    wait_for("the server has the letter", || async { slow.count(".") }, |seen| *seen == 1).await;
    node.process.kill().await.unwrap();
    slow.open_up();
    let code = code_in(&letter(&slow, 0).await);
    node.process.start().await.unwrap();
    wait_for("nothing waits", emails, |emails| *emails == 0).await;
    assert_eq!((office.letters().len(), slow.letters().len()), (1, 1), "each went once");
    assert!(node.client().sign_in_with_code(ANN, &code).await.is_ok(), "its code works");
    let failed = value(&scrape(&node).await, "vellum_mail_failed_total");
    assert_eq!(failed, Some(0.0), "nothing was given up");
}

#[tokio::test]
async fn what_a_mail_server_refuses_before_the_recipient_is_about_the_node_and_tried_again() {
    let office = PostOffice::with(Manners { auth: true, ..Manners::default() }).await;
    let node = node_with(&office, &[]).await;
    let database = Database::of(&node).await;
    for refused_at in ["EHLO", "AUTH", "MAIL"] {
        office.answer(refused_at, "554 5.7.1 not today");
    }
    ask(&node, ANN).await;
    for attempt in 1..=3 {
        hasten(&database, attempt).await;
    }
    letter(&office, 0).await;
    assert_eq!(value(&scrape(&node).await, "vellum_mail_failed_total"), Some(0.0));
}

#[tokio::test]
async fn an_email_to_localhost_is_no_failure_of_the_mail_server() {
    let office = PostOffice::open().await;
    let node = node_with(&office, &[]).await;
    let database = Database::of(&node).await;
    ask(&node, FIRST_ADMINISTRATOR).await;
    wait_for("it is given up", || database.count_emails(), |seen| *seen == 0).await;
    let log = log(&node);
    let line = log.lines().find(|line| line.contains("email not sent")).expect("a line in the log");
    assert!(line.contains("\"level\":\"INFO\"") && line.contains("localhost"), "{line}");
    assert_eq!(value(&scrape(&node).await, "vellum_mail_failed_total"), Some(0.0), "nobody's fault");
    let doctor = doctor(&node).await;
    assert!(!doctor.contains("localhost"), "{doctor}");
}

#[tokio::test]
async fn the_node_tries_again_by_itself() {
    let office = PostOffice::open().await;
    let node = node_with(&office, &[]).await;
    office.answer("RCPT", "450 4.2.0 later");
    ask(&node, ANN).await;
    wait_for("it is refused", || async { log(&node) }, |seen| seen.contains("email not sent")).await;
    assert!(office.letters().is_empty());
    // The first pause is ten seconds, moved by chance.
    let minute = Duration::from_secs(60);
    wait_for_up_to(minute, "the email goes", || async { office.letters() }, |seen| !seen.is_empty()).await;
    assert_eq!((office.letters().len(), office.count("RCPT")), (1, 2), "emails sent, and attempts");
}

#[tokio::test]
async fn a_final_refusal_is_told_to_the_operator_and_not_tried_again() {
    let office = PostOffice::open().await;
    let node = node_with(&office, &[]).await;
    let database = Database::of(&node).await;
    let before = scrape(&node).await;
    assert_eq!(value(&before, "vellum_mail_failed_total").unwrap_or(0.0), 0.0);
    office.answer("RCPT", "550 5.1.1 <Ann@People.Example>: user ann is unknown");
    ask(&node, ANN).await;
    let probe = || async { (log(&node), database.count_emails().await) };
    wait_for("it is given up", probe, |(log, emails)| log.contains("email not sent") && *emails == 0).await;
    assert!(office.letters().is_empty() && office.count("DATA") == 0);
    let after = scrape(&node).await;
    assert_eq!(value(&after, "vellum_mail_failed_total"), Some(1.0));
    let log = log(&node);
    let line = log.lines().find(|line| line.contains("email not sent")).unwrap();
    for word in ["550 5.1.1", "is unknown", "people.example", "\"attempt\":1"] {
        assert!(line.contains(word), "{word} is not in {line}");
    }
    assert!(!line.to_lowercase().contains("ann"), "no address but its domain: {line}");
    let doctor = doctor(&node).await;
    assert!(doctor.contains("550 5.1.1") && !doctor.contains("<ann"), "{doctor}");
    // The next email goes.
    ask(&node, ANN).await;
    letter(&office, 0).await;
    let probe = || async { value(&scrape(&node).await, "vellum_mail_sent_total") };
    wait_for("it is counted", probe, |emails| *emails == Some(1.0)).await;
}

#[tokio::test]
async fn an_email_outlives_a_killed_node_and_goes_once() {
    let office = PostOffice::with(Manners { waits_at: Some("RCPT"), ..Manners::default() }).await;
    let mut node = node_with(&office, &[]).await;
    ask(&node, ANN).await;
    wait_for("the node is at the mail server", || async { office.count("RCPT") }, |seen| *seen == 1).await;
    node.process.kill().await.unwrap();
    office.open_up();
    node.process.start().await.unwrap();
    let code = code_in(&letter(&office, 0).await);
    let database = Database::of(&node).await;
    wait_for("nothing waits", || database.count_emails(), |seen| *seen == 0).await;
    node.process.stop().await.unwrap();
    node.process.start().await.unwrap();
    assert!(node.client().sign_in_with_code(ANN, &code).await.is_ok());
    assert_eq!(office.letters().len(), 1, "it went once");
}

#[tokio::test]
async fn an_email_outlives_a_stop_while_the_mail_server_is_away() {
    let gone = PostOffice::open().await;
    let mut node = TestNode::start_with(&[("VELLUM_MAIL__SMTP_URL", "smtp://127.0.0.1:1")]).await;
    node.user("ann").await;
    ask(&node, ANN).await;
    let database = Database::of(&node).await;
    hasten(&database, 1).await;
    let doctor = doctor(&node).await;
    for word in ["1 emails wait", "refused", "\"severity\":\"broken\""] {
        assert!(doctor.contains(word), "{word} is not in {doctor}");
    }
    node.process.stop().await.unwrap();
    assert_eq!(database.count_emails().await, 1, "it waits in the database");
    // However many attempts there was time for.
    for attempts in 1..=5 {
        database.hasten_emails(attempts).await;
    }
    node.process.set("VELLUM_MAIL__SMTP_URL", &gone.url());
    node.process.start().await.unwrap();
    letter(&gone, 0).await;
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn after_an_hour_an_email_is_given_up() {
    let steered = Steered::start(&[("VELLUM_MAIL__SMTP_URL", "smtp://127.0.0.1:1")]).await;
    let node = &steered.node;
    node.user("ann").await;
    ask(node, ANN).await;
    let text = || async { log(node) };
    // Nothing is under way after this: the next attempt is seconds away.
    wait_for("an attempt fails", text, |log| log.contains("retry_in_ms")).await;
    let database = Database::of(node).await;
    wait_for("its outcome is noted", || database.has_idle_emails(1), |noted| *noted).await;
    steered.after(3_700_000);
    wait_for("it is given up", || database.count_emails(), |seen| *seen == 0).await;
    // The row goes a moment before the log tells.
    let is_told = |line: &str| line.contains("an hour is over") && line.contains("refused");
    wait_for("it is told", text, |log| log.lines().any(is_told)).await;
}

#[tokio::test]
async fn the_queue_has_address_and_purpose_and_the_code_is_made_at_the_mail_server() {
    let office = PostOffice::with(Manners { waits_at: Some("RCPT"), ..Manners::default() }).await;
    let node = node_with(&office, &[]).await;
    let database = Database::of(&node).await;
    ask(&node, ANN).await;
    wait_for("the node is at the mail server", || async { office.count("RCPT") }, |seen| *seen == 1).await;
    let queued = database.rows_of("mail_queue").await;
    assert!(queued.len() == 1 && queued[0].contains(ANN) && queued[0].contains("sign_in_code"), "{queued:?}");
    let before = database.rows_of("sign_in_codes").await;
    office.open_up();
    let code = code_in(&letter(&office, 0).await);
    let after = database.rows_of("sign_in_codes").await;
    assert_eq!((before.len(), after.len()), (1, 1), "one code, before and after");
    assert_ne!(before, after, "it was made, and its time begins, when the server had taken the recipient");
    assert!(!queued[0].contains(&code) && !after[0].contains(&code), "nowhere in the clear");
    assert!(node.client().sign_in_with_code(ANN, &code).await.is_ok());
}

#[tokio::test]
async fn a_new_request_takes_the_place_of_an_email_that_waits_for_a_retry() {
    let office = PostOffice::open().await;
    let node = node_with(&office, &[]).await;
    let database = Database::of(&node).await;
    office.answer("RCPT", "450 4.2.0 later");
    ask(&node, ANN).await;
    wait_for("it is refused", || async { log(&node) }, |seen| seen.contains("email not sent")).await;
    ask(&node, ANN).await;
    letter(&office, 0).await;
    wait_for("nothing waits", || database.count_emails(), |seen| *seen == 0).await;
    assert_eq!(office.letters().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_nodes_one_sends_each_email_and_another_takes_over_from_a_dead_one() {
    let Some(server) = shared_server() else { return };
    let office = PostOffice::with(Manners { waits_at: Some("RCPT"), ..Manners::default() }).await;
    let url = office.url();
    let settings = [("VELLUM_MAIL__SMTP_URL", url.as_str()), ("VELLUM_AUTH__EMAILS_AT_ONCE", "100")];
    let mut replicas = Replicas::start(server, 3, &settings).await;
    replicas.nodes[0].user("ann").await;
    let database = Database::of(&replicas.nodes[1]).await;
    for _ in 0..4 {
        ask(&replicas.nodes[0], ANN).await;
    }
    wait_for("all are at the mail server", || async { office.count("RCPT") }, |seen| *seen == 4).await;
    replicas.nodes[0].process.kill().await.unwrap();
    // Nobody else sends them before the leases of the dead node are over.
    database.end_email_leases().await;
    office.open_up();
    let emails = || async { database.count_emails().await };
    wait_for("the others send them", emails, |emails| *emails == 0).await;
    assert_eq!(office.letters().len(), 4, "each went once");
    for n in 0..12 {
        ask(&replicas.nodes[1 + n % 2], ANN).await;
    }
    wait_for("nothing waits", emails, |emails| *emails == 0).await;
    assert_eq!(office.letters().len(), 16, "each went once");
}

#[tokio::test]
async fn a_code_typed_with_blanks_works() {
    let node = TestNode::start_with(&[("VELLUM_AUTH__EMAILS_AT_ONCE", "100")]).await;
    type Typed = fn(&str) -> String;
    let blanks: [Typed; 5] = [
        |code| format!("{} {} ", &code[..4], &code[4..]),
        |code| format!("\t{code}\r\n"),
        |code| format!("{}\u{a0}{}", &code[..4], &code[4..]),
        |code| format!("\u{3000}{code}\u{2009}"),
        |code| code.chars().map(|digit| format!("{digit} ")).collect(),
    ];
    for typed in blanks {
        let known = node.process.letters().len();
        node.client().request_code(FIRST_ADMINISTRATOR).await.unwrap();
        let code = typed(&node.process.newest_code(known).await.unwrap());
        let body = json!({ "method": "otp", "email": FIRST_ADMINISTRATOR, "token": code });
        let answer = node.client().request_json(Method::POST, "/auth/sessions", Some(&body)).await.unwrap();
        assert_eq!(answer.0, 201, "{code:?}: {}", answer.1);
    }
}
