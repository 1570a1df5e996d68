//! A peer node inside the test: a real server on a real port that speaks the protocol, shows the users it
//! is given, and answers at its inbox as it is told. It shares no code with the nodes under test but the
//! protocol's own crate.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use vellum_client::{MasterSeed, Signer};
use vellum_protocol::server_request::{
    HEADER_NONCE, HEADER_PROTOCOL_VERSION, HEADER_SERVER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, INBOX_PATH,
};
use vellum_protocol::{
    Alias, Domain, Envelope, Handle, Json, JsonObject, MessageType, ReceivedMessage, ServerRequest,
    Signature, SigningSecret, base64,
};

use super::{Person, now};

/// How the peer answers at its inbox.
#[derive(Debug, Clone)]
pub enum Mood {
    /// As a peer should: verifies everything and says `success: true`.
    Well,
    /// With this status and body.
    Answers(u16, String),
    /// With this status, body, and `Retry-After` in seconds.
    AsksForPause(u16, String, u32),
    /// With this status and body, once the test has added a permit for the request.
    Held(Arc<Semaphore>, u16, String),
    /// As it should, after a while that is at most this long.
    Dawdles(Duration),
    /// As it should, after just this long.
    Takes(Duration),
    /// Not for a long time.
    Hangs,
    /// As an existing server: it fetches the manifest for the request, and manifest and user document
    /// for the sender, and refuses the message when it does not get one of them.
    FetchesAll,
}

/// How the peer answers when it is asked for a user's document.
#[derive(Debug, Clone, Copy)]
pub enum Documents {
    /// With the document.
    Shown,
    /// With the document, which may be kept for so many seconds.
    KeptFor(u32),
    /// A byte now and then, without end.
    Drip,
    /// With this status, and a pause of 7 s.
    Refused(u16),
    /// With a part of an answer, after which the connection breaks.
    Broken,
}

struct State {
    domain: Domain,
    secret: Mutex<SigningSecret>,
    users: Mutex<HashMap<String, MasterSeed>>,
    shown: Mutex<HashMap<String, Value>>,
    mood: Mutex<Mood>,
    inbox: Mutex<Vec<Json>>,
    manifest_extra: Mutex<Value>,
    manifest_delay: Mutex<Duration>,
    /// How many requests for the manifest are over.
    manifests_over: AtomicUsize,
    documents: Mutex<Documents>,
    documents_asked: AtomicUsize,
    /// What it has refused because it got no document.
    without_documents: AtomicUsize,
}

/// The peer.
pub struct Peer {
    state: Arc<State>,
}

/// Somebody on the peer.
pub struct PeerUser {
    pub handle: Handle,
    pub signer: Signer,
    secret: SigningSecret,
}

impl PeerUser {
    /// The signing key, base64.
    pub fn key(&self) -> String {
        self.secret.public().to_base64()
    }

    /// An envelope with a nonce of the caller's choice.
    pub fn envelope(&self, kind: MessageType, to: &Handle, payload: JsonObject, nonce: &str) -> Envelope {
        let mut content = self.signer.envelope(kind, to, payload, now(), &mut rand::rng()).content;
        content.nonce = nonce.to_owned();
        content.sign(&self.secret)
    }

    /// Base64 signature over any bytes.
    pub fn sign(&self, bytes: &[u8]) -> String {
        self.secret.sign(bytes).to_base64()
    }
}

impl Peer {
    /// A peer that takes only fresh envelopes, like existing ones.
    pub async fn start() -> Self {
        Self::start_with(json!({})).await
    }

    /// A peer whose manifest has more members.
    pub async fn start_with(manifest_extra: Value) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            domain: Domain::parse(&format!("localhost:{port}")).unwrap(),
            secret: Mutex::new(SigningSecret::from_seed(rand::random())),
            users: Mutex::default(),
            shown: Mutex::default(),
            mood: Mutex::new(Mood::Well),
            inbox: Mutex::default(),
            manifest_extra: Mutex::new(manifest_extra),
            manifest_delay: Mutex::default(),
            manifests_over: AtomicUsize::new(0),
            documents: Mutex::new(Documents::Shown),
            documents_asked: AtomicUsize::new(0),
            without_documents: AtomicUsize::new(0),
        });
        let shared = web::Data::from(Arc::clone(&state));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                .route("/.well-known/parchment-server", web::get().to(manifest))
                .route("/.well-known/user/{alias}", web::get().to(user))
                .route(INBOX_PATH, web::post().to(inbox))
        })
        .workers(1)
        .disable_signals()
        .listen(listener)
        .unwrap()
        .run();
        tokio::spawn(server);
        Self { state }
    }

    pub fn domain(&self) -> Domain {
        self.state.domain.clone()
    }

    /// Adds somebody; under an alias that somebody has, the same person with new keys.
    pub fn user(&self, alias: &str) -> PeerUser {
        let seed = MasterSeed::generate(&mut rand::rng());
        let handle = Handle::new(Alias::parse(alias).unwrap(), self.domain());
        let (signer, secret) = (Signer::new(handle.clone(), seed.signing_secret()), seed.signing_secret());
        self.state.users.lock().unwrap().insert(alias.to_owned(), seed);
        PeerUser { handle, signer, secret }
    }

    /// Shows more members in somebody's document from now on.
    pub fn show(&self, alias: &str, members: Value) {
        self.state.shown.lock().unwrap().insert(alias.to_owned(), members);
    }

    pub fn set_mood(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
    }

    /// Answers so when it is asked for a user's document from now on.
    pub fn set_documents(&self, documents: Documents) {
        *self.state.documents.lock().unwrap() = documents;
    }

    /// How often it was asked for a user's document.
    pub fn documents_asked(&self) -> usize {
        self.state.documents_asked.load(Ordering::SeqCst)
    }

    /// How many messages it has refused since it got no document of the sender's.
    pub fn refused_without_documents(&self) -> usize {
        self.state.without_documents.load(Ordering::SeqCst)
    }

    /// Gives somebody here, who exists already, new keys.
    pub fn renew(&self, user: &PeerUser) -> PeerUser {
        self.user(user.handle.alias().as_str())
    }

    /// Takes so long to show its manifest from now on.
    pub fn delay_manifest(&self, delay: Duration) {
        *self.state.manifest_delay.lock().unwrap() = delay;
    }

    /// Shows these members more in its manifest from now on.
    pub fn set_manifest(&self, manifest_extra: Value) {
        *self.state.manifest_extra.lock().unwrap() = manifest_extra;
    }

    /// How many requests for the manifest are over, answered or given up.
    pub fn manifests_over(&self) -> usize {
        self.state.manifests_over.load(Ordering::SeqCst)
    }

    /// Shows another server key from now on. Returns the one that it had.
    pub fn change_key(&self) -> SigningSecret {
        self.set_key(SigningSecret::from_seed(rand::random()))
    }

    /// Shows this server key from now on. Returns the one that it had.
    pub fn set_key(&self, key: SigningSecret) -> SigningSecret {
        std::mem::replace(&mut self.state.secret.lock().unwrap(), key)
    }

    /// The server key that it shows, base64.
    pub fn server_key(&self) -> String {
        self.state.secret.lock().unwrap().public().to_base64()
    }

    /// What has come to the inbox, in order, whatever was answered.
    pub fn received(&self) -> Vec<Json> {
        self.state.inbox.lock().unwrap().clone()
    }

    /// What has come to the inbox of this type.
    pub fn received_of(&self, kind: MessageType) -> Vec<Json> {
        let is_kind =
            |message: &Json| message.get("message_type").and_then(Json::as_str) == Some(kind.as_str());
        self.received().into_iter().filter(is_kind).collect()
    }

    /// A request to another server's inbox with these bytes as its body, signed as it should be.
    pub fn request(&self, to: &Domain, body: &Json) -> Request {
        let nonce = base64::encode(&rand::random::<[u8; 16]>());
        Request {
            server_id: self.domain().to_string(),
            version: "2".into(),
            nonce,
            timestamp: now().to_rfc3339(),
            peer_server_id: to.to_string(),
            body: body.canonical(),
            secret: self.state.secret.lock().unwrap().clone(),
            signature: None,
        }
    }

    /// Has somebody here invite a person on another server, which takes the invitation.
    pub async fn invite(&self, from: &PeerUser, to: &Handle) {
        let (status, answer) = self.try_invite(from, to).await;
        assert_eq!(status, 202, "{answer}");
    }

    /// Somebody here who is a friend of a person on another server.
    pub async fn friend_of(&self, person: &Person, alias: &str) -> PeerUser {
        let user = self.user(alias);
        self.invite(&user, &person.handle()).await;
        person.accept(&user.handle).await;
        person.await_friends(&[&user.handle]).await;
        user
    }

    /// Has somebody here invite a person on another server: the status and the answer.
    pub async fn try_invite(&self, from: &PeerUser, to: &Handle) -> (u16, Value) {
        let kind = MessageType::FriendInvite;
        let envelope = from.signer.envelope(kind, to, JsonObject::new(), now(), &mut rand::rng());
        self.send(&envelope).await
    }

    /// Posts an envelope to another server as it should be done: the status and the answer.
    pub async fn send(&self, envelope: &Envelope) -> (u16, Value) {
        self.request(envelope.content.to.domain(), &envelope.to_json()).post().await
    }
}

/// A request that can be spoilt before it is sent.
pub struct Request {
    pub server_id: String,
    pub version: String,
    pub nonce: String,
    pub timestamp: String,
    pub peer_server_id: String,
    pub body: String,
    pub secret: SigningSecret,
    /// Instead of the right signature.
    pub signature: Option<String>,
}

impl Request {
    /// The signature that it is sent with.
    pub fn signature(&self) -> String {
        self.signature.clone().unwrap_or_else(|| self.sign().to_base64())
    }

    fn sign(&self) -> Signature {
        let hash = Json::parse(self.body.as_bytes()).map(|body| body.sha256_base64()).unwrap_or_default();
        ServerRequest {
            method: "POST",
            path: INBOX_PATH,
            body_hash: &hash,
            nonce: &self.nonce,
            timestamp: &self.timestamp,
            peer_server_id: &self.peer_server_id,
            sender_server_id: &self.server_id,
            protocol_version: 2,
        }
        .sign(&self.secret)
    }

    /// Posts it: the status and the answer.
    pub async fn post(&self) -> (u16, Value) {
        let answer = self.post_for_answer().await;
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null))
    }

    /// Posts it: the answer with its headers.
    pub async fn post_for_answer(&self) -> reqwest::Response {
        let signature = self.signature();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        client
            .post(format!("http://{}{INBOX_PATH}", self.peer_server_id))
            .header("content-type", "application/json; charset=utf-8")
            .header(HEADER_SERVER_ID, &self.server_id)
            .header(HEADER_PROTOCOL_VERSION, &self.version)
            .header(HEADER_NONCE, &self.nonce)
            .header(HEADER_TIMESTAMP, &self.timestamp)
            .header(HEADER_SIGNATURE, signature)
            .body(self.body.clone())
            .send()
            .await
            .unwrap()
    }
}

/// Counts when it is dropped: an answer that nobody waits for any more is never finished.
struct CountsAtEnd<'a>(&'a AtomicUsize);

impl Drop for CountsAtEnd<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

async fn manifest(state: web::Data<State>) -> HttpResponse {
    let _counts = CountsAtEnd(&state.manifests_over);
    let delay = *state.manifest_delay.lock().unwrap();
    tokio::time::sleep(delay).await;
    let mut manifest = json!({
        "server_id": state.domain,
        "public_key": state.secret.lock().unwrap().public(),
        "protocol_versions": [2],
        "capabilities": ["signed-server-messages", "something-nobody-knows"],
    });
    let members = manifest.as_object_mut().unwrap();
    members.extend(state.manifest_extra.lock().unwrap().as_object().unwrap().clone());
    HttpResponse::Ok().json(manifest)
}

async fn user(state: web::Data<State>, alias: web::Path<String>) -> HttpResponse {
    state.documents_asked.fetch_add(1, Ordering::SeqCst);
    let documents = *state.documents.lock().unwrap();
    let mut answer = HttpResponse::Ok();
    match documents {
        Documents::Shown => {}
        Documents::KeptFor(seconds) => {
            answer.insert_header(("cache-control", format!("public, max-age={seconds}")));
        }
        Documents::Drip => {
            let drips = futures_util::stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                Some((Ok::<_, actix_web::Error>(web::Bytes::from_static(b" ")), ()))
            });
            return answer.content_type("application/json").streaming(drips);
        }
        Documents::Broken => {
            let part = futures_util::stream::iter([
                Ok(web::Bytes::from_static(b"{")),
                Err(actix_web::error::ErrorInternalServerError("broken off")),
            ]);
            return answer.content_type("application/json").streaming(part);
        }
        Documents::Refused(status) => {
            let status = actix_web::http::StatusCode::from_u16(status).unwrap();
            return HttpResponse::build(status).insert_header(("retry-after", "7")).finish();
        }
    }
    match state.users.lock().unwrap().get(alias.as_str()) {
        None => HttpResponse::NotFound().json(json!({ "message": "User not found" })),
        Some(seed) => {
            let mut document = json!({
                "handle": format!("{alias}@{}", state.domain),
                "signingKey": seed.signing_secret().public(),
                "encryptionKey": seed.encryption_key(),
                "inbox": format!("http://{}{INBOX_PATH}", state.domain),
            });
            if let Some(Value::Object(more)) = state.shown.lock().unwrap().get(alias.as_str()) {
                document.as_object_mut().unwrap().extend(more.clone());
            }
            answer.json(document)
        }
    }
}

async fn inbox(state: web::Data<State>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let message = Json::parse(&body).unwrap();
    state.inbox.lock().unwrap().push(message.clone());
    let mood = state.mood.lock().unwrap().clone();
    match mood {
        Mood::Hangs => {
            tokio::time::sleep(std::time::Duration::from_secs(60)).await;
            HttpResponse::GatewayTimeout().finish()
        }
        Mood::Answers(status, body) => {
            HttpResponse::build(actix_web::http::StatusCode::from_u16(status).unwrap()).body(body)
        }
        Mood::AsksForPause(status, body, seconds) => {
            HttpResponse::build(actix_web::http::StatusCode::from_u16(status).unwrap())
                .insert_header(("retry-after", seconds.to_string()))
                .body(body)
        }
        Mood::Held(permits, status, body) => {
            permits.acquire().await.unwrap().forget();
            HttpResponse::build(actix_web::http::StatusCode::from_u16(status).unwrap()).body(body)
        }
        Mood::Dawdles(longest) => {
            tokio::time::sleep(longest.mul_f64(rand::random())).await;
            HttpResponse::Accepted().json(json!({ "success": true }))
        }
        Mood::Takes(time) => {
            tokio::time::sleep(time).await;
            HttpResponse::Accepted().json(json!({ "success": true }))
        }
        Mood::FetchesAll => match fetch_all(&message).await {
            Ok(()) => HttpResponse::Accepted().json(json!({ "success": true })),
            Err(reason) => {
                state.without_documents.fetch_add(1, Ordering::SeqCst);
                HttpResponse::BadRequest().json(json!({ "message": reason }))
            }
        },
        Mood::Well => match verify(&state, &request, &message).await {
            Ok(()) => HttpResponse::Accepted().json(json!({ "success": true })),
            Err(reason) => HttpResponse::Unauthorized().json(json!({ "message": reason })),
        },
    }
}

/// Fetches what an existing receiver does for each message.
async fn fetch_all(message: &Json) -> Result<(), String> {
    let from = message.get("from").and_then(Json::as_str).and_then(|from| Handle::parse(from).ok());
    let from = from.ok_or("no sender")?;
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let manifest = "parchment-server".to_owned();
    for document in [manifest.clone(), manifest, format!("user/{}", from.alias())] {
        let url = format!("http://{}/.well-known/{document}", from.domain());
        let status = client.get(url).send().await.map_err(|error| error.to_string())?.status();
        if status != 200 {
            return Err("Could not resolve sender".into());
        }
    }
    Ok(())
}

/// What an existing receiver checks of the request: headers, members, the server's signature.
async fn verify(state: &State, request: &HttpRequest, message: &Json) -> Result<(), String> {
    let header =
        |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let sender = Domain::parse(header(HEADER_SERVER_ID)).map_err(|error| error.to_string())?;
    let known = [
        "protocol_version",
        "message_type",
        "message_version",
        "nonce",
        "type",
        "from",
        "to",
        "timestamp",
        "signature",
        "payload",
    ];
    let members = message.as_object().ok_or("no object")?;
    if let Some((extra, _)) = members.iter().find(|(name, _)| !known.contains(name)) {
        return Err(format!("Invalid server signature: the extra member {extra}"));
    }
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let url = format!("http://{sender}/.well-known/parchment-server");
    let manifest: Value = client.get(url).send().await.unwrap().json().await.unwrap();
    let key = vellum_protocol::SigningKey::parse(manifest["public_key"].as_str().unwrap()).unwrap();
    ServerRequest {
        method: "POST",
        path: INBOX_PATH,
        body_hash: &message.sha256_base64(),
        nonce: header(HEADER_NONCE),
        timestamp: header(HEADER_TIMESTAMP),
        peer_server_id: state.domain.as_str(),
        sender_server_id: sender.as_str(),
        protocol_version: header(HEADER_PROTOCOL_VERSION).parse().map_err(|_| "no version")?,
    }
    .verify(&key, &Signature::parse(header(HEADER_SIGNATURE)).map_err(|error| error.to_string())?)
    .map_err(|error| error.to_string())?;
    ReceivedMessage::from_body(message).map_err(|error| error.to_string())?;
    Ok(())
}
