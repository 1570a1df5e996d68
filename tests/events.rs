//! The stream of a user's revocations: all of them first, each change, and an end.

use std::time::Duration;

use actix_web::web::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use reqwest::header::AUTHORIZATION;
use serde_json::{Value, json};
use vellum_client::http::Method;

use crate::support::{Mood, Peer, Person, TestNode, plain_http};

/// A client of the stream.
pub struct Events {
    bytes: BoxStream<'static, reqwest::Result<Bytes>>,
    text: String,
}

async fn open(origin: &str, person: &Person) -> reqwest::Response {
    let bearer = format!("Bearer {}", person.client.token().unwrap().expose());
    let url = format!("{origin}/users/me/revocations/events");
    plain_http().get(url).header(AUTHORIZATION, bearer).send().await.unwrap()
}

impl Events {
    async fn of(node: &TestNode, person: &Person) -> Self {
        Self::at(&node.process.origin(), person).await
    }

    /// The stream of a person at the node that is reached there.
    pub async fn at(origin: &str, person: &Person) -> Self {
        let answer = open(origin, person).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { bytes: answer.bytes_stream().boxed(), text: String::new() }
    }

    /// The next event, or `None` when the stream has ended.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                if event.starts_with(':') {
                    continue;
                }
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                return Some((field("event: ").to_owned(), serde_json::from_str(field("data: ")).unwrap()));
            }
            self.text += std::str::from_utf8(&self.bytes.next().await?.ok()?).unwrap();
        }
    }

    /// The next event of this name.
    pub async fn next_of(&mut self, wanted: &str) -> Value {
        loop {
            let (name, data) = self.next().await.expect("the stream goes on");
            if name == wanted {
                return data;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_hears_of_every_change_until_the_revocation_is_gone() {
    let node = TestNode::start_with(&[("VELLUM_FEDERATION__RETRY_FIRST_MS", "1500")]).await;
    let (ann, peer) = (node.person("ann").await, Peer::start().await);
    let bob = peer.friend_of(&ann, "bob").await;
    let mut events = Events::of(&node, &ann).await;
    assert_eq!(events.next().await.unwrap(), ("pending".to_owned(), json!({ "revocations": [] })));

    peer.set_mood(Mood::Answers(400, r#"{"message":"not today"}"#.to_owned()));
    ann.client.remove_friend(&bob.handle, Some(&ann.revocation(&bob.handle))).await.unwrap();
    let failed = loop {
        let row = events.next_of("changed").await;
        assert_eq!(row["peerHandle"], bob.handle.as_str());
        if row["attempts"] == 1 {
            break row;
        }
    };
    assert!(failed["lastError"].as_str().unwrap().contains("not today"));
    peer.set_mood(Mood::Well);
    let gone = events.next_of("gone").await;
    assert_eq!((&gone["id"], &gone["peerHandle"]), (&failed["id"], &json!(bob.handle)));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_few_private_and_end_with_the_session() {
    let node = TestNode::start().await;
    let ann = node.person("ann").await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(Events::of(&node, &ann).await);
    }
    let sixth = open(&node.process.origin(), &ann).await;
    assert_eq!(
        (sixth.status().as_u16(), &sixth.json::<Value>().await.unwrap()["code"]),
        (409, &json!("too_many_streams"))
    );
    let nobody = plain_http().get(format!("{}/users/me/revocations/events", node.process.origin()));
    assert_eq!(nobody.send().await.unwrap().status(), 401);

    let mut stream = streams.remove(0);
    assert_eq!(stream.next().await.unwrap().0, "pending");
    ann.ask_for(204, Method::DELETE, "/auth/sessions", Value::Null).await;
    let ended = tokio::time::timeout(Duration::from_secs(2), stream.next()).await;
    assert_eq!(ended.expect("within a look and the time of a busy machine"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_node_ends_its_streams_at_once() {
    let mut node = TestNode::start().await;
    let ann = node.person("ann").await;
    let mut stream = Events::of(&node, &ann).await;
    assert_eq!(stream.next().await.unwrap().0, "pending");
    let (ended, stopped) = tokio::join!(stream.next(), node.process.stop());
    assert_eq!(ended, None);
    stopped.unwrap();
}
