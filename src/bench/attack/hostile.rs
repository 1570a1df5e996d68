//! The attacker's own server: it shows what a node asks for, or drips it, byte by byte.

use std::sync::Arc;

use anyhow::Context as _;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use vellum_actors::Clock;
use vellum_client::Signer;
use vellum_protocol::server_request::INBOX_PATH;
use vellum_protocol::{
    Alias, Domain, EnvelopeContent, Handle, JsonObject, Manifest, MessageType, SigningSecret,
};

use super::{DRIP, Target, any_address};
use crate::bench::seed;
use crate::bench::sinks::signed_request;

/// Makes the document of the user with an alias.
type Document = Box<dyn Fn(&str) -> String + Send + Sync>;

/// What it shows of itself and of its users. `None`: it drips.
struct Shows {
    manifest: Option<String>,
    user: Option<Document>,
}

/// The server. It ends with the runtime that it was started on.
pub struct Hostile {
    domain: Domain,
    port: u16,
    secret: SigningSecret,
    // Aborted when dropped.
    _tasks: JoinSet<()>,
}

impl Hostile {
    /// A server that drips whatever it is asked for, by every name of this machine.
    pub async fn dripping() -> anyhow::Result<Self> {
        Self::start(|_, _| Ok(Shows { manifest: None, user: None })).await
    }

    /// A server with a manifest, whose users' documents drip.
    pub async fn with_dripping_users() -> anyhow::Result<Self> {
        Self::start(|domain, secret| Ok(Shows { manifest: Some(manifest(domain, secret)?), user: None }))
            .await
    }

    /// A server whose users have names and pictures of 30 kB.
    pub async fn with_large_users() -> anyhow::Result<Self> {
        Self::start(|domain, secret| {
            let (manifest, domain, keys) = (manifest(domain, secret)?, domain.clone(), seed::keys(1)?);
            let large = "n".repeat(30_000);
            let user = move |alias: &str| {
                json!({
                    "handle": format!("{alias}@{domain}"), "signingKey": keys.signing,
                    "encryptionKey": keys.encryption, "inbox": format!("http://{domain}{INBOX_PATH}"),
                    "name": large, "picture": format!("javascript:{large}"),
                })
                .to_string()
            };
            Ok(Shows { manifest: Some(manifest), user: Some(Box::new(user)) })
        })
        .await
    }

    async fn start(
        shows: impl FnOnce(&Domain, &SigningSecret) -> anyhow::Result<Shows>,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("0.0.0.0:0").await.context("a port for the attacker's server")?;
        let port = listener.local_addr()?.port();
        let domain = Domain::parse(&format!("127.0.0.1:{port}"))?;
        let secret = SigningSecret::from_seed([66; 32]);
        let shows = Arc::new(shows(&domain, &secret)?);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shows = Arc::clone(&shows);
                connections.spawn(async move {
                    // Whoever has asked may have gone.
                    let _ = answer(stream, &shows).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { domain, port, secret, _tasks: tasks })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A request with an invitation for the victim by one of this server's users, with a nonce of
    /// the attacker's choice.
    pub fn invitation(&self, target: &Target, alias: &str, nonce: Option<&str>) -> Vec<u8> {
        let Ok(alias) = Alias::parse(alias) else { return Vec::new() };
        let from = Handle::new(alias, self.domain.clone());
        let secret = seed::signing_secret(1);
        let (kind, at) = (MessageType::FriendInvite, Clock::system().now());
        let signer = Signer::new(from, secret.clone());
        let envelope = signer.envelope(kind, &target.victim, JsonObject::new(), at, &mut rand::rng());
        let content = match nonce {
            // With its number in front: each is another one.
            Some(nonce) => {
                EnvelopeContent { nonce: envelope.content.nonce.clone() + nonce, ..envelope.content }
            }
            None => envelope.content,
        };
        let (envelope, to) = (content.sign(&secret), target.victim.domain());
        signed_request(&self.secret, &self.domain, to, &envelope, &[("x-forwarded-for", &any_address())])
    }
}

fn manifest(domain: &Domain, secret: &SigningSecret) -> anyhow::Result<String> {
    Ok(serde_json::to_string(&Manifest::of_this_node(domain.clone(), secret.public(), 604_800))?)
}

async fn answer(mut stream: TcpStream, shows: &Shows) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let body = match path.strip_prefix("/.well-known/user/") {
        Some(alias) => shows.user.as_ref().map(|user| user(alias)),
        None => shows.manifest.clone(),
    };
    let length = body.as_ref().map_or(4096, String::len);
    let start = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(start.as_bytes()).await?;
    match body {
        Some(body) => stream.write_all(body.as_bytes()).await,
        None => loop {
            tokio::time::sleep(DRIP).await;
            stream.write_all(b" ").await?;
        },
    }
}
