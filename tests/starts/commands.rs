//! Commands before the first start, in the wrong folder, and around backups.

use super::*;

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
async fn accounts_made_before_the_first_start_do_not_keep_it_from_starting() {
    let create = ["user", "create", "--email", "a@b.example", "--first-name", "A", "--last-name", "B"];
    for engine in Engine::all() {
        for init in [false, true] {
            let mut node = prepared(engine);
            node.process.run(&["db", "migrate"]).await.unwrap();
            let words: Vec<&str> = create.into_iter().chain(init.then_some("--init")).collect();
            node.process.run(&words).await.unwrap();
            node.process.start().await.unwrap();
            assert!(node.process.run(&["user", "list"]).await.unwrap().contains("a@b.example"));
            assert!(!is_paused(&node).await, "{engine:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_goes_to_postgresql_by_any_way_is_noticed_on_a_new_folder() {
    let Some(server) = shared_server() else { return };
    let mut node = started(Engine::Sqlite).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let backup = elsewhere.path().join("backup.db");
    let backup = backup.to_str().unwrap();
    node.process.run(&["backup", "create", backup]).await.unwrap();
    node.process.stop().await.unwrap();
    let keys = node.process.folder().to_owned();
    let origin = node.process.origin();
    for directly in [true, false] {
        let database = server.new_database();
        let on_database = [("VELLUM_HTTP__ORIGIN", origin.as_str()), (URL, &database)];
        let mut moved = TestNode::prepared(&on_database);
        let restore = ["backup", "restore", backup, "--keys", keys.to_str().unwrap()];
        if directly {
            moved.process.run(&restore).await.unwrap();
        } else {
            // As a backup of an earlier version goes.
            let file = Engine::Sqlite.nowhere(elsewhere.path());
            moved.process.set(URL, &file);
            moved.process.run(&restore).await.unwrap();
            moved.process.run(&["db", "migrate"]).await.unwrap();
            moved.process.run(&["db", "copy", "--from", &file, "--to", &database]).await.unwrap();
            moved.process.set(URL, &database);
        }
        moved.process.start().await.unwrap();
        assert!(is_paused(&moved).await, "directly: {directly}");
        moved.process.run(&["queue", "resume"]).await.unwrap();
        let mut replica = TestNode::prepared(&on_database);
        std::fs::create_dir_all(replica.process.folder()).unwrap();
        for name in ["server.key", "wrap.keys"] {
            std::fs::copy(keys.join(name), replica.process.folder().join(name)).unwrap();
        }
        replica.process.start().await.unwrap();
        assert!(!is_paused(&replica).await, "a later replica is a new node");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_from_before_the_folders_first_start_is_put_back() {
    for engine in Engine::all() {
        let mut node = started(engine).await;
        let elsewhere = tempfile::tempdir().unwrap();
        let backup = elsewhere.path().join("backup.db");
        let backup = backup.to_str().unwrap();
        node.process.run(&["backup", "create", backup]).await.unwrap();
        node.process.stop().await.unwrap();
        // The folder begins anew, later than the backup.
        std::fs::remove_file(node.process.folder().join("epoch")).unwrap();
        node.process.start().await.unwrap();
        node.process.stop().await.unwrap();
        let _ = lose_database(engine, &mut node, elsewhere.path());
        node.process.run(&["backup", "restore", backup]).await.unwrap();
        let key = std::fs::read(node.process.folder().join("server.key")).unwrap();
        std::fs::remove_file(node.process.folder().join("server.key")).unwrap();
        assert_says(&refusal(&mut node, "keys").await, &["server.key is missing"]);
        std::fs::write(node.process.folder().join("server.key"), key).unwrap();
        node.process.start().await.unwrap();
        assert!(is_paused(&node).await, "{engine:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_says_that_it_has_no_keys_and_a_restore_takes_them_or_says_what_is_missing() {
    let mut node = started(Engine::Sqlite).await;
    get_wrap_secret(&node.person("ann").await).await;
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
