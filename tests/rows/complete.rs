//! Whether the table has every endpoint: every path that the node's sources name, with every method that the
//! node says it takes there. And what holds for paths as such: other methods are refused with what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use reqwest::header::ALLOW;
use reqwest::{Method, Response};
use serde_json::Value;

use super::scene::Scene;
use super::table;

/// Paths with tests of their own, since their requests are not made of fields: other nodes' envelopes, what
/// authenticators answer, a transfer's four steps, documents, pages, what Prometheus reads, and a
/// stream that does not end.
const ELSEWHERE: [&str; 7] = [
    "/federation/",
    "/auth/passkeys",
    "/device-transfer",
    "/openapi.json",
    "/docs",
    "/metrics",
    "/users/me/revocations/events",
];

#[test]
fn every_path_in_the_sources_has_a_row() {
    let known: BTreeSet<&str> = table::all().iter().map(|row| row.path).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let mut found = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        if file.is_dir() {
            continue;
        }
        for path in paths_in(&std::fs::read_to_string(&file).unwrap()) {
            let elsewhere = ELSEWHERE.iter().any(|begin| path.starts_with(begin));
            let begins_one = path.ends_with('/') && known.iter().any(|other| other.starts_with(&path));
            let has_a_row = known.contains(path.as_str());
            assert!(elsewhere || begins_one || has_a_row, "{path} in {} has no row", file.display());
            found += usize::from(has_a_row);
        }
    }
    assert!(found >= known.len(), "the sources name {found} paths, the table has {}", known.len());
}

#[test]
fn every_numbered_row_of_the_apis_description_is_in_the_table() {
    let numbers: BTreeSet<u8> = table::all().iter().map(|row| row.number).collect();
    let missing: Vec<u8> = (1..=19).filter(|number| !numbers.contains(number)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Texts in a source that are paths.
fn paths_in(source: &str) -> Vec<String> {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let texts = code.flat_map(|line| line.split('"').skip(1).step_by(2).map(str::to_owned));
    let begins = |text: &String| {
        let mut letters = text.chars();
        letters.next() == Some('/')
            && letters.next().is_some_and(|letter| letter.is_ascii_lowercase() || letter == '.')
    };
    texts.filter(begins).collect()
}

fn methods(answer: &Response) -> BTreeSet<String> {
    let allowed = answer.headers()[ALLOW].to_str().unwrap();
    allowed.split(", ").map(str::to_owned).collect()
}

#[tokio::test]
async fn every_method_of_a_path_has_a_row_and_every_other_is_refused_with_what_there_is() {
    let scene = Scene::set().await;
    let mut table: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for row in table::all() {
        let methods = table.entry(row.path).or_default();
        methods.insert(row.method.to_string());
        if row.head {
            methods.insert("HEAD".into());
        }
    }
    let http = &scene.http;
    let before = scene.database.snapshot().await;
    for (path, mut expected) in table {
        let url = format!("{}{}", scene.node.process.origin(), path.replace(['{', '}'], ""));
        let told = http.request(Method::OPTIONS, &url).send().await.unwrap();
        assert_eq!(told.status(), 204, "{path}");
        expected.insert("OPTIONS".into());
        assert_eq!(methods(&told), expected, "{path}");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            if expected.contains(method) {
                continue;
            }
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let refused = http.request(method.clone(), &url).send().await.unwrap();
            assert_eq!(refused.status(), 405, "{method} {path}");
            assert_eq!(methods(&refused), expected, "{method} {path}");
            let problem: Value = refused.json().await.unwrap();
            assert_eq!(problem["code"], "method_not_allowed", "{method} {path}");
        }
    }
    assert_eq!(before.difference(&scene.database.snapshot().await), Vec::<String>::new());
}
