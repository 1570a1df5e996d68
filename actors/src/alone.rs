//! A node without neighbours, for this crate's own tests: a real database, real arbiters, no other node
//! to be reached.

use std::sync::Arc;
use std::time::Duration;

use actix::Arbiter;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use secrecy::SecretBox;
use tempfile::TempDir;
use vellum_protocol::{Domain, SigningSecret, UnixMillis};
use vellum_store::users::NewUser;
use vellum_store::{Store, UserId};
use zeroize::Zeroizing;

use crate::invitations::InvitationLimits;
use crate::mailer::{MailError, MailSession, Mailer};
use crate::node::{Node, NodeParts, NodeSettings};
use crate::peer::policy::Mode;
use crate::peer::{Answer, PeerSettings, RetryPolicy, Transport, TransportError};
use crate::sign_in::{CodeBounds, SignInSettings};
use crate::wrapping::{WrappingKey, WrappingKeys};
use crate::{Clock, accounts};

struct NobodyThere;

impl Transport for NobodyThere {
    fn get<'a>(&'a self, _: &'a Domain, _: &'a str) -> BoxFuture<'a, Result<Answer, TransportError>> {
        async { Err(TransportError::Unreachable("nobody is there".into())) }.boxed()
    }

    fn post<'a>(
        &'a self,
        _: &'a Domain,
        _: &'a str,
        _: Vec<(&'static str, String)>,
        _: String,
    ) -> BoxFuture<'a, Result<Answer, TransportError>> {
        async { Err(TransportError::Unreachable("nobody is there".into())) }.boxed()
    }
}

struct NoMail;

impl Mailer for NoMail {
    fn open<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Box<dyn MailSession>, MailError>> {
        async { Err(MailError::temporary("there is no mail server")) }.boxed()
    }
}

/// A node and what it lives on.
pub struct Alone {
    pub node: Arc<Node>,
    // Both end with the test.
    _folder: TempDir,
    _arbiters: Vec<Arbiter>,
}

impl Alone {
    pub async fn start() -> Self {
        Self::start_with(NobodyThere).await
    }

    /// The same with another way to other nodes.
    pub async fn start_with(transport: impl Transport) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite://{}", folder.path().join("v.db").display())).await.unwrap();
        let arbiters: Vec<Arbiter> = (0..2).map(|_| Arbiter::new()).collect();
        let handles: Vec<_> = arbiters.iter().map(Arbiter::handle).collect();
        let code_key = Arc::new(SecretBox::new(Box::new([7; 32])));
        let key = WrappingKey { id: "one".into(), key: Zeroizing::new([8; 32]) };
        let node = Node::new(NodeParts {
            name: "alone".to_owned(),
            store,
            clock: Clock::steered(UnixMillis(1_800_000_000_000)),
            domain: Domain::parse("node.example").unwrap(),
            identity: SigningSecret::from_seed([9; 32]),
            settings: NodeSettings {
                flush_wait: Duration::from_millis(100),
                in_flight_per_peer: 4,
                federation_mode: Mode::default(),
                retry: RetryPolicy::default(),
                quotas: crate::user::DEFAULT_QUOTAS,
                sign_in: SignInSettings { open_registration: false, code_key, bounds: CodeBounds::default() },
                invitations: InvitationLimits::default(),
            },
            arbiters: handles.clone(),
            peers: PeerSettings { arbiters: handles, lookups_per_minute: None },
            transport: Box::new(transport),
            mailer: Box::new(NoMail),
            wrapping: WrappingKeys::new(Box::new(move || Ok(vec![key.clone()]))).unwrap(),
        });
        Self { node, _folder: folder, _arbiters: arbiters }
    }

    /// Makes an account.
    pub async fn user(&self, name: &str) -> UserId {
        let email = format!("{name}@people.example");
        let user = NewUser { email, first_name: None, last_name: None, picture: None };
        accounts::create(&self.node.store, user, "user", self.node.clock.now()).await.unwrap()
    }
}
