//! Sends the emails that wait in the database (`vellum_store::mail_queue`).
//!
//! ```text
//!   request_code: one row, in the transaction that counts the bounds
//!   lease ▸ connect to the mail server, up to its yes to the recipient
//!         ▸ make the code, store its hash, note that the email is handed over; the lease must
//!           still stand
//!         ▸ send the email ▸ remove the row, or if the server refuses, note when to try again
//! ```
//!
//! Queueing an email returns at once, so no answer shows how long a mail server takes. A row
//! outlives a restart; it is tried for an hour. A code is never stored in the clear, so each
//! attempt that gets as far as the email itself makes a new one in place of the last. That may void
//! only a code that nobody got: an email that the server may have taken is not sent again, whatever
//! kept it from saying so.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rand::RngExt;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use vellum_protocol::text::without_control_characters;
use vellum_store::mail_queue::{self, ExpiredEmail, LeasedEmail};
use vellum_store::{StoreError, node_facts};

use crate::mailer::{MailError, MailErrorKind};
use crate::node::Node;
use crate::{measure, sign_in};

/// Emails sent at a time: one that hangs holds up no other.
const AT_A_TIME: usize = 4;
/// How many of these may be to addresses without an account.
const AT_A_TIME_TO_STRANGERS: usize = AT_A_TIME / 2;
/// How long a mail server may take up to its yes to the recipient; less than a lease.
const OPENING: Duration = Duration::from_secs(120);
/// How long it may take with the email itself, which servers look through before they answer; less
/// than a lease, which begins anew.
const HANDING_OVER: Duration = Duration::from_secs(140);
/// How often the queue is looked at when nothing was queued here: for retries, and for what other
/// nodes left.
const POLL: Duration = Duration::from_secs(5);
/// The pause after the first failed attempt. It doubles with each further one.
const FIRST_PAUSE_MILLIS: i64 = 10_000;
/// The longest pause, before chance moves it.
const LONGEST_PAUSE_MILLIS: i64 = 600_000;
/// The longest reason that is kept, in characters.
const LONGEST_REASON: usize = 300;

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
    let strangers = Arc::new(Semaphore::new(AT_A_TIME_TO_STRANGERS));
    loop {
        let places = AT_A_TIME - attempts.len();
        for email in lease(&node, places, strangers.available_permits()).await {
            let place = (!email.has_account).then(|| Arc::clone(&strangers).try_acquire_owned().ok());
            let node = Arc::clone(&node);
            attempts.spawn(async move {
                let _place = place;
                attempt(node, email).await;
            });
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
        let leased = try_lease(node, AT_A_TIME, AT_A_TIME_TO_STRANGERS).await?;
        if leased.is_empty() {
            return Ok(());
        }
        for email in leased {
            attempt(Arc::clone(node), email).await;
        }
    }
}

/// Leases as many due emails as there are places, those to addresses with an account first; none
/// while the database cannot be used.
async fn lease(node: &Node, places: usize, to_strangers: usize) -> Vec<LeasedEmail> {
    if places == 0 {
        return Vec::new();
    }
    try_lease(node, places, to_strangers).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "mail queue not read");
        Vec::new()
    })
}

async fn try_lease(node: &Node, places: usize, to_strangers: usize) -> Result<Vec<LeasedEmail>, StoreError> {
    let now = node.clock.now();
    let overview = mail_queue::overview(&mut *node.store.read().await?, now).await?;
    measure::mail_waiting(overview.waiting, overview.oldest.map_or(0, |oldest| now.since(oldest)));
    // Of a clock that is ahead for a moment everything is over.
    let is_settled = overview.expired > 0 && node.clock_watch.settled(&node.clock).is_some();
    if overview.due == 0 && overview.unknown == 0 && !is_settled {
        return Ok(Vec::new());
    }
    let count = |places: usize| u32::try_from(places).unwrap_or(1);
    let (holder, places, to_strangers) = (node.instance.clone(), count(places), count(to_strangers));
    let taken: Result<_, StoreError> = node
        .store
        .write(move |tx| {
            async move {
                let expired = mail_queue::take_expired(tx, is_settled, now).await?;
                let mut leased = mail_queue::lease_due(tx, &holder, true, places, now).await?;
                let left = places.saturating_sub(u32::try_from(leased.len()).unwrap_or(places));
                let most = left.min(to_strangers);
                leased.extend(mail_queue::lease_due(tx, &holder, false, most, now).await?);
                Ok((expired, leased))
            }
            .boxed()
        })
        .await;
    let (expired, leased) = taken?;
    for ExpiredEmail { address, was_handed_over, attempts, last_error } in expired {
        let domain = domain(&address);
        if was_handed_over {
            tracing::info!(domain, "email may have been sent: this node was stopped before it was told");
            continue;
        }
        let reason = last_error.as_deref().unwrap_or("no attempt was made");
        measure::mail_failed();
        tracing::error!(domain, attempts, reason, "email not sent: an hour is over");
    }
    Ok(leased)
}

async fn attempt(node: Arc<Node>, email: LeasedEmail) {
    let sent = match send(&node, &email).await {
        Ok(true) => Ok(()),
        // Another attempt has the row, or nobody needs it any more.
        Ok(false) => return,
        Err(error) => Err(error),
    };
    if let Err(error) = record(&node, &email, sent).await {
        // When its lease is over the row is tried again, or goes if it was handed over.
        tracing::error!(%error, domain = domain(&email.address), "outcome of an email not recorded");
    }
}

/// Sends an email with a new code. Returns false, without having sent it, if its lease is over.
async fn send(node: &Node, email: &LeasedEmail) -> Result<bool, MailError> {
    let opened = timeout(OPENING, node.mailer.open(&email.address)).await;
    let session = opened.unwrap_or_else(|_| Err(MailError::temporary("the mail server took too long")))?;
    let code = match sign_in::code_to_send(node, email).await {
        Ok(Some(code)) => code,
        Ok(None) => return Ok(false),
        Err(error) => return Err(MailError::temporary(format!("the code could not be stored: {error}"))),
    };
    let sent = timeout(HANDING_OVER, session.send(code)).await;
    sent.unwrap_or_else(|_| Err(MailError::unknown("the mail server took too long"))).map(|()| true)
}

/// Removes the row, or notes when the next attempt is. Does nothing on a lease that is over.
async fn record(node: &Node, email: &LeasedEmail, sent: Result<(), MailError>) -> Result<(), StoreError> {
    let (attempt, domain, now) = (email.attempts + 1, domain(&email.address), node.clock.now());
    let row = email.clone();
    let reason = sent.as_ref().err().map(|error| without_address(&error.reason, &email.address));
    let pause = pause(email.attempts);
    let at = now.plus_millis(pause);
    let mut retries = false;
    match sent.as_ref().map_err(|error| error.kind) {
        Ok(()) => {
            measure::mail_sent();
            tracing::debug!(domain, attempt, "email sent");
        }
        Err(MailErrorKind::Unknown) => {
            measure::mail_sent();
            tracing::warn!(domain, attempt, reason, "email may have been sent: no answer");
        }
        Err(MailErrorKind::Nobody) => tracing::info!(domain, attempt, reason, "email not sent"),
        Err(MailErrorKind::Passing) if at < email.expires_at => {
            retries = true;
            tracing::warn!(domain, attempt, reason, retry_in_ms = pause, "email not sent");
        }
        Err(MailErrorKind::Passing | MailErrorKind::Final) => {
            measure::mail_failed();
            tracing::error!(domain, attempt, reason, "email not sent");
        }
    }
    let is_noted = sent.is_err_and(|error| error.kind != MailErrorKind::Nobody);
    let reason = reason.unwrap_or_default();
    node.store
        .write(move |tx| {
            async move {
                if is_noted {
                    node_facts::note_mail_failure(tx, &reason, now).await?;
                }
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

/// A mail server's words, which may have the recipient's address in them, fit to be logged: the
/// part before the `@` goes, and so does what of it stands before a `+`.
fn without_address(reason: &str, address: &str) -> String {
    let local = address.rsplit_once('@').map_or(address, |(local, _)| local);
    let before_plus = local.split('+').next().unwrap_or(local);
    let mut words = without_control_characters(reason);
    for part in [local, before_plus] {
        words = without_word(&words, part);
    }
    words.chars().take(LONGEST_REASON).collect()
}

/// The text with `…` for each place where the word stands in any case, not as a part of a longer
/// one. The word is ASCII.
fn without_word(text: &str, word: &str) -> String {
    if word.is_empty() {
        return text.to_owned();
    }
    let (mut kept, mut rest) = (String::new(), text);
    while let Some(first) = rest.chars().next() {
        let follows = |after: &str| after.chars().next().is_some_and(char::is_alphanumeric);
        let is_here = rest.get(..word.len()).is_some_and(|here| here.eq_ignore_ascii_case(word))
            && !kept.chars().next_back().is_some_and(char::is_alphanumeric)
            && !follows(&rest[word.len()..]);
        if is_here {
            kept.push('…');
            rest = &rest[word.len()..];
        } else {
            kept.push(first);
            rest = &rest[first.len_utf8()..];
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
        let (ann, tagged) = ("Ann.Lee@people.example", "ann+shop@people.example");
        let long = format!("{} ann.lee", "x".repeat(LONGEST_REASON - 4));
        let cut = format!("{} …", "x".repeat(LONGEST_REASON - 4));
        for (address, words, kept) in [
            (ann, "550 <ann.lee@people.example>: no such user", "550 <…@people.example>: no such user"),
            (ann, "450 Ann.Lee@People.example. Later", "450 …@People.example. Later"),
            (ann, "550 user ann.lee. is unknown\r\nx", "550 user …. is unknown  x"),
            (ann, "550 ann.leeds is somebody else", "550 ann.leeds is somebody else"),
            (ann, "550 joann.lee is somebody else", "550 joann.lee is somebody else"),
            (ann, "550 mailbox=ann.lee/inbox -ANN.LEE- 'ann.lee'", "550 mailbox=…/inbox -…- '…'"),
            (ann, "451 ann.lee_ann.lee", "451 …_…"),
            (ann, "421 ünavailable", "421 ünavailable"),
            (ann, &long, &cut),
            (tagged, "550 ann+shop: user Ann has no folder", "550 …: user … has no folder"),
        ] {
            assert_eq!(without_address(words, address), kept);
        }
    }
}
