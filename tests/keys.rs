//! The files with the node's keys, when several processes work on them.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;

use futures_util::future::join_all;
use serde_json::Value;
use vellum_client::http::Method;

use crate::support::TestNode;

/// Names of what lies in the data folder and belongs to no file there.
fn drafts(node: &TestNode) -> Vec<String> {
    let entries = std::fs::read_dir(node.process.folder()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.') || name.ends_with(".new")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_side_by_side_lose_no_key_and_leave_no_draft() {
    const ROTATIONS: usize = 8;
    let mut node = TestNode::start().await;
    let ann = node.person("ann").await;
    let secret = |device: usize| {
        let ann = &ann;
        async move {
            let path = format!("/users/me/devices/device-{device}/wrap-secret");
            let (status, answer) = ann.ask(Method::GET, &path, Value::Null).await;
            assert_eq!(status, 200, "device {device}: {answer}");
            answer
        }
    };
    let before = secret(0).await;
    let rotations = join_all((0..ROTATIONS).map(|_| node.process.run(&["secrets", "rotate"])));
    let storing = join_all((1..20).map(secret));
    let (rotated, stored) = tokio::join!(rotations, storing);
    for told in rotated {
        told.unwrap();
    }
    let file = node.process.folder().join("wrap.keys");
    let text = std::fs::read_to_string(&file).unwrap();
    let keys: HashSet<&str> = text.lines().collect();
    assert_eq!(keys.len(), 1 + ROTATIONS, "every key is there once: {} lines", text.lines().count());
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // A running node may just be writing its file "epoch".
    node.process.stop().await.unwrap();
    assert_eq!(drafts(&node), Vec::<String>::new());
    node.process.start().await.unwrap();
    assert_eq!(secret(0).await, before);
    for (device, known) in (1..20).zip(stored) {
        assert_eq!(secret(device).await, known, "device {device}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_side_by_side_in_a_new_folder_have_one_server_key() {
    let home = TestNode::prepared(&[]);
    let folder = home.process.folder().to_str().unwrap().to_owned();
    let elsewhere = tempfile::tempdir().unwrap();
    let mut nodes: Vec<TestNode> = (0..4)
        .map(|n| {
            let url = format!("sqlite://{}", elsewhere.path().join(format!("{n}.db")).display());
            TestNode::prepared(&[
                ("VELLUM_DATABASE__URL", url.as_str()),
                ("VELLUM_DATA_DIR", folder.as_str()),
            ])
        })
        .collect();
    // A folder that several databases share is what this flag is for.
    let accepted = ["--accept-database"];
    for started in join_all(nodes.iter_mut().map(|node| node.process.start_with(&accepted))).await {
        started.unwrap();
    }
    let mut keys = HashSet::new();
    for node in &nodes {
        keys.insert(node.client().manifest().await.unwrap().public_key.to_base64());
    }
    assert_eq!(keys.len(), 1, "they show different keys: {keys:?}");
    for node in &mut nodes {
        node.process.stop().await.unwrap();
        node.process.start_with(&accepted).await.unwrap();
        keys.insert(node.client().manifest().await.unwrap().public_key.to_base64());
        node.process.stop().await.unwrap();
    }
    assert_eq!(keys.len(), 1, "and another one after a restart: {keys:?}");
    assert_eq!(drafts(&home), Vec::<String>::new());
    let text = std::fs::read_to_string(home.process.folder().join("wrap.keys")).unwrap();
    assert_eq!(text.lines().count(), 1, "there is one wrapping key");
}
