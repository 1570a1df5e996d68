//! How the node speaks to a mail server: what is encrypted, what is never sent in the clear, what
//! the headers say; and `vellum mail test`.

use std::path::PathBuf;
use std::process::Output;

use serde_json::{Value, json};
use vellum_client::http::Method;

use crate::support::{Database, Manners, PostOffice, TestNode, told, wait_for};

const ANN: &str = "ann@people.example";
const STARTTLS: Manners = Manners { starttls: true, implicit_tls: false, auth: false, waits_at: None };
const AUTH: Manners = Manners { auth: true, starttls: false, ..STARTTLS };
const BOTH: Manners = Manners { auth: true, ..STARTTLS };

/// Runs `vellum mail test` with these settings.
async fn mail_test(office: &PostOffice, settings: &[(&str, &str)], arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_vellum"));
    command.args(["mail", "test"]).args(arguments).env("VELLUM_DATA_DIR", folder.path().join("none"));
    command.env("VELLUM_MAIL__SMTP_URL", office.url()).env("VELLUM_HTTP__ORIGIN", "https://node.example");
    let output = command.envs(settings.iter().copied()).output().await.unwrap();
    assert!(!folder.path().join("none").exists(), "it makes no data folder");
    output
}

/// The server's certificate in a file, which goes with the folder.
fn authority(office: &PostOffice) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.crt");
    std::fs::write(&path, office.authority()).unwrap();
    (folder, path)
}

/// Whether all commands after the greeting and STARTTLS were encrypted.
fn is_encrypted(office: &PostOffice) -> bool {
    let begun = ["EHLO", "STARTTLS"];
    let commands = office.commands();
    let rest = commands.iter().filter(|said| !begun.iter().any(|begun| said.line.starts_with(begun)));
    rest.clone().count() > 0 && rest.clone().all(|said| said.encrypted)
}

#[tokio::test]
async fn starttls_is_used_as_the_setting_says() {
    for (mode, manners, goes, encrypted) in [
        (None, STARTTLS, true, true),
        (Some("opportunistic"), STARTTLS, true, true),
        (Some("opportunistic"), Manners::default(), true, false),
        (Some("off"), STARTTLS, true, false),
        (Some("required"), Manners::default(), false, false),
        // Its certificate is its own, and nobody said to trust it.
        (Some("required"), STARTTLS, false, false),
    ] {
        let office = PostOffice::with(manners).await;
        let setting = mode.map(|mode| ("VELLUM_MAIL__STARTTLS", mode));
        let output = mail_test(&office, setting.as_slice(), &[ANN]).await;
        let case = format!("{mode:?}, {manners:?}: {}", told(&output));
        assert_eq!(output.status.code(), Some(i32::from(!goes)), "{case}");
        assert_eq!(office.letters().len(), usize::from(goes), "{case}");
        assert_eq!(is_encrypted(&office), encrypted, "{case}");
        if !goes {
            assert_eq!(office.count("MAIL"), 0, "nobody is named in the clear: {case}");
        }
    }
}

#[tokio::test]
async fn a_certificate_authority_of_ones_own_is_trusted() {
    for manners in [STARTTLS, BOTH, Manners { implicit_tls: true, ..AUTH }] {
        let office = PostOffice::with(manners).await;
        let (_folder, path) = authority(&office);
        let trusted =
            [("VELLUM_MAIL__STARTTLS", "required"), ("VELLUM_MAIL__CA_FILE", path.to_str().unwrap())];
        let output = mail_test(&office, &trusted, &[ANN]).await;
        assert!(output.status.success() && is_encrypted(&office), "{manners:?}: {}", told(&output));
        assert!(told(&output).contains("certificate checked"), "{}", told(&output));
        // Another server's certificate is not that one.
        let (_folder, path) = authority(&PostOffice::with(manners).await);
        let trusted = [("VELLUM_MAIL__CA_FILE", path.to_str().unwrap())];
        let output = mail_test(&office, &trusted, &[ANN]).await;
        assert!(!output.status.success(), "{manners:?}: {}", told(&output));
        assert_eq!(office.letters().len(), 1, "{manners:?}");
    }
    let office = PostOffice::open().await;
    let output = mail_test(&office, &[("VELLUM_MAIL__CA_FILE", "/nowhere/ca.crt")], &[ANN]).await;
    assert!(!output.status.success() && told(&output).contains("/nowhere/ca.crt"), "{}", told(&output));
}

#[tokio::test]
async fn user_and_password_are_never_sent_in_the_clear_over_a_network() {
    for (manners, settings, goes) in [
        (AUTH, [("VELLUM_MAIL__STARTTLS", "opportunistic")], false),
        (BOTH, [("VELLUM_MAIL__STARTTLS", "off")], false),
        // Somebody in between could show any certificate.
        (BOTH, [("VELLUM_MAIL__STARTTLS", "opportunistic")], false),
        (AUTH, [("VELLUM_MAIL__ALLOW_PLAINTEXT", "true")], true),
    ] {
        let Some(office) = PostOffice::elsewhere(manners).await else { return };
        let output = mail_test(&office, &settings, &[ANN]).await;
        let case = format!("{manners:?}, {settings:?}: {}", told(&output));
        assert_eq!(output.status.success(), goes, "{case}");
        assert_eq!(office.count("AUTH"), usize::from(goes), "{case}");
        assert_eq!(office.letters().len(), usize::from(goes), "{case}");
        assert!(!told(&output).contains("hunter2"), "{case}");
    }
    let Some(office) = PostOffice::elsewhere(BOTH).await else { return };
    let (_folder, path) = authority(&office);
    let output = mail_test(&office, &[("VELLUM_MAIL__CA_FILE", path.to_str().unwrap())], &[ANN]).await;
    assert!(output.status.success() && is_encrypted(&office), "{}", told(&output));
    // To this machine itself they may.
    let office = PostOffice::with(AUTH).await;
    assert!(mail_test(&office, &[], &[ANN]).await.status.success() && office.count("AUTH") == 1);
}

#[tokio::test]
async fn a_node_keeps_its_password_and_says_why_no_email_goes() {
    let Some(office) = PostOffice::elsewhere(AUTH).await else { return };
    let node = TestNode::start_with(&[("VELLUM_MAIL__SMTP_URL", &office.url())]).await;
    node.user("ann").await;
    node.client().request_code(ANN).await.unwrap();
    let log = wait_for(
        "the log says so",
        || async { std::fs::read_to_string(node.process.log_path()).unwrap() },
        |log| log.contains("email not sent"),
    )
    .await;
    assert!(log.contains("user and password are not sent in the clear") && !log.contains("hunter2"), "{log}");
    let doctor = node.process.run(&["doctor"]).await.unwrap_err().to_string();
    assert!(doctor.contains("broken"), "{doctor}");
    assert_eq!((office.count("AUTH"), office.letters().len()), (0, 0));
}

#[tokio::test]
async fn an_email_names_the_node_as_its_origin_does() {
    let office = PostOffice::open().await;
    let output = mail_test(&office, &[], &[ANN]).await;
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(office.commands()[0].line, "EHLO node.example");
    let letter = office.letters().remove(0);
    let header = |name: &str| {
        let line = letter.lines().take_while(|line| !line.is_empty()).find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no {name} in {letter}")).to_owned()
    };
    let id = header("Message-ID: <");
    assert!(id.ends_with("@node.example>") && id.len() > 40, "{id}");
    assert!(header("Date: ").ends_with(" +0000"), "{letter}");
    assert!(header("From: ").contains("vellum@localhost") && header("Subject: ").contains("node.example"));
}

#[tokio::test]
async fn mail_test_shows_each_step() {
    let office = PostOffice::with(BOTH).await;
    let output = mail_test(&office, &[], &[ANN]).await;
    let text = told(&output);
    for line in [
        "server ",
        "encryption  STARTTLS",
        "signing in  235",
        "recipient   250",
        "email       250 2.0.0 taken",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    office.answer("RCPT", "550 5.1.1 nobody of that name");
    let output = mail_test(&office, &[], &["--json", ANN]).await;
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["sent"], json!(false), "{answer}");
    assert_eq!(answer["error"], "naming the recipient: 550 5.1.1 nobody of that name", "{answer}");
    assert_eq!(answer["steps"].as_array().unwrap().last().unwrap()["step"], "sender", "{answer}");
    let output = mail_test(&office, &[], &["no address"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert_eq!(office.letters().len(), 1);
}

#[tokio::test]
async fn mail_test_without_a_mail_server_writes_a_file() {
    let node = TestNode::start().await;
    let text = node.process.run(&["mail", "test", ANN]).await.unwrap();
    assert!(text.contains("no mail server is set"), "{text}");
    let letters = node.process.letters();
    assert_eq!(letters.len(), 1);
    assert!(text.contains(letters[0].to_str().unwrap()), "{text}");
}

#[tokio::test]
async fn an_internationalized_domain_goes_out_in_ascii() {
    let office = PostOffice::open().await;
    let node = TestNode::start_with(&[("VELLUM_MAIL__SMTP_URL", &office.url())]).await;
    let email = "kim@bücher.example";
    let create = ["user", "create", "--email", email, "--first-name", "Kim", "--last-name", "Test"];
    node.process.run(&create).await.unwrap();
    node.client().request_code(email).await.unwrap();
    let arrived = wait_for("the email arrives", || async { office.letters() }, |seen| !seen.is_empty());
    let letter = arrived.await.remove(0);
    assert!(letter.contains("To: kim@xn--bcher-kva.example"), "{letter}");
    assert_eq!(office.count("RCPT TO:<kim@xn--bcher-kva.example>"), 1, "{:?}", office.commands());
}

#[tokio::test]
async fn an_address_that_no_email_can_reach_is_refused_when_it_is_given() {
    let node = TestNode::start_with(&[("VELLUM_AUTH__REGISTRATION", "open")]).await;
    let database = Database::of(&node).await;
    for email in ["\"ann lee\"@people.example", "ann@[192.0.2.1]", "ann@192.0.2.1", "änn@people.example"] {
        let body = json!({ "email": email });
        let (status, answer) =
            node.client().request_json(Method::POST, "/auth/verify", Some(&body)).await.unwrap();
        assert_eq!((status, answer["code"].as_str()), (422, Some("validation_failed")), "{email}: {answer}");
        assert!(answer.to_string().contains("must have"), "it says why: {answer}");
        let create = ["user", "create", "--email", email, "--first-name", "Ann", "--last-name", "Test"];
        let refused = node.process.run(&create).await.unwrap_err().to_string();
        assert!(refused.contains("must have"), "{email}: {refused}");
    }
    assert_eq!(database.rows_of("sign_in_codes").await, Vec::<String>::new(), "nothing was sent");
    assert_eq!(database.rows_of("users").await.len(), 1, "only the first administrator");
}
