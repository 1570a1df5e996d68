//! What is counted and timed, and who may read it.

use std::collections::BTreeSet;

use reqwest::Method;
use reqwest::header::AUTHORIZATION;
use serde_json::json;
use vellum::node::FIRST_ADMINISTRATOR;
use vellum_test_database::{Engine, engine, shared_server};

use crate::support::{Fault, FaultProxy, Peer, TestNode, now, plain_http, run_tool, wait_for};

pub async fn scrape(node: &TestNode) -> String {
    let answer = plain_http().get(format!("{}/metrics", node.process.origin())).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.text().await.unwrap()
}

/// The value of a series.
pub fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(&format!("{series} ")))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

/// A node that has delivered something, and taken something in.
async fn busy_node() -> TestNode {
    let node = TestNode::start().await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let bob = peer.user("bob");
    peer.invite(&bob, &ann.handle()).await;
    ann.accept(&bob.handle).await;
    wait_for("the accept has arrived", || async { peer.received() }, |seen| !seen.is_empty()).await;
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_envelopes_and_requests_are_counted() {
    let node = busy_node().await;
    let is_counted =
        |text: &String| value(text, "vellum_delivery_attempts_total{outcome=\"delivered\"}") > Some(0.0);
    let text = wait_for("the delivery is counted", || scrape(&node), is_counted).await;
    assert_eq!(value(&text, "vellum_delivery_attempts_total{outcome=\"delivered\"}"), Some(1.0));
    assert_eq!(value(&text, "vellum_inbox_envelopes_total{result=\"accepted\"}"), Some(1.0));
    assert_eq!(value(&text, "vellum_queue_rows{state=\"queued\"}"), Some(0.0));
    assert_eq!(value(&text, "vellum_peers{breaker=\"closed\"}"), Some(1.0));
    assert!(value(&text, "vellum_database_group_seconds_count").unwrap() > 1.0);
    let inbox = "vellum_http_requests_total{method=\"POST\",route=\"/federation/inbox\",status=\"202\"}";
    assert_eq!(value(&text, inbox), Some(1.0));
    assert!(!text.contains("ann") && !text.contains("bob"), "nobody's name");
    assert!(!text.contains("localhost:"), "nobody's address: {text}");
}

/// How many statements the database was sent while `work` was done, without those of the scrapes.
async fn statements_of(node: &TestNode, work: impl Future<Output = ()>) -> f64 {
    let count = async || value(&scrape(node).await, "vellum_database_statements_total").unwrap();
    let (first, second) = (count().await, count().await);
    work.await;
    count().await - second - (second - first)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_queues_nothing_wakes_no_delivery_which_would_look_at_the_queue() {
    const WRITES: u32 = 40;
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    let statements = statements_of(&node, async {
        for n in 0..WRITES {
            let language = if n % 2 == 0 { "en" } else { "de" };
            let preferences = json!({ "language": language });
            ann.ask_for(200, Method::PUT, "/users/me/preferences", preferences).await;
        }
    })
    .await;
    // The session, the preferences and the change; on PostgreSQL the transaction, too.
    let own = if engine() == Engine::Postgres { 6.0 } else { 3.0 };
    let each = statements / f64::from(WRITES);
    assert!((own..own + 0.5).contains(&each), "{each} statements for each write, not {own}");
}

/// The names of all series, without their labels.
fn names(text: &str) -> BTreeSet<&str> {
    let series = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    series.filter_map(|line| line.split(['{', ' ']).next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_there_from_the_start_with_its_help_and_its_type() {
    let fresh = TestNode::start().await;
    let first = scrape(&fresh).await;
    let busy = scrape(&busy_node().await).await;
    let late: Vec<_> = names(&busy).difference(&names(&first)).copied().map(str::to_owned).collect();
    assert!(late.is_empty(), "these are not there at the first scrape: {late:?}");
    for name in names(&first) {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let is_described = |family: &str| {
            let has = |kind: &str| first.lines().any(|line| line.starts_with(&format!("# {kind} {family} ")));
            has("HELP") && has("TYPE")
        };
        assert!(is_described(family.unwrap_or(name)), "{name} has no HELP or no TYPE:\n{first}");
    }
    for (series, at_first) in [
        ("vellum_delivery_attempts_total{outcome=\"unreachable\"}", 0.0),
        ("vellum_inbox_envelopes_total{result=\"server_authentication\"}", 0.0),
        ("vellum_http_requests_total{method=\"GET\",route=\"/metrics\",status=\"200\"}", 0.0),
        ("vellum_delivery_latency_seconds_count", 0.0),
        ("vellum_mail_sent_total", 0.0),
        ("vellum_mail_failed_total", 0.0),
        ("vellum_mail_waiting", 0.0),
        ("vellum_mail_oldest_seconds", 0.0),
        ("vellum_peers{breaker=\"open\"}", 0.0),
        ("vellum_queue_rows{state=\"rejected\"}", 0.0),
        ("vellum_database_up", 1.0),
    ] {
        assert_eq!(value(&first, series), Some(at_first), "{series} in\n{first}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboard_and_alerts_name_only_metrics_that_a_fresh_node_has() {
    let text = scrape(&TestNode::start().await).await;
    let there = names(&text);
    let docs = [
        include_str!("../docs/operations/alerts.yaml"),
        include_str!("../docs/operations/grafana-dashboard.json"),
        include_str!("../docs/operations/monitoring.md"),
    ];
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = docs.iter().flat_map(|doc| doc.split(|letter| !is_part(letter)));
    let named: BTreeSet<&str> =
        words.filter(|word| word.starts_with("vellum_") || word.starts_with("process_")).collect();
    assert!(named.len() > 25, "{named:?}");
    for name in &named {
        // The page names a histogram by its family.
        let is_there = there.contains(name) || there.contains(format!("{name}_bucket").as_str());
        assert!(is_there, "{name} is not among {there:?}");
    }
    let page = include_str!("../docs/operations/monitoring.md");
    for name in there {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let family = family.unwrap_or(name);
        assert!(page.contains(&format!("`{family}`")), "docs/operations/monitoring.md lacks {family}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing_to_say_about_a_scrape() {
    if run_tool("promtool", &["--version"], "prometheus").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, node) in [("fresh", TestNode::start().await), ("busy", busy_node().await)] {
        let (file, text) = (folder.path().join(name), scrape(&node).await);
        std::fs::write(&file, &text).unwrap();
        let mut check = std::process::Command::new("promtool");
        let check = check.args(["check", "metrics"]).stdin(std::fs::File::open(&file).unwrap());
        let checked = check.output().unwrap();
        assert!(checked.status.success(), "{name}: {checked:?}\n{text}");
        assert!(checked.stderr.is_empty(), "{name}: {}\n{text}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[tokio::test]
async fn values_of_the_machine_and_of_the_accounts_are_right() {
    let started = now().0 as f64 / 1000.0;
    let node = TestNode::start().await;
    let series = |name: &str| {
        let (node, name) = (&node, name.to_owned());
        async move { value(&scrape(node).await, &name).unwrap_or_else(|| panic!("{name} is not there")) }
    };
    let version = format!("vellum_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(series(&version).await, 1.0);
    assert_eq!(
        (series("vellum_users").await, series("vellum_sessions").await),
        (1.0, 0.0),
        "the administrator"
    );
    node.person("ann").await;
    let mut bob = node.person("bob").await;
    assert_eq!((series("vellum_users").await, series("vellum_sessions").await), (3.0, 2.0));
    bob.client.sign_out().await.unwrap();
    assert_eq!((series("vellum_users").await, series("vellum_sessions").await), (3.0, 1.0));

    let disk = rustix::fs::statvfs(node.process.folder()).unwrap();
    let (free, size) = (series("vellum_disk_free_bytes").await, disk.f_blocks as f64 * disk.f_frsize as f64);
    assert!(0.0 < free && free < size, "{free} of {size} bytes are free");
    let start = series("process_start_time_seconds").await;
    assert!((started..=now().0 as f64 / 1000.0).contains(&start), "the process started at {start}");
    for (name, least, most) in [
        ("process_cpu_seconds_total", 0.001, 600.0),
        ("process_resident_memory_bytes", 1e6, 1e9),
        ("process_virtual_memory_bytes", 1e6, 1e12),
        ("process_threads", 3.0, 1000.0),
        ("process_open_fds", 5.0, 1000.0),
        ("process_max_fds", 100.0, 1e10),
    ] {
        let seen = series(name).await;
        assert!((least..most).contains(&seen), "{name} is {seen}, not from {least} to {most}");
    }
}

/// Whatever happens to the database: refused, silent, or there again.
#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_is_answered_without_the_database() {
    let Some(server) = shared_server() else { return };
    let (proxy, address) = (FaultProxy::start().await, server.new_database());
    let (_, rest) = address.split_once('@').unwrap();
    let (place, name) = rest.split_once('/').unwrap();
    proxy.lead_to(place);
    let port = proxy.origin().rsplit_once(':').unwrap().1.to_owned();
    let through = address.replace(rest, &format!("127.0.0.1:{port}/{name}"));
    let node = TestNode::start_with(&[("VELLUM_DATABASE__URL", &through)]).await;
    node.person("ann").await;
    let well = scrape(&node).await;
    assert_eq!((value(&well, "vellum_database_up"), value(&well, "vellum_users")), (Some(1.0), Some(2.0)));

    let is = async |up: f64| {
        let what = format!("vellum_database_up is {up}");
        wait_for(&what, || scrape(&node), |text| value(text, "vellum_database_up") == Some(up)).await
    };
    proxy.set(Fault::Hang).await;
    let silent = is(0.0).await;
    assert_eq!(value(&silent, "vellum_users"), Some(2.0), "the last known value");
    proxy.go_away().await;
    is(0.0).await;
    proxy.come_back().await;
    proxy.set(Fault::None).await;
    let again = is(1.0).await;
    assert_eq!(names(&silent), names(&again), "the same metrics, with the database and without");
}

/// The rules, with every expression replaced.
fn rules_with(expression: &str) -> String {
    let mut rules = String::new();
    let mut is_dropped = false;
    for line in include_str!("../docs/operations/alerts.yaml").lines() {
        let field = line.trim_start();
        if field.starts_with("expr:") {
            rules += &format!("        expr: {expression}\n        for: 0m\n");
            is_dropped = true;
        } else if field.starts_with("for:") {
            is_dropped = false;
        } else if field.starts_with("labels:") || !is_dropped {
            is_dropped = false;
            rules += &format!("{line}\n");
        }
    }
    rules
}

/// The rules pass their test. And each alert is in it both ways: rules that never fire, and rules
/// that always do, fail it for every alert.
#[test]
fn each_alert_is_proven_to_fire_and_to_stay_silent() {
    let folder = tempfile::tempdir().unwrap();
    let test = folder.path().join("alerts.test.yaml");
    std::fs::write(&test, include_str!("../docs/operations/alerts.test.yaml")).unwrap();
    let file = folder.path().join("alerts.yaml");
    let run = |command: &str, rules: &str| {
        std::fs::write(&file, rules).unwrap();
        let on = if command == "test" { &test } else { &file };
        let output = run_tool("promtool", &[command, "rules", on.to_str().unwrap()], "prometheus")?;
        let text = [output.stdout, output.stderr].concat();
        Some((output.status.success(), String::from_utf8(text).unwrap()))
    };
    let rules = include_str!("../docs/operations/alerts.yaml");
    let Some((is_well, text)) = run("check", rules) else { return };
    assert!(is_well, "{text}");
    let (is_well, text) = run("test", rules).unwrap();
    assert!(is_well, "{text}");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for (expression, mark, shows) in
        [("vector(1) > 2", "got:[]", "that it fires"), ("vector(1)", "exp:[]", "that it stays silent")]
    {
        let (is_well, text) = run("test", &rules_with(expression)).unwrap();
        assert!(!is_well, "{text}");
        let failures: Vec<&str> = text.split("alertname: ").skip(1).collect();
        for alert in &alerts {
            let is_of = |failure: &&str| failure.starts_with(&format!("{alert},")) && failure.contains(mark);
            assert!(failures.iter().any(is_of), "no test of {alert} shows {shows}:\n{text}");
        }
    }
}

#[test]
fn the_example_of_a_scrape_is_a_configuration_that_prometheus_takes() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations/prometheus.yaml");
    let Some(checked) = run_tool("promtool", &["check", "config", example], "prometheus") else { return };
    assert!(checked.status.success(), "{checked:?}");
}

#[tokio::test]
async fn metrics_are_for_this_machine_and_for_administrators() {
    let node = TestNode::start().await;
    let url = format!("{}/metrics", node.process.origin());
    let from_afar = || plain_http().get(&url).header("x-forwarded-for", "127.0.0.1");
    assert_eq!(from_afar().send().await.unwrap().status(), 401, "a proxy that nobody trusts passed it on");
    let bearer = |token: &str| format!("Bearer {token}");
    let admin = node.token(FIRST_ADMINISTRATOR).await;
    let answer = from_afar().header(AUTHORIZATION, bearer(admin.expose())).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let ann = node.person("ann").await;
    let token = ann.client.token().unwrap();
    let answer = from_afar().header(AUTHORIZATION, bearer(token.expose())).send().await.unwrap();
    assert_eq!(answer.status(), 403);

    let closed = TestNode::start_with(&[("VELLUM_HTTP__METRICS_NETWORKS", "192.0.2.0/24")]).await;
    let url = format!("{}/metrics", closed.process.origin());
    assert_eq!(plain_http().get(url).send().await.unwrap().status(), 401);
}
