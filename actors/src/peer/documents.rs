//! A peer's two kinds of documents: its manifest, which carries its key, and its users' keys.
//!
//! The key in the manifest is pinned at first contact, in the database, after the manifest has named the
//! very domain that was asked: a document cannot occupy another server's pin. A key that differs later is
//! refused until an operator decides (wire protocol, section 5).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::Mutex as AsyncMutex;
use vellum_protocol::server_request::INBOX_PATH;
use vellum_protocol::{Alias, Domain, Json, Manifest, UnixMillis, UserDocument};
use vellum_store::friendships::RemoteUser;
use vellum_store::{StoreError, outbox, peers};

use super::bulkhead::Purpose;
use super::lookups::LookupFor;
use super::transport::Answer;
use super::window::SAFETY_MARGIN_MILLIS;
use super::{Federation, PeerError};

/// How long a manifest serves before it is fetched again, where the peer does not say.
const MANIFEST_MILLIS: i64 = 300_000;
/// The shortest and the longest time that a peer may ask for: neither a fetch for every envelope, nor a
/// key that is looked at once a year.
const MANIFEST_BOUNDS: (i64, i64) = (60_000, 3_600_000);
/// How long a failed fetch answers for those who have not proven who they are.
const FAILURE_TIME: Duration = Duration::from_secs(5);
/// The longest time for late revocations that is taken from a peer: nothing is carried for years.
const LONGEST_WINDOW: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a user's keys serve for messages, at most: the peer may ask for less.
const USER_MILLIS: i64 = 10_000;
/// How long they serve where the peer refuses to show them again.
const USER_REFUSED_MILLIS: i64 = 60_000;
/// Users of one peer whose keys are kept; beyond that the table is emptied and filled anew.
const USERS_KEPT: usize = 1_000;

/// What is known of a peer for a short while.
pub(super) struct Documents {
    pub domain: Domain,
    pub federation: Arc<Federation>,
    manifest: Mutex<KnownManifest>,
    /// How the last fetch for each purpose has failed. Held while the manifest is fetched, so that
    /// requests that arrive together fetch it once; and no purpose waits for another's place.
    fetching: [AsyncMutex<Option<Failed>>; Purpose::COUNT],
    users: Mutex<HashMap<Alias, Kept<RemoteUser>>>,
}

#[derive(Default)]
struct KnownManifest {
    kept: Option<Kept<Arc<Manifest>>>,
    /// Raised when it is forgotten: a fetch that began before is not kept.
    forgotten: u64,
}

struct Failed {
    error: PeerError,
    at: Instant,
    /// Whether it answers unproven peers for a while, one of which has caused it.
    for_unproven: bool,
}

#[derive(Clone)]
struct Kept<T> {
    value: T,
    since: UnixMillis,
    until: UnixMillis,
}

impl Failed {
    /// The answer to a question asked at `asked`: a fetch that has failed since need not be
    /// repeated.
    fn answer(&self, asked: Instant) -> Option<PeerError> {
        (self.at >= asked).then(|| self.error.clone())
    }

    /// The failure that answers an unproven peer.
    fn refusal_for_unproven(&self) -> Option<PeerError> {
        (self.for_unproven && self.at.elapsed() < FAILURE_TIME).then(|| self.error.clone())
    }
}

impl Documents {
    pub fn new(domain: Domain, federation: Arc<Federation>) -> Self {
        let (manifest, users) = (Mutex::default(), Mutex::default());
        Self { domain, federation, manifest, fetching: Default::default(), users }
    }

    /// The peer's manifest, with its key compared to the pinned one. Whoever waits while it is fetched in vain
    /// shares that failure: ten thousand rows for a peer that hangs are one question to it.
    pub async fn manifest(&self, purpose: Purpose) -> Result<Arc<Manifest>, PeerError> {
        self.known_or_learnt(purpose, false).await
    }

    /// The same for somebody who only says that they are this peer. Anybody can say so as often as they
    /// like, so a fetch that failed is not repeated for them at once: this node is no hammer. And servers that
    /// have never been met are asked a few at a time, whatever number of names a flood comes up with.
    pub async fn manifest_for_unproven(&self) -> Result<Arc<Manifest>, PeerError> {
        self.known_or_learnt(Purpose::InboundLookup, true).await
    }

    async fn known_or_learnt(
        &self,
        purpose: Purpose,
        for_unproven: bool,
    ) -> Result<Arc<Manifest>, PeerError> {
        let asked = Instant::now();
        if let Some(manifest) = self.kept_manifest(self.federation.clock.now()) {
            return Ok(manifest);
        }
        let mut failed = self.fetching[purpose as usize].lock().await;
        let now = self.federation.clock.now();
        if let Some(manifest) = self.kept_manifest(now) {
            return Ok(manifest);
        }
        if let Some(error) = failed.as_ref().and_then(|failed| failed.answer(asked)) {
            return Err(error);
        }
        let mut _turn = None;
        if for_unproven {
            if let Some(error) = failed.as_ref().and_then(|failed| failed.refusal_for_unproven()) {
                return Err(error);
            }
            if !self.federation.is_pinned(&self.domain).await? {
                _turn = Some(self.federation.bulkheads.place_of_unknown()?);
            }
        }
        let learnt = self.learn_manifest(purpose).await;
        *failed = learnt.as_ref().err().map(|error| Failed {
            error: error.clone(),
            at: Instant::now(),
            for_unproven,
        });
        learnt
    }

    fn kept_manifest(&self, now: UnixMillis) -> Option<Arc<Manifest>> {
        let known = lock(&self.manifest);
        known
            .kept
            .as_ref()
            .filter(|kept| (kept.since..kept.until).contains(&now))
            .map(|kept| Arc::clone(&kept.value))
    }

    async fn learn_manifest(&self, purpose: Purpose) -> Result<Arc<Manifest>, PeerError> {
        let since = self.federation.clock.now();
        let forgotten = lock(&self.manifest).forgotten;
        let (manifest, age) = self.fetch_manifest(purpose).await?;
        self.compare_with_pin(&manifest).await?;
        let manifest = Arc::new(manifest);
        let mut known = lock(&self.manifest);
        if known.forgotten == forgotten {
            known.kept = Some(Kept { value: Arc::clone(&manifest), since, until: since.plus_millis(age) });
        }
        Ok(manifest)
    }

    /// Has the manifest fetched anew when it is needed next.
    pub async fn forget_manifest(&self) {
        lock(&self.manifest).forget();
        for failed in &self.fetching {
            *failed.lock().await = None;
        }
    }

    /// The same where the peer's answer makes it doubtful; but not more often than a manifest is fetched at all.
    pub fn doubt_manifest(&self, now: UnixMillis) {
        let mut known = lock(&self.manifest);
        let fetched_lately = |since| (0..MANIFEST_BOUNDS.0).contains(&now.since(since));
        if known.kept.as_ref().is_some_and(|kept| !fetched_lately(kept.since)) {
            known.forget();
        }
    }

    /// The manifest, and for how many milliseconds it serves.
    async fn fetch_manifest(&self, purpose: Purpose) -> Result<(Manifest, i64), PeerError> {
        let answer = self.get(purpose, "/.well-known/parchment-server").await?;
        let json = document(&answer, "its manifest")?;
        let manifest = Manifest::parse(&json).map_err(|error| PeerError::unusable(error.to_string()))?;
        if manifest.server_id.folded() != self.domain.folded() {
            return Err(PeerError::unusable(format!("it calls itself {}", manifest.server_id)));
        }
        Ok((manifest, serves(answer.max_age)))
    }

    async fn compare_with_pin(&self, manifest: &Manifest) -> Result<(), PeerError> {
        let domain = self.domain.folded();
        let (key, now) = (manifest.public_key, self.federation.clock.now());
        let window = manifest.revocation_window().map(|window| window.min(LONGEST_WINDOW).as_secs());
        let window = window.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
        let pinned: Result<_, StoreError> = self
            .federation
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

    /// A user of the peer as their document shows them. A message may be verified with what was
    /// fetched a moment ago, and with what is a little older while the peer refuses to be asked.
    pub async fn user(&self, alias: &Alias, why: &LookupFor) -> Result<RemoteUser, PeerError> {
        let now = self.federation.clock.now();
        let kept = lock(&self.users).get(alias).filter(|_| why.takes_kept()).cloned();
        let age = kept.as_ref().map_or(i64::MAX, |kept| now.since(kept.since));
        if let Some(kept) = kept.as_ref().filter(|kept| age >= 0 && now < kept.until) {
            return Ok(kept.value.clone());
        }
        let error = match self.fetch_user(alias, why.purpose(), now).await {
            Ok(user) => return Ok(user),
            Err(error) => error,
        };
        match kept {
            Some(kept) if error.is_peers_refusal() && (0..=USER_REFUSED_MILLIS).contains(&age) => {
                Ok(kept.value)
            }
            _ => Err(error),
        }
    }

    async fn fetch_user(
        &self,
        alias: &Alias,
        purpose: Purpose,
        now: UnixMillis,
    ) -> Result<RemoteUser, PeerError> {
        // A user's keys are worth what their server is worth.
        self.manifest(purpose).await?;
        let answer = self.get(purpose, &format!("/.well-known/user/{alias}")).await?;
        if answer.status == 404 {
            lock(&self.users).remove(alias);
            return Err(PeerError::NoSuchUser);
        }
        let user = self.read_user(&document(&answer, "its user document")?)?;
        let mut users = lock(&self.users);
        if users.len() >= USERS_KEPT {
            users.clear();
        }
        let age = answer.max_age.and_then(|age| i64::try_from(age.as_millis()).ok()).unwrap_or(i64::MAX);
        let until = now.plus_millis(age.min(USER_MILLIS));
        users.insert(alias.clone(), Kept { value: user.clone(), since: now, until });
        Ok(user)
    }

    async fn get(&self, purpose: Purpose, path: &str) -> Result<Answer, PeerError> {
        let _place = self.federation.bulkheads.place(purpose, &self.domain).await?;
        Ok(self.federation.transport.get(&self.domain, path).await?)
    }

    fn read_user(&self, json: &Json) -> Result<RemoteUser, PeerError> {
        let user = UserDocument::parse(json).map_err(|error| PeerError::unusable(error.to_string()))?;
        if user.handle.domain().folded() != self.domain.folded() {
            return Err(PeerError::unusable(format!("it shows a user of {}", user.handle.domain())));
        }
        if !inbox_is_at(&user.inbox, &self.domain) {
            return Err(PeerError::unusable("it shows an inbox that is not its own"));
        }
        Ok(RemoteUser {
            handle: user.handle,
            signing_key: user.signing_key,
            encryption_key: user.encryption_key,
            name: user.name,
            picture: user.picture,
        })
    }
}

impl KnownManifest {
    fn forget(&mut self) {
        self.kept = None;
        self.forgotten += 1;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        return Err(PeerError::Unusable { reason, status: Some(answer.status), pause: answer.retry_after });
    }
    Json::parse(&answer.body).map_err(|error| PeerError::unusable(format!("{what} is unreadable: {error}")))
}
