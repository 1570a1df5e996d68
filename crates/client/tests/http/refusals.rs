//! What the client makes of refusals, silence and nonsense, and that no error carries a token.

use std::time::Duration;

use serde_json::json;
use vellum_client::http::FieldError;
use vellum_client::{ClientError, NodeClient, SessionToken};

use super::{TOKEN, node};
use crate::scripted_node::{Reply, ScriptedNode};

#[tokio::test]
async fn a_problem_is_told_in_full() {
    let body = json!({
        "type": "about:blank", "title": "Conflict", "status": 409, "detail": "someone was faster",
        "message": "someone was faster", "code": "rotation_conflict", "currentKmVersion": 7,
        "errors": [{"field": "alias", "message": "too short"}],
    });
    let (_node, client) = node(vec![Reply::json(409, &body).header("Retry-After", "60")]).await;
    let error = client.set_alias("x").await.unwrap_err();
    let problem = error.problem().unwrap();
    assert_eq!(problem.status, 409);
    assert!(problem.is("rotation_conflict") && error.code() == Some("rotation_conflict"));
    assert_eq!(problem.message.as_deref(), Some("someone was faster"));
    assert_eq!(problem.detail, problem.message);
    assert_eq!(problem.retry_after, Some(Duration::from_secs(60)));
    assert_eq!(problem.errors, [FieldError { field: "alias".into(), message: "too short".into() }]);
    assert_eq!(problem.members["currentKmVersion"], 7);
    let shown = error.to_string();
    assert_eq!(shown, "the node refuses: 409 rotation_conflict: someone was faster; alias: too short");
}

#[tokio::test]
async fn a_refusal_in_other_words_has_a_status_at_least() {
    let odd = json!({"errors": "many", "code": 7});
    let (_node, client) = node(vec![Reply::text(502, "<html>bad gateway"), Reply::json(400, &odd)]).await;
    for status in [502, 400] {
        let error = client.identity().await.unwrap_err();
        let problem = error.problem().unwrap();
        assert_eq!((problem.status, &problem.code, problem.errors.len()), (status, &None, 0));
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (elsewhere, _) = node(vec![Reply::text(200, "")]).await;
    let (_node, client) = node(vec![Reply::text(307, "").header("Location", &elsewhere.origin)]).await;
    assert_eq!(client.identity().await.unwrap_err().problem().unwrap().status, 307);
}

#[tokio::test]
async fn silence_times_out() {
    let node = ScriptedNode::start(vec![Reply::silence()]).await;
    let client = NodeClient::with_timeout(&node.origin, Duration::from_millis(50)).unwrap();
    assert!(matches!(client.identity().await, Err(ClientError::TimedOut)));
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let origin = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let error = NodeClient::new(&origin).unwrap().identity().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable(_)), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_not_understood_is_not_repeated() {
    let replies = vec![
        Reply::json(200, &json!({"token": TOKEN, "user": TOKEN})),
        Reply::json(200, &json!({"token": format!("{TOKEN} {TOKEN}"), "user": {}})),
        Reply::text(200, &format!("\"{TOKEN}")),
        Reply::json(200, &json!({"token": TOKEN})),
    ];
    let (_node, mut client) = node(replies).await;
    for _ in 0..3 {
        let error = client.sign_in_with_code("a@b.example", "00000000").await.unwrap_err();
        assert!(matches!(error, ClientError::UnexpectedAnswer { status: 200, .. }));
        assert!(!format!("{error} {error:?}").contains(TOKEN), "{error:?}");
    }
    let error = client.sign_in_with_code("a@b.example", "00000000").await.unwrap_err();
    assert!(error.to_string().contains("missing field `user`"), "{error}");
}

#[test]
fn a_token_is_visible_ascii() {
    for text in ["", "a b", "a\r\nb", "é"] {
        assert!(SessionToken::new(text.to_owned()).is_err(), "{text:?}");
    }
    assert_eq!(format!("{:?}", SessionToken::new(TOKEN.to_owned()).unwrap()), "SessionToken(..)");
}

#[test]
fn an_origin_is_an_origin() {
    for text in [
        "",
        "localhost:5001",
        "ftp://a.example",
        "http://a.example/x",
        "http://a@b.example",
        "http://a.example?q",
    ] {
        assert!(matches!(NodeClient::new(text), Err(ClientError::BadOrigin)), "{text}");
    }
    assert_eq!(NodeClient::new("http://A.example:80/").unwrap().origin(), "http://a.example");
}
