//! A peer's two kinds of documents: its manifest, which carries its key, and its users' keys.
//!
//! The key in the manifest is pinned at first contact, in the database, after the manifest has named the
//! very domain that was asked: a document cannot occupy another server's pin. A key that differs later is
//! refused until an operator decides (wire protocol, section 5).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::Mutex;
use vellum_protocol::server_request::INBOX_PATH;
use vellum_protocol::{Alias, Domain, Json, Manifest, UnixMillis, UserDocument};
use vellum_store::friendships::Peer;
use vellum_store::{StoreError, outbox, peers};

use super::PeerError;
use super::registry::is_pinned;
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
/// The longest time for late revocations that is taken from a peer: nothing is carried for years.
const LONGEST_WINDOW: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a user's keys serve before they are fetched again.
const USER_MILLIS: i64 = 60_000;
/// Users of one peer whose keys are kept; beyond that the table is emptied and filled anew.
const USERS_KEPT: usize = 1_000;

/// What is known of a peer for a short while.
pub(super) struct Documents {
    domain: Domain,
    /// Held while it is fetched, so that requests that arrive together fetch it once.
    manifest: Mutex<KnownManifest>,
    users: Mutex<HashMap<Alias, Kept<Peer>>>,
}

/// How the last fetch has ended.
#[derive(Default)]
struct KnownManifest {
    kept: Option<Kept<Arc<Manifest>>>,
    failed: Option<Failed>,
}

struct Failed {
    error: PeerError,
    at: Instant,
    /// Until when it answers strangers, one of whom has caused it.
    for_strangers_until: Option<UnixMillis>,
}

struct Kept<T> {
    value: T,
    since: UnixMillis,
    until: UnixMillis,
}

impl KnownManifest {
    /// The answer to a question asked at `asked`, as far as it is known: a fetch that has failed since need not be
    /// repeated.
    fn answer(&self, now: UnixMillis, asked: Instant) -> Option<Result<Arc<Manifest>, PeerError>> {
        if let Some(kept) = self.kept.as_ref().filter(|kept| now < kept.until) {
            return Some(Ok(Arc::clone(&kept.value)));
        }
        self.failed.as_ref().filter(|failed| failed.at >= asked).map(|failed| Err(failed.error.clone()))
    }

    /// The failure that answers a stranger.
    fn refusal_for_stranger(&self, now: UnixMillis) -> Option<PeerError> {
        let failed = self.failed.as_ref()?;
        failed.for_strangers_until.filter(|until| now < *until).map(|_| failed.error.clone())
    }
}

impl Documents {
    pub fn new(domain: Domain) -> Self {
        Self { domain, manifest: Mutex::default(), users: Mutex::default() }
    }

    /// The peer's manifest, with its key compared to the pinned one. Whoever waits while it is fetched in vain
    /// shares that failure: ten thousand rows for a peer that hangs are one question to it.
    pub async fn manifest(&self, node: &Node) -> Result<Arc<Manifest>, PeerError> {
        let asked = Instant::now();
        let mut known = self.manifest.lock().await;
        if let Some(answer) = known.answer(node.clock.now(), asked) {
            return answer;
        }
        self.learn_manifest(node, &mut known).await
    }

    /// The same for somebody who only says that they are this peer. Anybody can say so as often as they
    /// like, so a fetch that failed is not repeated for them at once: this node is no hammer. And servers that
    /// have never been met are asked a few at a time, whatever number of names a flood comes up with.
    pub async fn manifest_for_stranger(&self, node: &Node) -> Result<Arc<Manifest>, PeerError> {
        let asked = Instant::now();
        let mut known = self.manifest.lock().await;
        let now = node.clock.now();
        if let Some(answer) = known.answer(now, asked) {
            return answer;
        }
        if let Some(error) = known.refusal_for_stranger(now) {
            return Err(error);
        }
        let _turn =
            if is_pinned(node, &self.domain).await? { None } else { Some(node.peers.place_for_stranger()?) };
        let learnt = self.learn_manifest(node, &mut known).await;
        if let Some(failed) = &mut known.failed {
            failed.for_strangers_until = Some(node.clock.now().plus_millis(FAILURE_MILLIS));
        }
        learnt
    }

    async fn learn_manifest(
        &self,
        node: &Node,
        known: &mut KnownManifest,
    ) -> Result<Arc<Manifest>, PeerError> {
        let since = node.clock.now();
        let learnt = async {
            let (manifest, age) = self.fetch_manifest(node).await?;
            self.compare_with_pin(node, &manifest).await?;
            Ok::<_, PeerError>((Arc::new(manifest), age))
        };
        match learnt.await {
            Ok((manifest, age)) => {
                let kept = Kept { value: Arc::clone(&manifest), since, until: since.plus_millis(age) };
                *known = KnownManifest { kept: Some(kept), failed: None };
                Ok(manifest)
            }
            Err(error) => {
                let failed = Failed { error: error.clone(), at: Instant::now(), for_strangers_until: None };
                *known = KnownManifest { kept: None, failed: Some(failed) };
                Err(error)
            }
        }
    }

    /// Has the manifest fetched anew when it is needed next.
    pub async fn forget_manifest(&self) {
        *self.manifest.lock().await = KnownManifest::default();
    }

    /// The same where the peer's answer makes it doubtful; but not more often than a manifest is fetched at all.
    pub async fn doubt_manifest(&self, now: UnixMillis) {
        let mut known = self.manifest.lock().await;
        if known.kept.as_ref().is_some_and(|kept| now.since(kept.since) >= MANIFEST_BOUNDS.0) {
            *known = KnownManifest::default();
        }
    }

    /// The manifest, and for how many milliseconds it serves.
    async fn fetch_manifest(&self, node: &Node) -> Result<(Manifest, i64), PeerError> {
        let answer = node.transport.get(&self.domain, "/.well-known/parchment-server").await?;
        let json = document(&answer, "its manifest")?;
        let manifest = Manifest::parse(&json).map_err(|error| PeerError::unusable(error.to_string()))?;
        if manifest.server_id.folded() != self.domain.folded() {
            return Err(PeerError::unusable(format!("it calls itself {}", manifest.server_id)));
        }
        Ok((manifest, serves(answer.max_age)))
    }

    async fn compare_with_pin(&self, node: &Node, manifest: &Manifest) -> Result<(), PeerError> {
        let domain = self.domain.folded();
        let (key, now) = (manifest.public_key, node.clock.now());
        let window = manifest.revocation_window().map(|window| window.min(LONGEST_WINDOW).as_secs());
        let window = window.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
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
        let until = now.plus_millis(USER_MILLIS);
        users.insert(alias.clone(), Kept { value: user.clone(), since: now, until });
        Ok(user)
    }

    fn read_user(&self, json: &Json) -> Result<Peer, PeerError> {
        let user = UserDocument::parse(json).map_err(|error| PeerError::unusable(error.to_string()))?;
        if user.handle.domain().folded() != self.domain.folded() {
            return Err(PeerError::unusable(format!("it shows a user of {}", user.handle.domain())));
        }
        if !inbox_is_at(&user.inbox, &self.domain) {
            return Err(PeerError::unusable("it shows an inbox that is not its own"));
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
        let reason = format!("it answered {} instead of {what}", answer.status);
        return Err(PeerError::Unusable { reason, pause: answer.retry_after });
    }
    Json::parse(&answer.body).map_err(|error| PeerError::unusable(format!("{what} is unreadable: {error}")))
}
