//! A database in a folder of its own, and short ways to what the tests do often.

use futures_util::FutureExt;
use tempfile::TempDir;
use tokio::runtime;
use tokio::sync::oneshot;
use vellum_protocol::{
    EncryptionKey, Envelope, EnvelopeContent, Handle, JsonObject, MessageType, SigningSecret, Timestamp,
    UnixMillis,
};
use vellum_store::friendships::RemoteUser;
use vellum_store::outbox::{
    self, FailureScope, Leased, Outcome, PeerQueue, PendingRevocation, Retry, Wanted,
};
use vellum_store::users::{self, Keys, NewUser};
use vellum_store::{OutboxId, Store, StoreError, Tx, TxFuture, UserId};

/// When the tests take place.
pub const T0: UnixMillis = UnixMillis(1_700_000_000_000);
/// A time after everything.
pub const NEVER: UnixMillis = UnixMillis(4_000_000_000_000);

/// Some time after [`T0`].
pub fn t(millis: i64) -> UnixMillis {
    T0.plus_millis(millis)
}

/// A store, on the engine of the suite or on SQLite; a folder for its files goes with it.
pub struct Db {
    pub store: Store,
    pub folder: TempDir,
    pub url: String,
}

impl Db {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = vellum_test_database::address(folder.path());
        Self::at(url, folder).await
    }

    /// For what is a matter of SQLite alone: its file and its writer.
    pub async fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::at(url_of(&folder), folder).await
    }

    pub async fn at(url: String, folder: TempDir) -> Self {
        Self { store: Store::open(&url).await.unwrap(), folder, url }
    }

    /// Closes the database and opens it again.
    pub async fn reopened(self) -> Self {
        self.store.close().await;
        let store = Store::open(&self.url).await.unwrap();
        Self { store, ..self }
    }

    /// A copy of the files as they lie there now, as a killed node leaves them; opened as a node would do.
    pub async fn as_after_a_crash(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(self.folder.path()).unwrap() {
            let file = file.unwrap();
            // The index of the log lives in shared memory and is made anew from the log.
            if !file.file_name().to_string_lossy().ends_with("-shm") {
                std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
            }
        }
        Self::at(url_of(&folder), folder).await
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Runs a change that must succeed.
    pub async fn write<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> TxFuture<'t, T, StoreError> + Clone + Send + 'static,
    {
        self.store.write(work).await.unwrap()
    }

    pub async fn user(&self, email: &str) -> UserId {
        insert_user(&self.store, email).await.unwrap()
    }

    pub async fn emails(&self) -> Vec<String> {
        let mut emails: Vec<_> = users::all(&mut self.store.read().await.unwrap())
            .await
            .unwrap()
            .into_iter()
            .map(|user| user.email)
            .collect();
        emails.sort();
        emails
    }

    pub async fn pending(&self, user: &UserId) -> Vec<PendingRevocation> {
        outbox::pending_of_user(&mut self.store.read().await.unwrap(), user).await.unwrap()
    }

    pub async fn pending_for(&self, user: &UserId, peer: &str) -> Option<PendingRevocation> {
        let mut conn = self.store.read().await.unwrap();
        outbox::pending_for_peer(&mut conn, user, &handle(peer)).await.unwrap()
    }

    pub async fn await_signature(&self, user: &UserId, peer: &str, now: UnixMillis) {
        let (user, peer) = (user.clone(), handle(peer));
        self.write(move |tx| async move { outbox::await_signature(tx, &user, &peer, now).await }.boxed())
            .await;
    }

    /// Queues a revocation, signed and due at `now`.
    pub async fn queue(&self, user: &UserId, peer: &str, expires: UnixMillis, now: UnixMillis) -> OutboxId {
        self.queue_of(user, MessageType::RelationshipRevoke, peer, "", expires, now).await
    }

    pub async fn queue_of(
        &self,
        user: &UserId,
        kind: MessageType,
        peer: &str,
        subject: &'static str,
        expires: UnixMillis,
        now: UnixMillis,
    ) -> OutboxId {
        let (user, envelope) = (user.clone(), envelope(kind, peer, now));
        self.write(move |tx| {
            async move { outbox::queue(tx, &user, &envelope, subject, expires, None, now).await }.boxed()
        })
        .await
    }

    /// Leases what is due for a minute: of each peer as many rows as it may have under lease, which
    /// are `per_peer`, or one for a peer that has failed.
    pub async fn lease(&self, token: &'static str, now: UnixMillis, per_peer: u32) -> Vec<Leased> {
        self.write(move |tx| {
            async move {
                let mut leased = Vec::new();
                for queue in outbox::queues(tx).await? {
                    let places = if queue.has_failed { 1 } else { per_peer };
                    let rows = places.saturating_sub(queue.leased);
                    if queue.due_at().is_some_and(|due| due <= now) {
                        let (domain, until) = (queue.domain.as_str(), now.plus_millis(60_000));
                        let wanted = Wanted { domain, rows, last_user: None, token, now, until };
                        leased.extend(outbox::lease_due(tx, &wanted).await?);
                    }
                }
                Ok(leased)
            }
            .boxed()
        })
        .await
    }

    /// What waits for this peer.
    pub async fn queue_of_peer(&self, domain: &str) -> PeerQueue {
        let mut conn = self.store.read().await.unwrap();
        outbox::queue_of(&mut conn, domain).await.unwrap()
    }

    /// The one row that is due.
    pub async fn lease_one(&self, token: &'static str, now: UnixMillis) -> Leased {
        let mut leased = self.lease(token, now, 8).await;
        assert_eq!(leased.len(), 1, "rows that are due");
        leased.remove(0)
    }

    /// Records an outcome. Returns whether it counted.
    pub async fn finish(&self, leased: &Leased, outcome: Outcome, now: UnixMillis) -> bool {
        let leased = leased.clone();
        self.write(move |tx| async move { outbox::record_outcome(tx, &leased, &outcome, now).await }.boxed())
            .await
    }
}

fn url_of(folder: &TempDir) -> String {
    format!("sqlite://{}/node.db", folder.path().display())
}

/// The peer has taken it.
pub const DELIVERED: Outcome = Outcome::Delivered { friends: false };

/// The peer will never take it.
pub fn rejected(reason: &str) -> Outcome {
    Outcome::Rejected { reason: reason.into() }
}

/// The peer has refused it for now.
pub fn refused(reason: &str, next: UnixMillis) -> Outcome {
    Outcome::Retry(retry(reason, next))
}

/// The same, to be altered.
pub fn retry(reason: &str, next: UnixMillis) -> Retry {
    let scope = FailureScope::Envelope;
    Retry { reason: reason.into(), cause: None, scope, at: Some(next), maybe_arrived: false }
}

/// Makes an account, or says why not.
pub async fn insert_user(store: &Store, email: &str) -> Result<UserId, StoreError> {
    let user = new_user(email);
    store.write(move |tx| async move { users::insert(tx, &user, T0).await }.boxed()).await
}

pub fn new_user(email: &str) -> NewUser {
    NewUser { email: email.into(), first_name: None, last_name: None, picture: None }
}

pub fn handle(text: &str) -> Handle {
    Handle::parse(text).unwrap()
}

pub fn secret(seed: u8) -> SigningSecret {
    SigningSecret::from_seed([seed; 32])
}

pub fn keys(seed: u8) -> Keys {
    let encryption = EncryptionKey::from_bytes(&[seed.wrapping_add(100); 32]).unwrap();
    Keys { signing: secret(seed).public(), encryption }
}

pub fn peer(text: &str, seed: u8) -> RemoteUser {
    let keys = keys(seed);
    RemoteUser {
        handle: handle(text),
        signing_key: keys.signing,
        encryption_key: Some(keys.encryption),
        name: None,
        picture: None,
    }
}

/// An envelope from alice, signed at `at`.
pub fn envelope(message_type: MessageType, to: &str, at: UnixMillis) -> Envelope {
    let content = EnvelopeContent {
        message_type,
        message_version: 1,
        from: handle("alice@home.example"),
        to: handle(to),
        nonce: format!("nonce {to} {}", at.0),
        timestamp: Timestamp::at(at),
        payload: JsonObject::new(),
    };
    content.sign(&secret(1))
}

/// Waits inside a change: on SQLite in the writer's thread, where nothing may be awaited.
pub async fn held<T>(gone: oneshot::Receiver<T>) -> T {
    let gone = if runtime::Handle::try_current().is_ok() { gone.await } else { gone.blocking_recv() };
    gone.expect("the test lets the change go")
}
