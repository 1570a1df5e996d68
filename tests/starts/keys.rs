//! Starts with a missing or another key, and keys that may go.

use super::*;

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
        ann.ask_for(200, Method::GET, path, Value::Null).await;
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
async fn the_oldest_wrapping_key_may_be_removed_where_nothing_was_ever_encrypted() {
    let mut node = started(Engine::Sqlite).await;
    node.process.run(&["secrets", "rotate"]).await.unwrap();
    node.process.stop().await.unwrap();
    let file = node.process.folder().join("wrap.keys");
    let ring = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, ring.trim().split_once('\n').unwrap().0).unwrap();
    node.process.start().await.unwrap();
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
