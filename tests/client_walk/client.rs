//! A person with a client, and the nodes that they meet.

use serde_json::{Value, json};
use vellum_client::{MasterSeed, SignedFields, Signer};
use vellum_protocol::Handle;

use super::browser::{Browser, PAGE};
use super::members::text;
use crate::support::{Peer, TestNode, wait_for};

/// Two nodes, and an existing server that is played.
pub struct Scene {
    pub one: TestNode,
    pub two: TestNode,
    pub peer: Peer,
}

/// A person at their browser.
pub struct Client {
    pub browser: Browser,
    pub email: String,
    pub user_id: String,
    pub seed: MasterSeed,
    handle: Option<Handle>,
}

impl Scene {
    pub async fn set() -> Self {
        let settings = [("VELLUM_HTTP__CLIENT_ORIGINS", PAGE), ("VELLUM_AUTH__EMAILS_AT_ONCE", "20")];
        let (one, two) = (TestNode::start_with(&settings).await, TestNode::start_with(&settings).await);
        Self { one, two, peer: Peer::start().await }
    }

    /// Has the operator make an account; gives its address.
    pub async fn account(node: &TestNode, name: &str, role: &str) -> String {
        let email = format!("{name}@people.example");
        let create = ["user", "create", "--email", &email, "--first-name", name, "--last-name", "Test"];
        node.process.run(&[create.as_slice(), &["--role", role]].concat()).await.unwrap();
        email
    }

    /// The newest code that was sent from a node, which is newer than so many emails.
    pub async fn code(node: &TestNode, emails: usize) -> String {
        wait_for(
            "an email with a code is there",
            || async { node.process.letters().len() },
            |seen| *seen > emails,
        )
        .await;
        node.process.newest_code(emails).await.unwrap()
    }

    /// Signs somebody in by a code, at a fresh browser.
    pub async fn sign_in(node: &TestNode, email: &str) -> (Browser, Value) {
        let mut browser = Browser::at(node);
        let emails = node.process.letters().len();
        browser.post("/auth/verify", json!({ "email": email })).await.empty(201);
        let token = Self::code(node, emails).await;
        let body = json!({ "method": "otp", "email": email, "token": token });
        let signed_in = browser.post("/auth/sessions", body).await.body(201);
        (browser, signed_in)
    }

    /// Somebody new, who has signed in.
    pub async fn arrive(node: &TestNode, name: &str) -> Client {
        let email = Self::account(node, name, "user").await;
        let (browser, signed_in) = Self::sign_in(node, &email).await;
        let user_id = text(&signed_in["user"], "id");
        let seed = MasterSeed::generate(&mut rand::rng());
        Client { browser, email, user_id, seed, handle: None }
    }

    /// Somebody new, who has an alias and keys.
    pub async fn settle(node: &TestNode, alias: &str) -> Client {
        let mut client = Self::arrive(node, alias).await;
        client.choose(alias).await;
        client.register_keys().await.body(200);
        client
    }
}

impl Client {
    /// Takes an alias.
    pub async fn choose(&mut self, alias: &str) {
        let answer = self.browser.patch("/users/me/alias", json!({ "alias": alias })).await.body(200);
        self.handle = Some(text(&answer, "handle").parse().unwrap());
    }

    /// Registers the keys of the seed.
    pub async fn register_keys(&mut self) -> super::browser::Answer {
        let keys = keys_of(&self.seed);
        self.browser.put("/users/me/keys", keys).await
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone().unwrap()
    }

    pub fn signer(&self) -> Signer {
        Signer::new(self.handle(), self.seed.signing_secret())
    }

    /// The body of an answer that has to be 200.
    pub async fn read(&mut self, path: &str) -> Value {
        self.browser.get(path).await.body(200)
    }
}

/// The public keys of a seed, as a request has them.
pub fn keys_of(seed: &MasterSeed) -> Value {
    json!({ "signingKey": seed.signing_secret().public(), "encryptionKey": seed.encryption_key() })
}

/// A handle in a path: encoded once.
pub fn in_path(handle: &Handle) -> String {
    handle.as_str().replace('@', "%40").replace(':', "%3A")
}

/// What the client sends of its signature, with more members beside it.
pub fn signed(fields: &SignedFields, more: Value) -> Value {
    let mut body = crate::support::fields(fields);
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}
