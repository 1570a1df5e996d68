//! A peer's two kinds of documents: its manifest, which carries its key, and its users' keys.
//!
//! The key in the manifest is pinned at first contact, in the database, after the manifest has named the
//! very domain that was asked: a document cannot occupy another server's pin. A key that differs later is
//! refused until an operator decides (wire protocol, section 5).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Mutex;
use vellum_protocol::server_request::INBOX_PATH;
use vellum_protocol::{Alias, Domain, Json, Manifest, UnixMillis, UserDocument};
use vellum_store::friendships::Peer;
use vellum_store::{StoreError, outbox, peers};

use super::PeerError;
use super::transport::Answer;
use crate::delivery::window::SAFETY_MARGIN_MILLIS;
use crate::node::Node;

/// How long a manifest serves before it is fetched again, where the peer does not say.
const MANIFEST_MILLIS: i64 = 300_000;
/// The shortest and the longest time that a peer may ask for: neither a fetch for every envelope, nor a
/// key that is looked at once a year.
const MANIFEST_BOUNDS: (i64, i64) = (60_000, 3_600_000);
/// How long a failed fetch answers for those who have not proven who they are.
const FAILURE_MILLIS: i64 = 5_000;
/// How long a user's keys serve before they are fetched again.
const USER_MILLIS: i64 = 60_000;
/// Users of one peer whose keys are kept; beyond that the table is emptied and filled anew.
const USERS_KEPT: usize = 1_000;

/// What is known of a peer for a short while.
pub(super) struct Documents {
    domain: Domain,
    /// Held while it is fetched, so that requests that arrive together fetch it once.
    manifest: Mutex<Option<Kept<Arc<Manifest>>>>,
    users: Mutex<HashMap<Alias, Kept<Peer>>>,
    /// Why it could not be had the last time that somebody unproven caused a fetch.
    failed: Mutex<Option<Kept<PeerError>>>,
}

struct Kept<T> {
    value: T,
    until: UnixMillis,
}

impl Documents {
    pub fn new(domain: Domain) -> Self {
        Self { domain, manifest: Mutex::default(), users: Mutex::default(), failed: Mutex::default() }
    }

    /// The peer's manifest, with its key compared to the pinned one.
    pub async fn manifest(&self, node: &Node) -> Result<Arc<Manifest>, PeerError> {
        let mut kept = self.manifest.lock().await;
        let now = node.clock.now();
        if let Some(Kept { value, until }) = &*kept
            && now < *until
        {
            return Ok(Arc::clone(value));
        }
        let (manifest, age) = self.fetch_manifest(node).await?;
        let manifest = Arc::new(manifest);
        self.compare_with_pin(node, &manifest).await?;
        *kept = Some(Kept { value: Arc::clone(&manifest), until: now.plus_millis(age) });
        Ok(manifest)
    }

    /// The same for somebody who only says that they are this peer. Anybody can say so as often as they
    /// like, so a fetch that failed is not repeated for them at once: this node is no hammer.
    pub async fn manifest_for_stranger(&self, node: &Node) -> Result<Arc<Manifest>, PeerError> {
        let mut failed = self.failed.lock().await;
        let now = node.clock.now();
        if let Some(Kept { value, until }) = &*failed
            && now < *until
        {
            return Err(value.clone());
        }
        let _place = if self.is_known(node).await? { None } else { Some(node.peers.place_for_stranger()?) };
        let manifest = self.manifest(node).await;
        *failed = match &manifest {
            Ok(_) => None,
            Err(error) => Some(Kept { value: error.clone(), until: now.plus_millis(FAILURE_MILLIS) }),
        };
        manifest
    }

    /// Whether the peer was met before. Its requests must not have to wait for those of strangers.
    async fn is_known(&self, node: &Node) -> Result<bool, PeerError> {
        if self.manifest.lock().await.is_some() {
            return Ok(true);
        }
        let mut conn = node.store.read().await.map_err(PeerError::Store)?;
        let found = peers::find(&mut conn, &self.domain.folded()).await.map_err(PeerError::Store)?;
        Ok(found.is_some_and(|peer| peer.public_key.is_some()))
    }

    pub async fn forget_manifest(&self) {
        *self.manifest.lock().await = None;
    }

    /// The manifest, and for how many milliseconds it serves.
    async fn fetch_manifest(&self, node: &Node) -> Result<(Manifest, i64), PeerError> {
        let answer = node.transport.get(&self.domain, "/.well-known/parchment-server").await?;
        let json = document(&answer, "its manifest")?;
        let manifest = Manifest::parse(&json).map_err(|error| PeerError::Unusable(error.to_string()))?;
        if manifest.server_id.folded() != self.domain.folded() {
            return Err(PeerError::Unusable(format!("it calls itself {}", manifest.server_id)));
        }
        Ok((manifest, serves(answer.max_age)))
    }

    async fn compare_with_pin(&self, node: &Node, manifest: &Manifest) -> Result<(), PeerError> {
        let domain = self.domain.folded();
        let (key, now) = (manifest.public_key, node.clock.now());
        let window =
            manifest.revocation_window().map(|window| i64::try_from(window.as_secs()).unwrap_or(i64::MAX));
        let pinned: Result<_, StoreError> = node
            .store
            .write(move |tx| {
                async move {
                    let pinned = peers::pin(tx, &domain, &key, window, now).await?;
                    let news = if pinned == key {
                        peers::clear_offered_key(tx, &domain).await?;
                        false
                    } else {
                        peers::note_offered_key(tx, &domain, &key, now).await?
                    };
                    if let Some(seconds) = window
                        && pinned == key
                    {
                        let millis = seconds.saturating_mul(1000).saturating_sub(SAFETY_MARGIN_MILLIS);
                        outbox::widen_windows(tx, &domain, millis).await?;
                    }
                    Ok((pinned, news))
                }
                .boxed()
            })
            .await;
        let (pinned, news) = pinned.map_err(PeerError::Store)?;
        if pinned == key {
            return Ok(());
        }
        if news {
            tracing::error!(
                peer = %self.domain, pinned = %pinned.to_base64(), shown = %key.to_base64(),
                "the peer shows another key than the pinned one; nothing is exchanged with it until an operator has compared them (vellum peer repin)"
            );
        }
        Err(PeerError::PinMismatch(self.domain.clone()))
    }

    /// A user of the peer as their document shows them.
    pub async fn user(&self, node: &Node, alias: &Alias, anew: bool) -> Result<Peer, PeerError> {
        let now = node.clock.now();
        if !anew
            && let Some(kept) = self.users.lock().await.get(alias)
            && now < kept.until
        {
            return Ok(kept.value.clone());
        }
        // A user's keys are worth what their server is worth.
        self.manifest(node).await?;
        let path = format!("/.well-known/user/{alias}");
        let answer = node.transport.get(&self.domain, &path).await?;
        if answer.status == 404 {
            return Err(PeerError::NoSuchUser);
        }
        let user = self.read_user(&document(&answer, "its user document")?)?;
        let mut users = self.users.lock().await;
        if users.len() >= USERS_KEPT {
            users.clear();
        }
        users.insert(alias.clone(), Kept { value: user.clone(), until: now.plus_millis(USER_MILLIS) });
        Ok(user)
    }

    fn read_user(&self, json: &Json) -> Result<Peer, PeerError> {
        let user = UserDocument::parse(json).map_err(|error| PeerError::Unusable(error.to_string()))?;
        if user.handle.domain().folded() != self.domain.folded() {
            return Err(PeerError::Unusable(format!("it shows a user of {}", user.handle.domain())));
        }
        if !inbox_is_at(&user.inbox, &self.domain) {
            return Err(PeerError::Unusable("it shows an inbox that is not its own".into()));
        }
        Ok(Peer {
            handle: user.handle,
            signing_key: user.signing_key,
            encryption_key: user.encryption_key,
            name: user.name,
            picture: user.picture,
        })
    }
}

/// For how many milliseconds a manifest serves whose peer asks for this age.
fn serves(max_age: Option<Duration>) -> i64 {
    let (shortest, longest) = MANIFEST_BOUNDS;
    let asked = max_age.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    asked.map_or(MANIFEST_MILLIS, |asked| asked.clamp(shortest, longest))
}

/// Whether an inbox address is the one place where a domain's inbox can be (wire protocol, section 5).
fn inbox_is_at(inbox: &str, domain: &Domain) -> bool {
    let rest = inbox.strip_prefix("https://").or_else(|| inbox.strip_prefix("http://"));
    rest.and_then(|rest| rest.strip_suffix(INBOX_PATH))
        .is_some_and(|host| host.eq_ignore_ascii_case(domain.as_str()))
}

fn document(answer: &Answer, what: &str) -> Result<Json, PeerError> {
    if answer.status != 200 {
        return Err(PeerError::Unusable(format!("it answered {} instead of {what}", answer.status)));
    }
    Json::parse(&answer.body).map_err(|error| PeerError::Unusable(format!("{what} is unreadable: {error}")))
}
