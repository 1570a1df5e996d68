//! Trying rows: sends what they make necessary, and compares.

use std::collections::BTreeSet;
use std::sync::Arc;

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde_json::Value;

use super::cases::{Case, Request, good, refused};
use super::row::Row;
use super::scene::{Scene, Stage};

/// An answer as far as it matters here.
struct Answer {
    status: u16,
    content_type: String,
    body: Value,
}

/// Tries every row, and fails with everything that did not hold.
pub async fn hold(rows: Vec<Row>) {
    assert!(!rows.is_empty());
    let scene = Scene::set().await;
    let mut broken = Vec::new();
    let mut tried = 0;
    for row in rows {
        tried += try_row(&scene, &row, &mut broken).await;
    }
    assert!(broken.is_empty(), "{} of {tried} requests:\n{}", broken.len(), broken.join("\n"));
}

/// Returns how many requests it made.
async fn try_row(scene: &Arc<Scene>, row: &Row, broken: &mut Vec<String>) -> usize {
    let stage = Stage::of(scene, row).await;
    let given = (row.given)(&stage).await;
    let good = good(row, &given, &stage.me);
    let cases = refused(row, &given, &good, &stage.me, &scene.powerless);
    let tried = cases.len() + 1;
    let mut before = scene.database.snapshot().await;
    for case in cases {
        let answer = send(scene, &case.request).await;
        let after = scene.database.snapshot().await;
        let mut wrong = refusal(&case, &answer);
        let changed = before.difference(&after).into_iter();
        // A wrong code costs a write even where it does not count; nobody reads that row.
        let changed = changed.filter(|row| !(row.contains("wrong_codes:") && row.contains("uncounted ")));
        wrong.extend(changed.map(|row| format!("changed: {row}")));
        before = after;
        broken.extend(wrong.into_iter().map(|wrong| format!("{}, {}: {wrong}", row.name(), case.what)));
    }
    let answer = send(scene, &good).await;
    let changed = !before.difference(&scene.database.snapshot().await).is_empty();
    let mut wrong = success(row, &answer);
    if changed != row.changes {
        wrong.push(format!("changed something: {changed}"));
    }
    broken.extend(wrong.into_iter().map(|wrong| format!("{}, done right: {wrong}", row.name())));
    tried
}

async fn send(scene: &Scene, request: &Request) -> Answer {
    let url = format!("{}{}", scene.node.process.origin(), request.path);
    let mut sent = scene.http.request(request.method.clone(), url);
    if let Some((name, value)) = &request.proof {
        sent = sent.header(name, value);
    }
    if !request.body.is_empty() {
        sent = sent.header(CONTENT_TYPE, "application/json").body(request.body.clone());
    }
    let answer = sent.send().await.unwrap();
    let content_type = answer.headers().get(CONTENT_TYPE).map(HeaderValue::to_str);
    let content_type = content_type.map(|value| value.unwrap().to_owned()).unwrap_or_default();
    let status = answer.status().as_u16();
    let body = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null);
    Answer { status, content_type, body }
}

/// What is wrong with the answer to a request that has to be refused.
fn refusal(case: &Case, answer: &Answer) -> Vec<String> {
    let Answer { status, content_type, body } = answer;
    if *status != case.status || body["code"] != case.code {
        return vec![format!("is not {} {} ({status} {body})", case.status, case.code)];
    }
    let mut wrong = Vec::new();
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            wrong.push(format!("{what} ({status} {body})"));
        }
    };
    expect(content_type == "application/problem+json", "is no problem document");
    expect(body["status"] == *status, "tells another status");
    for member in ["type", "title", "detail", "message", "code"] {
        expect(body[member].as_str().is_some_and(|text| !text.is_empty()), &format!("has no {member}"));
    }
    expect(body["detail"] == body["message"] && body["detail"] == body["error"], "has two stories");
    let errors = body["errors"].as_array().cloned().unwrap_or_default();
    expect(
        errors.iter().all(|error| error["field"].is_string() && error["message"].is_string()),
        "has errors of another form",
    );
    expect(errors.is_empty() == (*status != 422), "names fields with 422 only, and always then");
    let named: BTreeSet<&str> = errors.iter().filter_map(|error| error["field"].as_str()).collect();
    for field in &case.fields {
        expect(named.contains(field.as_str()), &format!("does not name {field}"));
    }
    wrong
}

/// What is wrong with the answer to a good request.
fn success(row: &Row, answer: &Answer) -> Vec<String> {
    let mut wrong = Vec::new();
    let Answer { status, body, .. } = answer;
    if *status != row.status {
        return vec![format!("is not {} ({status} {body})", row.status)];
    }
    if row.shows.is_empty() && !body.is_null() {
        wrong.push(format!("has a body: {body}"));
    }
    for (place, members) in &row.shows {
        let expected: BTreeSet<&str> = members.iter().copied().collect();
        let found = body.pointer(place).and_then(Value::as_object);
        let found: BTreeSet<&str> = found.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        if found != expected {
            wrong.push(format!("\"{place}\" has {found:?}, not {expected:?} ({status} {body})"));
        }
    }
    wrong
}
