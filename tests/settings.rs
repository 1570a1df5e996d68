//! Settings, what is said about those that are wrong, and how the log looks.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use vellum_client::http::Method;

use crate::support::{TestNode, plain_http, wait_for};

fn vellum(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    // A node that starts, against expectation, is ended.
    let mut command = Command::new("timeout");
    command.args(["60", env!("CARGO_BIN_EXE_vellum")]).args(arguments);
    command.envs(environment.iter().copied()).output().unwrap()
}

/// What a command that must fail says, with its exit status.
fn refusal(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = vellum(arguments, environment);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{arguments:?} with {environment:?} is taken");
    (output.status.code(), said)
}

#[test]
fn an_unknown_variable_is_named_in_full() {
    let folder = tempfile::tempdir().unwrap();
    let data = ("VELLUM_DATA_DIR", folder.path().to_str().unwrap());
    for name in ["VELLUM_HTTP__LISTNE", "VELLUM_HTPP__LISTEN", "VELLUM__HTTP__LISTEN", "VELLUM_HTTP__"] {
        let (code, said) = refusal(&["serve"], &[data, (name, "127.0.0.1:0")]);
        assert_eq!(code, Some(2), "{name}: {said}");
        assert!(said.contains(&format!("the environment variable {name}: unknown field")), "{name}: {said}");
    }
    let (code, said) = refusal(&["serve"], &[data, ("VELLUM_LIMITS__ENABLED", "perhaps")]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("VELLUM_LIMITS__ENABLED") && said.contains("limits.enabled"), "{said}");
}

#[tokio::test]
async fn variables_of_others_are_ignored() {
    // What Kubernetes sets for a service called vellum.
    let others = [
        ("VELLUM_PORT", "tcp://10.0.0.1:5000"),
        ("VELLUM_SERVICE_HOST", "10.0.0.1"),
        ("VELLUM_SERVICE_PORT", "5000"),
        ("VELLUM_PORT_5000_TCP_ADDR", "10.0.0.1"),
        ("VELLUM_HTTP", "x"),
    ];
    TestNode::start_with(&others).await;
    // Names and values need not even be text.
    let folder = tempfile::tempdir().unwrap();
    let bad = std::ffi::OsStr::from_bytes(b"\xff");
    let mut command = Command::new(env!("CARGO_BIN_EXE_vellum"));
    command.args(["serve", "--data-dir"]).arg(folder.path()).env("VELLUM_HTTP__LISTEN", "nowhere");
    let output = command.env("VELLUM_PORT", bad).env(bad, bad).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("http.listen is wrong"), "{said}");
    let output = command.env("VELLUM_HTTP__ORIGIN", bad).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(2) && said.contains("VELLUM_HTTP__ORIGIN is not valid UTF-8"),
        "{said}"
    );
}

#[test]
fn vellum_config_is_documented_and_is_read_where_no_flag_is_given() {
    for arguments in [&["--help"][..], &["user", "--help"], &["serve", "--help"]] {
        let help = String::from_utf8(vellum(arguments, &[]).stdout).unwrap();
        assert!(help.contains("VELLUM_CONFIG"), "{arguments:?}: {help}");
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(
        std::fs::read_to_string(repository.join("config/default.toml")).unwrap().contains("VELLUM_CONFIG")
    );
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, listen: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("[http]\nlisten = \"{listen}\"\n")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (named, flag) = (file("named.toml", "by the variable"), file("flag.toml", "by the flag"));
    let data = ("VELLUM_DATA_DIR", folder.path().to_str().unwrap());
    let environment = [data, ("VELLUM_CONFIG", named.as_str())];
    assert!(refusal(&["serve"], &environment).1.contains("by the variable"));
    assert!(refusal(&["serve", "--config", &flag], &environment).1.contains("by the flag"));
}

/// Every message about a file names the file.
#[test]
fn a_file_that_cannot_be_used_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let at = |name: &str| parent.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, text: &[u8]| {
        let path = at(name);
        std::fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    };
    // The file with settings.
    for path in [
        at("missing.toml"),
        parent.path().to_str().unwrap().to_owned(),
        write("no.toml", b"[http\n"),
        write("unknown.toml", b"[http]\nlistne = 1\n"),
        write("bytes.toml", b"\xff"),
    ] {
        let (code, said) = refusal(&["serve", "--config", &path], &[]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(&format!("{path}: ")), "the file {path} is not named: {said}");
    }
    // The data folder, and the files in it.
    write("plain", b"a file");
    write("keyed/server.key", b"no key");
    write("wrapped/wrap.keys", b"no key");
    std::fs::create_dir_all(at("linked")).unwrap();
    std::os::unix::fs::symlink("/nowhere/else", at("linked/vellum.db.lock")).unwrap();
    for (folder, named) in [
        ("plain", "plain"),
        ("plain/beneath", "plain/beneath"),
        ("keyed", "keyed/server.key"),
        ("wrapped", "wrapped/wrap.keys"),
        ("linked", "linked/vellum.db.lock"),
    ] {
        let environment = [("VELLUM_DATA_DIR", at(folder)), ("VELLUM_HTTP__LISTEN", "127.0.0.1:0".into())];
        let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
        let (code, said) = refusal(&["serve"], &environment);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&at(named)), "{named} is not named: {said}");
    }
    // The database.
    let data = at("data");
    for path in [
        write("no-database", b"this is no database, and long enough to be looked at as one"),
        at("no/folder/vellum.db"),
        parent.path().to_str().unwrap().to_owned(),
    ] {
        let url = format!("sqlite://{path}");
        let environment = [
            ("VELLUM_DATA_DIR", data.as_str()),
            ("VELLUM_DATABASE__URL", url.as_str()),
            ("VELLUM_HTTP__LISTEN", "127.0.0.1:0"),
        ];
        for command in [&["serve"][..], &["db", "migrate"], &["db", "status"]] {
            if command == ["db", "status"] && !Path::new(&path).exists() {
                continue;
            }
            let (code, said) = refusal(command, &environment);
            assert_eq!(code, Some(1), "{command:?}: {said}");
            assert!(said.contains(&path), "{command:?}: the file {path} is not named: {said}");
        }
    }
}

#[tokio::test]
async fn an_address_in_use_is_named_with_its_setting() {
    let node = TestNode::start().await;
    let address = format!("127.0.0.1:{}", node.process.port());
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let (code, said) = refusal(&["serve"], &[("VELLUM_DATA_DIR", data), ("VELLUM_HTTP__LISTEN", &address)]);
    assert_eq!(code, Some(1), "{said}");
    for words in ["http.listen", &address, "in use"] {
        assert!(said.contains(words), "{words} is missing: {said}");
    }
}

/// From the first start to the end.
#[tokio::test]
async fn without_a_terminal_every_line_of_the_log_is_json() {
    let mut node = TestNode::start().await;
    node.process.stop().await.unwrap();
    let log = std::fs::read_to_string(node.process.log_path()).unwrap();
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(entry["level"].is_string() && entry["timestamp"].is_string(), "{line}");
    }
    let first = log.lines().find(|line| line.contains("first start")).unwrap();
    let first: Value = serde_json::from_str(first).unwrap();
    assert_eq!(first["origin"], node.process.origin(), "{first}");
    assert!(first["message"].as_str().unwrap().contains("vellum user session --email"), "{first}");
}

#[tokio::test]
async fn on_a_terminal_the_log_is_for_people() {
    let folder = tempfile::tempdir().unwrap();
    // `script` runs a command on a terminal of its own.
    let serve = "echo pid $$; exec \"$VELLUM\" serve";
    let mut command = tokio::process::Command::new("script");
    command.args(["-qfec", serve, "/dev/null"]).env("VELLUM", env!("CARGO_BIN_EXE_vellum"));
    command.env("VELLUM_DATA_DIR", folder.path()).env("VELLUM_HTTP__LISTEN", "127.0.0.1:0");
    command.env("SHELL", "/bin/sh").stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let Ok(mut script) = command.spawn() else {
        eprintln!("SKIPPED: no log was shown on a terminal, since there is no program script (util-linux)");
        return;
    };
    let mut output = BufReader::new(script.stdout.take().unwrap());
    let (mut shown, mut pid) = (String::new(), String::new());
    while !shown.contains("listening on http://") {
        let mut line = String::new();
        assert!(output.read_line(&mut line).await.unwrap() > 0, "the node does not start: {shown}");
        pid = line.trim().strip_prefix("pid ").map_or(pid, str::to_owned);
        shown += &line;
    }
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    output.read_to_string(&mut shown).await.unwrap();
    script.wait().await.unwrap();
    assert!(shown.contains("INFO") && shown.contains("This is the node's first start."), "{shown}");
    assert!(shown.contains("stopping"), "{shown}");
    let json = shown.lines().find(|line| line.trim_start().starts_with('{'));
    assert_eq!(json, None, "a line for programs");
}

#[tokio::test]
async fn sighup_does_not_end_the_node() {
    let node = TestNode::start().await;
    let pid = node.process.pid().unwrap().to_string();
    for times in 1..=2 {
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
        wait_for(
            "the log says so",
            || async { std::fs::read_to_string(node.process.log_path()).unwrap() },
            |log| log.matches("SIGHUP ignored").count() == times,
        )
        .await;
        let answer = node.client().request_json(Method::GET, "/health/live", None).await.unwrap();
        assert_eq!(answer.0, 200);
    }
    assert_eq!(node.process.pid().unwrap().to_string(), pid);
}

#[test]
fn a_failed_start_says_why_once_and_in_the_logs_format() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let settings = [("VELLUM_DATA_DIR", folder.path().to_str().unwrap()), ("VELLUM_HTTP__LISTEN", &listen)];
    let (code, said) = refusal(&["serve"], &settings);
    let lines: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect();
    let last = lines.last().unwrap();
    assert_eq!((code, &last["message"]), (Some(1), &"node not started".into()), "{said}");
    assert!(last["error"].as_str().unwrap().contains("http.listen"), "{said}");
    assert_eq!(said.matches("http.listen").count(), 1, "{said}");

    let (code, said) = refusal(&["serve"], &[settings[0], settings[1], ("VELLUM_LOG__FORMAT", "pretty")]);
    let (last, said_once) = (said.lines().last().unwrap(), said.matches("http.listen").count());
    assert!(code == Some(1) && last.starts_with("vellum: ") && said_once == 1, "{said}");
}

#[tokio::test]
async fn an_entry_of_the_log_has_its_span_once() {
    let node = TestNode::start_with(&[("VELLUM_LOG__FILTER", "debug")]).await;
    let ann = node.person("ann").await;
    let answer = plain_http()
        .get(format!("{}/users/me/identity", node.process.origin()))
        .bearer_auth(ann.client.token().unwrap().expose())
        .header("user-agent", "counted once")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let log = std::fs::read_to_string(node.process.log_path()).unwrap();
    let mut in_spans = 0;
    for line in log.lines() {
        for field in ["\"http.user_agent\":", "\"request_id\":", "\"command\":", "\"name\":"] {
            let times = line.matches(field).count();
            assert!(times <= 1, "{field} stands {times} times in {line}");
            in_spans += times;
        }
    }
    assert!(in_spans > 0, "some entries are within a span: {log}");
}

/// The command of the Debian package, with a stub in the place of the program.
#[test]
fn the_packages_command_uses_the_packaged_settings_as_the_nodes_user() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let executable = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let program = executable("program", "#!/bin/sh\necho \"$(id -un)|$VELLUM_CONFIG|$*\"\n");
    let packaged = concat!(env!("CARGO_MANIFEST_DIR"), "/config/debian/vellum");
    let text = std::fs::read_to_string(packaged).unwrap();
    assert!(std::fs::metadata(packaged).unwrap().permissions().mode() & 0o111 != 0, "it can be run");
    let stub = text.replace("program=/usr/lib/vellum/vellum", &format!("program={program}"));
    let stub = executable("vellum", &stub.replace("user=vellum", "user=nobody"));
    let run = |arguments: &[&str], environment: &[(&str, &str)]| {
        let output = Command::new(&stub).args(arguments).envs(environment.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let id = Command::new("id").arg("-un").output().unwrap().stdout;
    let me = String::from_utf8(id).unwrap().trim().to_owned();
    let node = if me == "root" { "nobody" } else { me.as_str() };
    let packaged = "/etc/vellum/vellum.toml";
    let listed = run(&["user", "list", "--json", "a b"], &[]);
    assert_eq!(listed, format!("{node}|{packaged}|user list --json a b"));
    for arguments in [&["--config", "x.toml", "user", "list"][..], &["user", "list", "--data-dir=/x"]] {
        assert_eq!(run(arguments, &[]), format!("{me}||{}", arguments.join(" ")));
    }
    assert_eq!(run(&["doctor"], &[("VELLUM_CONFIG", "/own.toml")]), format!("{me}|/own.toml|doctor"));
    assert_eq!(run(&["doctor"], &[("VELLUM_DATA_DIR", "/own")]), format!("{me}||doctor"));
    // The unit and the package agree with it.
    let file =
        |name: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    assert!(
        file("config/systemd/vellum.service").contains(&format!("/usr/bin/vellum serve --config {packaged}"))
    );
    let manifest = file("Cargo.toml");
    assert!(manifest.contains("\"target/release/vellum\", \"usr/lib/vellum/\""), "the program's place");
    assert!(manifest.contains("\"config/debian/vellum\", \"usr/bin/\""), "the command's place");
}
