//! Sends the emails that wait in the database (`vellum_store::mail_queue`).
//!
//! ```text
//!   request_code: one row, in the transaction that counts the bounds
//!   lease ▸ connect to the mail server, up to its yes to the recipient
//!         ▸ make the code, store its hash; the lease must still stand
//!         ▸ send the email ▸ remove the row, or note when to try again
//! ```
//!
//! Whoever queues an email goes on at once, so no answer shows how long a mail server takes. A row
//! outlives a restart; it is tried for an hour. A code is never stored in the clear, so each
//! attempt that gets as far as the email itself makes a new one in place of the last.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rand::RngExt;
use secrecy::SecretString;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use vellum_protocol::UnixMillis;
use vellum_protocol::text::without_control_characters;
use vellum_store::mail_queue::{self, ExpiredEmail, LeasedEmail};
use vellum_store::{StoreError, node_facts};

use crate::node::Node;
use crate::{measure, sign_in};

/// Emails that may wait. Beyond that nobody gets a code until some have gone. Checked before the
/// transaction that queues one, so requests of the same moment may exceed it by a few.
pub(crate) const MOST_WAITING: u64 = 256;
/// Emails to addresses without an account among them. Beyond that such an email is dropped, and
/// the request is answered as ever: made-up addresses must not keep owners from their codes.
pub(crate) const MOST_TO_STRANGERS: u64 = MOST_WAITING / 2;
/// Emails sent at a time: one that hangs holds up no other.
const AT_A_TIME: usize = 4;
/// How long one attempt may take; less than its lease.
const ATTEMPT: Duration = Duration::from_secs(120);
/// How often the queue is looked at when nothing was queued here: for retries, and for what other
/// nodes left.
const POLL: Duration = Duration::from_secs(5);
/// The pause after the first failed attempt. It doubles with each further one.
const FIRST_PAUSE_MILLIS: i64 = 10_000;
/// The longest pause, before chance moves it.
const LONGEST_PAUSE_MILLIS: i64 = 600_000;
/// The longest reason that is kept, in characters.
const LONGEST_REASON: usize = 300;

/// Sends emails to people. Supplied from outside.
pub trait Mailer: Send + Sync + 'static {
    /// Goes as far as an email can without its text: by SMTP, up to the server's yes to the
    /// recipient.
    fn open<'a>(&'a self, to: &'a str) -> BoxFuture<'a, Result<Box<dyn MailSession>, MailError>>;
}

/// A mail server that waits for the text of one email.
pub trait MailSession: Send {
    /// Sends the email.
    fn send(self: Box<Self>, email: CodeEmail) -> BoxFuture<'static, Result<(), MailError>>;
}

/// An email with a sign-in code.
#[derive(Debug)]
pub struct CodeEmail {
    /// The address.
    pub to: String,
    /// The code: eight digits.
    pub code: SecretString,
    /// The same code as twenty letters.
    pub long_code: SecretString,
    /// The language that its reader prefers: a BCP 47 tag.
    pub language: String,
    /// When the code was made.
    pub sent_at: UnixMillis,
}

/// Why an email was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct MailError {
    /// For people: the mail server's words, or what kept it from being asked.
    pub reason: String,
    /// Whether another attempt would fail in the same way.
    pub is_final: bool,
}

impl MailError {
    /// Another attempt may succeed.
    #[must_use]
    pub fn temporary(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_final: false }
    }

    /// Another attempt would fail, too.
    #[must_use]
    pub fn refused(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_final: true }
    }
}

/// The task that sends what waits.
pub struct MailQueue {
    task: JoinHandle<()>,
    stopping: watch::Sender<bool>,
    node: Arc<Node>,
}

impl MailQueue {
    /// Starts the task. What an earlier run of this node had begun is sent anew.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn start(node: &Arc<Node>) -> Result<Self, StoreError> {
        let earlier = if node.store.is_shared() { format!("{}.", node.name) } else { String::new() };
        release_leases(node, earlier).await?;
        let (stopping, stop) = watch::channel(false);
        let task = tokio::spawn(run(Arc::clone(node), stop));
        Ok(Self { task, stopping, node: Arc::clone(node) })
    }

    /// Sends what is due, for at most as long as `limit`. The rest waits in the database, for other
    /// nodes on it or for the next start.
    pub async fn finish(self, limit: Duration) {
        self.stopping.send_replace(true);
        let Self { mut task, node, .. } = self;
        if tokio::time::timeout(limit, &mut task).await.is_err() {
            task.abort();
            // It may be in the middle of a statement; after this it is not.
            let _ = task.await;
        }
        if let Err(error) = release_leases(&node, node.instance.clone()).await {
            tracing::warn!(%error, "leases of emails could not be handed back");
        }
    }
}

async fn release_leases(node: &Node, prefix: String) -> Result<(), StoreError> {
    node.store
        .write(move |tx| async move { mail_queue::release_leases(tx, &prefix).await.map(drop) }.boxed())
        .await
}

async fn run(node: Arc<Node>, mut stop: watch::Receiver<bool>) {
    let mut attempts = JoinSet::new();
    loop {
        let places = AT_A_TIME - attempts.len();
        for email in lease(&node, places).await {
            attempts.spawn(attempt(Arc::clone(&node), email));
        }
        if *stop.borrow() && attempts.is_empty() {
            return;
        }
        let has_place = attempts.len() < AT_A_TIME;
        tokio::select! {
            _ = attempts.join_next(), if !attempts.is_empty() => {}
            () = node.mail_wake.notified(), if has_place => {}
            () = tokio::time::sleep(POLL), if has_place => {}
            _ = stop.wait_for(|stop| *stop), if !*stop.borrow() => {}
        }
    }
}

/// Sends everything that is due now, one after the other.
///
/// # Errors
/// Only what the database says.
pub async fn send_due(node: &Arc<Node>) -> Result<(), StoreError> {
    loop {
        let leased = try_lease(node, AT_A_TIME).await?;
        if leased.is_empty() {
            return Ok(());
        }
        for email in leased {
            attempt(Arc::clone(node), email).await;
        }
    }
}

/// Leases as many due emails as there are places; none while the database cannot be used.
async fn lease(node: &Node, places: usize) -> Vec<LeasedEmail> {
    if places == 0 {
        return Vec::new();
    }
    try_lease(node, places).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "mail queue not read");
        Vec::new()
    })
}

async fn try_lease(node: &Node, places: usize) -> Result<Vec<LeasedEmail>, StoreError> {
    let now = node.clock.now();
    let overview = mail_queue::overview(&mut *node.store.read().await?, now).await?;
    measure::mail_waiting(overview.waiting);
    if overview.due == 0 {
        return Ok(Vec::new());
    }
    let (holder, places) = (node.instance.clone(), u32::try_from(places).unwrap_or(1));
    let taken: Result<_, StoreError> = node
        .store
        .write(move |tx| {
            async move {
                let expired = mail_queue::take_expired(tx, now).await?;
                Ok((expired, mail_queue::lease_due(tx, &holder, places, now).await?))
            }
            .boxed()
        })
        .await;
    let (expired, leased) = taken?;
    for ExpiredEmail { address, attempts, last_error } in expired {
        let reason = last_error.as_deref().unwrap_or("no attempt was made");
        measure::mail_failed();
        tracing::error!(domain = domain(&address), attempts, reason, "email not sent: an hour is over");
    }
    Ok(leased)
}

async fn attempt(node: Arc<Node>, email: LeasedEmail) {
    let sent = tokio::time::timeout(ATTEMPT, send(&node, &email)).await;
    let sent = match sent {
        Ok(Ok(true)) => Ok(()),
        // Another attempt has the row, or nobody needs it any more.
        Ok(Ok(false)) => return,
        Ok(Err(error)) => Err(error),
        Err(_) => Err(MailError::temporary("the mail server took too long")),
    };
    if let Err(error) = record(&node, &email, sent).await {
        // The row is tried again when its lease is over.
        tracing::error!(%error, domain = domain(&email.address), "outcome of an email not recorded");
    }
}

/// Sends an email with a new code. Returns false, without having sent it, if its lease is over.
async fn send(node: &Node, email: &LeasedEmail) -> Result<bool, MailError> {
    let session = node.mailer.open(&email.address).await?;
    match sign_in::code_to_send(node, email).await {
        Ok(Some(code)) => session.send(code).await.map(|()| true),
        Ok(None) => Ok(false),
        Err(error) => Err(MailError::temporary(format!("the code could not be stored: {error}"))),
    }
}

/// Removes the row, or notes when the next attempt is. Does nothing on a lease that is over.
async fn record(node: &Node, email: &LeasedEmail, sent: Result<(), MailError>) -> Result<(), StoreError> {
    let (attempt, domain, now) = (email.attempts + 1, domain(&email.address), node.clock.now());
    let row = email.clone();
    let Err(error) = sent else {
        measure::mail_sent();
        tracing::debug!(domain, attempt, "email sent");
        return node.store.write(move |tx| async move { mail_queue::finish(tx, &row).await }.boxed()).await;
    };
    let reason = without_address(&error.reason, &email.address);
    let pause = pause(email.attempts);
    let at = now.plus_millis(pause);
    let retries = !error.is_final && at < email.expires_at;
    if retries {
        tracing::warn!(domain, attempt, reason, retry_in_ms = pause, "email not sent");
    } else {
        measure::mail_failed();
        tracing::error!(domain, attempt, reason, "email not sent");
    }
    node.store
        .write(move |tx| {
            async move {
                node_facts::note_mail_failure(tx, &reason, now).await?;
                if retries {
                    mail_queue::retry(tx, &row, at, &reason).await
                } else {
                    mail_queue::finish(tx, &row).await
                }
            }
            .boxed()
        })
        .await
}

/// The pause after so many failed attempts and one more, in milliseconds, moved by chance by up to
/// a quarter.
fn pause(failed: u32) -> i64 {
    let pause = (FIRST_PAUSE_MILLIS << failed.min(10)).min(LONGEST_PAUSE_MILLIS);
    rand::rng().random_range(pause * 3 / 4..=pause * 5 / 4)
}

/// What logs may have of an address.
fn domain(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

/// A mail server's words, which may have the recipient's address in them, fit to be logged.
fn without_address(reason: &str, address: &str) -> String {
    let local = address.rsplit_once('@').map_or(address, |(local, _)| local).to_ascii_lowercase();
    let is_part = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    let mut kept = String::new();
    let mut rest = without_control_characters(reason);
    rest = rest.chars().take(LONGEST_REASON).collect();
    let mut rest = rest.as_str();
    while let Some(first) = rest.chars().next() {
        let word = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        let bare = word.trim_matches('.');
        if !bare.is_empty() && bare.eq_ignore_ascii_case(&local) {
            kept.push_str(&word.replacen(bare, "…", 1));
            rest = &rest[word.len()..];
        } else if word.is_empty() {
            kept.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            kept.push_str(word);
            rest = &rest[word.len()..];
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_ten_seconds_to_ten_minutes() {
        for (failed, seconds) in [(0, 10), (1, 20), (2, 40), (5, 320), (6, 600), (7, 600), (4_000_000, 600)] {
            let pause = pause(failed);
            let range = seconds * 750..=seconds * 1250;
            assert!(range.contains(&pause), "after {failed} and one more: {pause} ms, not in {range:?}");
        }
    }

    #[test]
    fn what_is_logged_has_no_local_part() {
        let address = "Ann.Lee@people.example";
        for (words, kept) in [
            ("550 <ann.lee@people.example>: no such user", "550 <…@people.example>: no such user"),
            ("450 Ann.Lee@People.example. Later", "450 …@People.example. Later"),
            ("550 user ann.lee. is unknown\r\nx", "550 user …. is unknown  x"),
            ("550 ann.leeds is somebody else", "550 ann.leeds is somebody else"),
            ("421 ünavailable", "421 ünavailable"),
        ] {
            assert_eq!(without_address(words, address), kept);
        }
    }
}
