//! What joins the nodes of a test: a transport that serves the other node's documents from its store and
//! hands requests to its inbox, as HTTP would. It can be cut, made to hang, to lose answers, or to answer
//! as something that is no node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::sync::Semaphore;
use vellum_actors::inbox::{self, Inbound, Refusal};
use vellum_actors::node::REVOCATION_WINDOW_MILLIS;
use vellum_actors::peer::{Answer, Transport, TransportError};
use vellum_actors::{Error, Node};
use vellum_protocol::server_request::{
    HEADER_NONCE, HEADER_PROTOCOL_VERSION, HEADER_SERVER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, INBOX_PATH,
};
use vellum_protocol::{Alias, Domain, Json, Manifest, MessageType, SigningKey, UserDocument};

/// How a node is to be reached.
#[derive(Debug, Clone, Default)]
pub enum Mood {
    /// As it should be.
    #[default]
    Up,
    /// Not at all: no document, no envelope.
    Down,
    /// Its documents can be read, but no envelope gets there.
    TakesNothing,
    /// Every request waits here before it arrives.
    Hangs(Hang),
    /// Envelopes arrive, but the answers are lost.
    LosesAnswers,
    /// As it should be, but its manifest says nothing of late revocations.
    WithoutCapabilities,
    /// Somebody with this key answers in its place.
    ShowsKey(Box<SigningKey>),
    /// Something else answers envelopes with this status and body.
    Answers(u16, &'static str),
}

/// Where requests wait until they are let go.
#[derive(Debug, Clone)]
pub struct Hang(Arc<Semaphore>);

impl Hang {
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    pub fn let_go(&self) {
        self.0.add_permits(1_000);
    }
}

#[derive(Default)]
struct Line {
    node: Weak<Node>,
    mood: Mood,
    gets: usize,
    envelopes: Vec<Json>,
}

/// The wire; clones are the same one.
#[derive(Clone, Default)]
pub struct Wire(Arc<Mutex<HashMap<String, Line>>>);

impl Wire {
    pub fn join(&self, node: &Arc<Node>) {
        let line = Line { node: Arc::downgrade(node), ..Line::default() };
        self.0.lock().unwrap().insert(node.domain.folded(), line);
    }

    pub fn set(&self, node: &Node, mood: Mood) {
        self.0.lock().unwrap().get_mut(&node.domain.folded()).unwrap().mood = mood;
    }

    /// Envelopes sent to the node, whether or not they arrived.
    pub fn posted_to(&self, node: &Node) -> Vec<Json> {
        self.0.lock().unwrap()[&node.domain.folded()].envelopes.clone()
    }

    /// How many documents the node was asked for, in vain or not.
    pub fn asked(&self, node: &Node) -> usize {
        self.0.lock().unwrap()[&node.domain.folded()].gets
    }

    /// How many envelopes of this type were sent to the node.
    pub fn count(&self, node: &Node, kind: MessageType) -> usize {
        let is_kind = |sent: &&Json| sent.get("message_type").and_then(Json::as_str) == Some(kind.as_str());
        self.posted_to(node).iter().filter(is_kind).count()
    }

    /// The node at the other end and how it is reached, or why it is not.
    async fn connect(
        &self,
        domain: &Domain,
        note: impl FnOnce(&mut Line) + Send,
    ) -> Result<(Arc<Node>, Mood), TransportError> {
        let (node, mood) = {
            let mut lines = self.0.lock().unwrap();
            let line = lines.get_mut(&domain.folded()).ok_or_else(|| unreachable("no such host"))?;
            note(line);
            (line.node.upgrade().ok_or_else(|| unreachable("gone"))?, line.mood.clone())
        };
        match &mood {
            Mood::Down => return Err(unreachable("connection refused")),
            Mood::Hangs(hang) => hang.0.acquire().await.unwrap().forget(),
            _ => {}
        }
        Ok((node, mood))
    }
}

fn unreachable(why: &str) -> TransportError {
    TransportError::Unreachable(why.into())
}

fn answer(status: u16, body: impl serde::Serialize) -> Answer {
    Answer { status, body: serde_json::to_vec(&body).unwrap(), retry_after: None, max_age: None, date: None }
}

impl Transport for Wire {
    fn get<'a>(&'a self, domain: &'a Domain, path: &'a str) -> BoxFuture<'a, Result<Answer, TransportError>> {
        async move {
            let (node, mood) = self.connect(domain, |line| line.gets += 1).await?;
            if path == "/.well-known/parchment-server" {
                let window = u64::try_from(REVOCATION_WINDOW_MILLIS / 1000).unwrap();
                let key = if let Mood::ShowsKey(key) = &mood { **key } else { node.identity.public() };
                let domain = node.domain.clone();
                let mut manifest = Manifest::of_this_node(domain, key, window);
                if matches!(mood, Mood::WithoutCapabilities) {
                    manifest.capabilities.clear();
                    manifest.revocation_window_seconds = None;
                }
                return Ok(answer(200, manifest));
            }
            let alias = Alias::parse(path.strip_prefix("/.well-known/user/").unwrap()).unwrap();
            let user = node.user_by_alias(&alias).await.unwrap();
            let Some(peer) = user.and_then(|user| node.context.as_peer(&user).ok()) else {
                return Ok(answer(404, json!({ "message": "User not found" })));
            };
            Ok(answer(
                200,
                UserDocument {
                    inbox: format!("https://{}{INBOX_PATH}", node.domain),
                    handle: peer.handle,
                    signing_key: peer.signing_key,
                    encryption_key: peer.encryption_key,
                    name: peer.name,
                    picture: peer.picture,
                },
            ))
        }
        .boxed()
    }

    fn post<'a>(
        &'a self,
        domain: &'a Domain,
        path: &'a str,
        headers: Vec<(&'static str, String)>,
        body: String,
    ) -> BoxFuture<'a, Result<Answer, TransportError>> {
        async move {
            assert_eq!(path, INBOX_PATH);
            let json = Json::parse(body.as_bytes()).unwrap();
            let (node, mood) = self.connect(domain, |line| line.envelopes.push(json)).await?;
            if matches!(mood, Mood::TakesNothing) {
                return Err(unreachable("connection refused"));
            }
            if let Mood::Answers(status, body) = mood {
                return Ok(Answer {
                    status,
                    body: body.into(),
                    retry_after: None,
                    max_age: None,
                    date: None,
                });
            }
            let header = |name| headers.iter().find(|(n, _)| *n == name).unwrap().1.clone();
            let inbound = Inbound {
                server_id: header(HEADER_SERVER_ID),
                protocol_version: header(HEADER_PROTOCOL_VERSION),
                nonce: header(HEADER_NONCE),
                timestamp: header(HEADER_TIMESTAMP),
                signature: header(HEADER_SIGNATURE),
                body: body.into_bytes(),
                client_ip: None,
            };
            let received = inbox::receive(&node, inbound, &()).await;
            if matches!(mood, Mood::LosesAnswers) {
                return Err(TransportError::Broken("on purpose".into()));
            }
            Ok(match received {
                Ok((MessageType::RelationshipRevoke, did)) => {
                    answer(202, json!({ "success": true, "applied": did.applied }))
                }
                Ok((_, did)) => answer(202, json!({ "success": true, "friends": did.friends })),
                Err(Error::Message(refusal)) => {
                    let status = if matches!(refusal, Refusal::Auth(_)) { 401 } else { 400 };
                    answer(status, json!({ "message": refusal.to_string() }))
                }
                Err(error) => answer(503, json!({ "message": error.to_string() })),
            })
        }
        .boxed()
    }
}
