//! Emails: whether the mail server takes them, and what waits.

use vellum_actors::Clock;
use vellum_store::{Store, StoreError, mail_queue, node_facts};

use super::Finding;
use crate::config::{Origin, Settings};
use crate::data_dir::DataDir;
use crate::mail::EmailSender;

/// How long a failure counts that nothing waits for any more, in milliseconds.
const COUNTS: i64 = 24 * 3_600_000;

pub async fn check(settings: &Settings) -> Finding {
    if settings.mail.smtp_url.is_none() {
        let says = "no mail server is set: emails with sign-in codes are files in the outbox folder";
        return Finding::doubtful("mail", says, "set mail.smtp_url, unless nobody but you signs in");
    }
    let advice = "see mail.smtp_url and mail.starttls; vellum mail test ADDRESS shows each step";
    match connect(settings).await {
        Ok(says) => Finding::well("mail", format!("the mail server answers ({says})")),
        Err(error) => Finding::broken("mail", format!("{error:#}"), advice),
    }
}

/// Connects as an email would, and says how the connection is encrypted.
async fn connect(settings: &Settings) -> anyhow::Result<String> {
    let mut steps = Vec::new();
    sender(settings)?.check(&mut steps).await?;
    let encryption = steps.into_iter().find(|step| step.about == "encryption");
    Ok(encryption.map_or_else(String::new, |step| format!("encryption: {}", step.says)))
}

/// What sends emails with these settings, beside a running node.
///
/// # Errors
/// When a setting cannot be used.
pub(crate) fn sender(settings: &Settings) -> anyhow::Result<EmailSender> {
    let origin: Origin = settings.origin_at(settings.http.listen.port())?;
    EmailSender::new(&settings.mail, DataDir::at(&settings.data_dir).outbox(), &origin)
}

/// What waits to be sent, and what could not be.
pub async fn queue(store: &Store, clock: &Clock) -> Finding {
    match examine(store, clock).await {
        Ok(finding) => finding,
        Err(error) => Finding::broken("mail queue", error.to_string(), "see the database"),
    }
}

async fn examine(store: &Store, clock: &Clock) -> Result<Finding, StoreError> {
    let now = clock.now();
    let mut conn = store.read().await?;
    let queue = mail_queue::overview(&mut conn, now).await?;
    let failure = node_facts::mail_failure(&mut conn).await?;
    let waiting = match queue.oldest {
        Some(oldest) => {
            format!("{} emails wait, the oldest for {} s", queue.waiting, now.since(oldest).max(0) / 1000)
        }
        None => "no email waits".to_owned(),
    };
    let failure = failure.filter(|(_, at)| queue.failing > 0 || now.since(*at) < COUNTS);
    let Some((reason, at)) = failure else { return Ok(Finding::well("mail queue", waiting)) };
    let says = format!("{waiting}; at {} one was not sent: {reason}", at.to_rfc3339());
    let advice = "see docs/operations/mail.md; vellum mail test ADDRESS shows each step";
    Ok(if queue.failing > 0 {
        Finding::broken("mail queue", says, advice)
    } else {
        Finding::doubtful("mail queue", says, advice)
    })
}
