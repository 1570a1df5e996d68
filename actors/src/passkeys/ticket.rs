//! Challenges, and the tickets that carry them: a client gets one with its options and hands it back with
//! the answer, so that the answer is taken from nobody else. The node's signature on it keeps made-up ones
//! away from the database.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use vellum_store::passkey_ceremonies::ChallengeHash;

use crate::node::Node;

/// What an authenticator is to sign: random bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge(Vec<u8>);

impl From<&[u8]> for Challenge {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl Challenge {
    /// What the ceremony is kept under.
    pub fn hash(&self) -> ChallengeHash {
        Sha256::digest(&self.0).into()
    }

    /// The challenge and the node's signature on it.
    pub fn ticket(&self, node: &Node) -> String {
        let mark = self.mark(node).finalize().into_bytes();
        format!("{}.{}", URL_SAFE_NO_PAD.encode(&self.0), URL_SAFE_NO_PAD.encode(mark))
    }

    /// Whether a ticket, of any user, is of this challenge.
    pub fn is_in(&self, ticket: &str) -> bool {
        ticket.split_once('.').is_some_and(|(challenge, _)| challenge == URL_SAFE_NO_PAD.encode(&self.0))
    }

    /// The challenge in a ticket of this node.
    pub fn of_ticket(node: &Node, ticket: &str) -> Option<Self> {
        let (challenge, mark) = ticket.split_once('.')?;
        let challenge = Self(URL_SAFE_NO_PAD.decode(challenge).ok()?);
        challenge.mark(node).verify_slice(&URL_SAFE_NO_PAD.decode(mark).ok()?).ok()?;
        Some(challenge)
    }

    /// The challenge that an authenticator says it has signed: a member of its `clientDataJSON`.
    pub fn of_client_data(client_data: &[u8]) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct ClientData {
            challenge: String,
        }
        let data: ClientData = serde_json::from_slice(client_data).ok()?;
        URL_SAFE_NO_PAD.decode(data.challenge).ok().map(Self)
    }

    fn mark(&self, node: &Node) -> Hmac<Sha256> {
        let key = node.settings.sign_in.code_key.expose_secret();
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.update(b"vellum passkey ceremony v1\0");
        mac.update(&self.0);
        mac
    }
}
