//! A request to the inbox of a real node, on a database of its own: five header fields as lines, and a body. What begins
//! with `s` is signed for the sender first, the request by a peer and, where it can be, the message by that peer's user: so
//! the checks behind the signatures are reached, too. Nothing unsigned may be taken, and nothing may be the node's own
//! failure.

#![no_main]

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

use actix::{Arbiter, SystemRunner};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use libfuzzer_sys::fuzz_target;
use secrecy::SecretBox;
use vellum_actors::delivery::RetryPolicy;
use vellum_actors::inbox::{self, Inbound};
use vellum_actors::invitations::InvitationLimits;
use vellum_actors::mailer::{MailError, MailSession, Mailer};
use vellum_actors::peer::policy::Mode;
use vellum_actors::peer::{Answer, PeerSettings, Transport, TransportError};
use vellum_actors::sign_in::{CodeBounds, SignInSettings};
use vellum_actors::user::{RegisterKeys, SetAlias};
use vellum_actors::wrapping::{WrappingKey, WrappingKeys};
use vellum_actors::{Clock, Error, Node, NodeParts, NodeSettings};
use vellum_protocol::envelope::signable_of_members;
use vellum_protocol::{
    Domain, EncryptionKey, Json, ServerRequest, SigningSecret, UnixMillis, legacy_signable,
};
use vellum_store::users::{self, Keys, NewUser};
use vellum_store::{Store, StoreError};
use zeroize::Zeroizing;

const HERE: &str = "here.example";
const PEER: &str = "peer.example";
/// The vectors' time, at which their requests are fresh.
const NOW: UnixMillis = UnixMillis(1_789_999_980_000);

fn peers_secret() -> SigningSecret {
    SigningSecret::from_seed([2; 32])
}

fn users_secret() -> SigningSecret {
    SigningSecret::from_seed([3; 32])
}

fn encryption_key() -> EncryptionKey {
    EncryptionKey::from_bytes(&[9; 32]).expect("an ordinary key")
}

/// The only other node there is.
struct OnePeer;

impl Transport for OnePeer {
    fn get<'a>(&'a self, domain: &'a Domain, path: &'a str) -> BoxFuture<'a, Result<Answer, TransportError>> {
        let found = domain.folded() == PEER;
        let body = match path.strip_prefix("/.well-known/user/") {
            None => serde_json::json!({
                "server_id": PEER, "public_key": peers_secret().public(), "protocol_versions": [2], "capabilities": [],
            }),
            Some(alias) => serde_json::json!({
                "handle": format!("{alias}@{PEER}"), "signingKey": users_secret().public(),
                "encryptionKey": encryption_key(), "inbox": format!("https://{PEER}/federation/inbox"),
            }),
        };
        async move {
            if found {
                let body = body.to_string().into_bytes();
                Ok(Answer { status: 200, body, retry_after: None, max_age: None, date: None })
            } else {
                Err(TransportError::Unreachable("there is no such node".into()))
            }
        }
        .boxed()
    }

    fn post<'a>(
        &'a self,
        _: &'a Domain,
        _: &'a str,
        _: Vec<(&'static str, String)>,
        _: String,
    ) -> BoxFuture<'a, Result<Answer, TransportError>> {
        async { Err(TransportError::Unreachable("it takes nothing".into())) }.boxed()
    }
}

struct NoMail;

impl Mailer for NoMail {
    fn open<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Box<dyn MailSession>, MailError>> {
        async { Err(MailError::temporary("there is no mail server")) }.boxed()
    }
}

struct Site {
    system: SystemRunner,
    node: Arc<Node>,
    // Both end with the process.
    _arbiter: Arbiter,
    _folder: tempfile::TempDir,
}

thread_local! {
    // Never dropped: at the end of the thread its connections would have no runtime any more.
    static SITE: OnceCell<&'static Site> = const { OnceCell::new() };
}

impl Site {
    fn new() -> Self {
        let system = actix::System::new();
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}", folder.path().join("vellum.db").display());
        let (node, arbiter) = system.block_on(async {
            let arbiter = Arbiter::new();
            let arbiters = vec![arbiter.handle()];
            let ring = || Ok(vec![WrappingKey { id: "one".into(), key: Zeroizing::new([7; 32]) }]);
            let node = Node::new(NodeParts {
                store: Store::open(&url).await.expect("a database"),
                clock: Clock::steered(NOW),
                domain: Domain::parse(HERE).expect("a domain"),
                identity: SigningSecret::from_seed([4; 32]),
                settings: NodeSettings {
                    flush_wait: Duration::ZERO,
                    in_flight_per_peer: 4,
                    federation_mode: Mode::default(),
                    retry: RetryPolicy::default(),
                    quotas: vellum_actors::user::DEFAULT_QUOTAS,
                    invitations: InvitationLimits::default(),
                    sign_in: SignInSettings {
                        open_registration: false,
                        code_key: Arc::new(SecretBox::new(Box::new([5; 32]))),
                        bounds: CodeBounds::default(),
                    },
                },
                arbiters: arbiters.clone(),
                peers: PeerSettings { arbiters, lookups_per_minute: None },
                wrapping: WrappingKeys::new(Box::new(ring)).expect("a key"),
                name: HERE.to_owned(),
                transport: Box::new(OnePeer),
                mailer: Box::new(NoMail),
            });
            settle(&node).await;
            (node, arbiter)
        });
        Self { system, node, _arbiter: arbiter, _folder: folder }
    }
}

/// Somebody with the alias that most of the vectors are for.
async fn settle(node: &Arc<Node>) {
    let user = NewUser { email: "bob@mail.example".into(), first_name: None, last_name: None, picture: None };
    let id: Result<_, StoreError> =
        node.store.write(move |tx| async move { users::insert(tx, &user, NOW).await }.boxed()).await;
    let id = id.expect("an account");
    let alias = "bob".parse().expect("an alias");
    node.ask(&id, SetAlias { alias }).await.expect("an alias");
    let keys = Keys { signing: SigningSecret::from_seed([8; 32]).public(), encryption: encryption_key() };
    node.ask(&id, RegisterKeys { keys, expected: None }).await.expect("keys");
}

fuzz_target!(|bytes: &[u8]| {
    let signed = bytes.first() == Some(&b's');
    let mut lines = bytes.get(1..).unwrap_or_default().splitn(6, |byte| *byte == b'\n');
    let mut header = || String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let mut inbound = Inbound {
        server_id: header(),
        protocol_version: header(),
        nonce: header(),
        timestamp: header(),
        signature: header(),
        body: lines.next().unwrap_or_default().to_vec(),
        client_ip: None,
    };
    if signed {
        sign(&mut inbound);
    }
    SITE.with(|site| {
        let Site { system, node, .. } = site.get_or_init(|| Box::leak(Box::new(Site::new())));
        let done = system.block_on(inbox::receive(node, inbound, &()));
        match done {
            Ok(_) => assert!(signed, "nobody has signed it"),
            Err(error @ (Error::Internal | Error::Store(_) | Error::Busy { .. })) => {
                panic!("the node's own failure: {error}")
            }
            Err(_) => {}
        }
    });
});

/// Signs the message, where its body is one, and the request, by whatever names they give.
fn sign(inbound: &mut Inbound) {
    if let Ok(Json::Object(mut message)) = Json::parse(&inbound.body) {
        message.remove("signature");
        let text = if message.get("protocol_version").is_some() {
            signable_of_members(&message)
        } else {
            let mut fields = message.clone();
            let kind =
                fields.remove("type").and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default();
            legacy_signable(&kind, &fields)
        };
        message.insert("signature", Json::String(users_secret().sign(text.as_bytes()).to_base64()));
        inbound.body = Json::Object(message).canonical().into_bytes();
    }
    let Ok(body) = Json::parse(&inbound.body) else { return };
    let request = ServerRequest {
        method: "POST",
        path: "/federation/inbox",
        body_hash: &body.sha256_base64(),
        nonce: &inbound.nonce,
        timestamp: &inbound.timestamp,
        peer_server_id: HERE,
        sender_server_id: &inbound.server_id,
        protocol_version: 2,
    };
    inbound.signature = request.sign(&peers_secret()).to_base64();
}
