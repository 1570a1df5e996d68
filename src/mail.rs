//! Emails: by SMTP where it is set up, else into files that the operator can read.
//!
//! An email in the outbox folder is one `.eml` file; by name the newest is last. Each form of the
//! code stands alone on a line of the text part, so that a script can find it. Nobody can read mail
//! to `@localhost`, the address of the first administrator, so nothing is sent there by SMTP: the
//! server would pass a code on to whoever takes it.

pub mod address;
mod message;
mod smtp;
pub mod url;

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lettre::message::Mailbox;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::{Address, Message};
use vellum_actors::mailer::{CodeEmail, MailError, MailErrorKind, MailSession, Mailer};
use vellum_protocol::UnixMillis;

use crate::config::{Mail, Origin};
use address::is_at_localhost;
use message::Composer;
use smtp::SmtpServer;
pub use smtp::Step;

/// Sends emails as the settings say.
pub struct EmailSender {
    composer: Composer,
    transport: MailTransport,
}

enum MailTransport {
    Smtp(Box<SmtpServer>),
    Folder(PathBuf),
}

impl EmailSender {
    /// Reads the settings. Nothing is connected yet.
    ///
    /// # Errors
    /// When the sender is no address that emails can come from, or `mail.ca_file` cannot be read.
    pub fn new(settings: &Mail, outbox: PathBuf, origin: &Origin) -> anyhow::Result<Self> {
        let from: Mailbox = settings.from.parse().context("the setting mail.from")?;
        let sender = address::parse(from.email.as_ref());
        let sender =
            sender.map_err(|reason| anyhow::anyhow!("the address in the setting mail.from {reason}"))?;
        let node = origin.domain().as_str().to_owned();
        let host = node.split_once(':').map_or(node.as_str(), |(host, _)| host).to_owned();
        let transport = match &settings.smtp_url {
            Some(url) => MailTransport::Smtp(Box::new(SmtpServer::new(url, settings, &host)?)),
            None => MailTransport::Folder(outbox),
        };
        let composer = Composer { from: Mailbox::new(from.name, sender), node, host };
        Ok(Self { composer, transport })
    }

    /// Connects to the mail server and signs in, and sends nothing. A folder needs neither.
    ///
    /// # Errors
    /// What the mail server says, or why it cannot be reached.
    pub async fn check(&self, steps: &mut Vec<Step>) -> Result<(), MailError> {
        if let MailTransport::Smtp(server) = &self.transport {
            let mut connection = server.connect(steps).await?;
            connection.abort().await;
        }
        Ok(())
    }

    /// Sends a test email, and notes each step.
    ///
    /// # Errors
    /// Why it was not sent.
    pub async fn test(&self, to: &str, at: UnixMillis, steps: &mut Vec<Step>) -> Result<(), MailError> {
        let to = address::parse(to).map_err(|reason| MailError::refused(format!("the address {reason}")))?;
        let message = self.composer.test(&to, at).map_err(not_composed)?;
        match &self.transport {
            MailTransport::Smtp(server) => {
                let mut connection = server.connect(steps).await?;
                smtp::offer(&mut connection, &self.composer.from.email, &to, steps).await?;
                smtp::send(&mut connection, &message.formatted(), steps).await?;
                smtp::quit(&mut connection).await;
                Ok(())
            }
            MailTransport::Folder(folder) => {
                let path = write_email(folder, at, &message)?;
                steps.push(Step { about: "email", says: format!("written to {}", path.display()) });
                Ok(())
            }
        }
    }
}

impl Mailer for EmailSender {
    fn open<'a>(&'a self, to: &'a str) -> BoxFuture<'a, Result<Box<dyn MailSession>, MailError>> {
        async move {
            let to = address::parse(to).map_err(|reason| nobody(format!("the address {reason}")))?;
            let transport = match &self.transport {
                MailTransport::Smtp(_) if is_at_localhost(&to) => {
                    return Err(nobody("nobody can receive mail at localhost"));
                }
                MailTransport::Smtp(server) => {
                    let mut connection = server.connect(&mut Vec::new()).await?;
                    smtp::offer(&mut connection, &self.composer.from.email, &to, &mut Vec::new()).await?;
                    OpenTransport::Smtp(Box::new(connection))
                }
                MailTransport::Folder(folder) => OpenTransport::Folder(folder.clone()),
            };
            let session: Box<dyn MailSession> =
                Box::new(Session { composer: self.composer.clone(), to, transport });
            Ok(session)
        }
        .boxed()
    }
}

/// A recipient was taken; the email is to follow.
struct Session {
    composer: Composer,
    to: Address,
    transport: OpenTransport,
}

enum OpenTransport {
    Smtp(Box<AsyncSmtpConnection>),
    Folder(PathBuf),
}

impl MailSession for Session {
    fn send(self: Box<Self>, email: CodeEmail) -> BoxFuture<'static, Result<(), MailError>> {
        async move {
            let Self { composer, to, transport } = *self;
            let message = composer.code(&email, &to).map_err(not_composed)?;
            match transport {
                OpenTransport::Smtp(mut connection) => {
                    smtp::send(&mut connection, &message.formatted(), &mut Vec::new()).await?;
                    // What was sent is noted first.
                    tokio::spawn(async move { smtp::quit(&mut connection).await });
                    Ok(())
                }
                OpenTransport::Folder(folder) => {
                    let path = write_email(&folder, email.sent_at, &message)?;
                    tracing::info!(file = %path.display(), "email written; set mail.smtp_url to have it sent");
                    Ok(())
                }
            }
        }
        .boxed()
    }
}

/// A request for a code for such an address tells nothing of the mail server.
fn nobody(reason: impl Into<String>) -> MailError {
    MailError { reason: reason.into(), kind: MailErrorKind::Nobody }
}

fn not_composed(error: anyhow::Error) -> MailError {
    MailError::refused(format!("the email cannot be composed: {error:#}"))
}

fn write_email(folder: &Path, at: UnixMillis, message: &Message) -> Result<PathBuf, MailError> {
    let text = String::from_utf8_lossy(&message.formatted()).replace("\r\n", "\n");
    write_file(folder, at, text.as_bytes())
        .map_err(|error| MailError::temporary(format!("writing into {}: {error}", folder.display())))
}

fn write_file(folder: &Path, at: UnixMillis, content: &[u8]) -> std::io::Result<PathBuf> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // The time first, so that names sort by age; the id keeps two of one millisecond apart.
    let name = format!("{:015}-{}", at.0, uuid::Uuid::now_v7());
    let (draft, path) = (folder.join(format!(".{name}")), folder.join(format!("{name}.eml")));
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&draft)?;
    file.write_all(content)?;
    drop(file);
    // A reader that waits for emails never sees half of one.
    std::fs::rename(&draft, &path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StartTls;

    #[tokio::test]
    async fn an_email_is_one_file_and_its_code_stands_alone_on_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Mail {
            smtp_url: None,
            from: "Vellum <vellum@localhost>".into(),
            starttls: StartTls::Opportunistic,
            allow_plaintext: false,
            ca_file: None,
        };
        let origin = Origin::parse("https://node.example").unwrap();
        let sender = EmailSender::new(&settings, folder.path().join("outbox"), &origin).unwrap();
        for (at, code) in [(1_000, "01234567"), (2_000, "89012345")] {
            let email = CodeEmail {
                to: "a@b.example".into(),
                code: code.into(),
                long_code: "ABCDEFGHIJKLMNOPQRST".into(),
                language: "en-US".into(),
                sent_at: UnixMillis(at),
            };
            sender.open("a@b.example").await.unwrap().send(email).await.unwrap();
        }
        let entries = std::fs::read_dir(folder.path().join("outbox")).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert_eq!(files.len(), 2);
        let newest = std::fs::read_to_string(&files[1]).unwrap();
        for code in ["89012345", "ABCDEFGHIJKLMNOPQRST"] {
            assert!(newest.lines().any(|line| line == code), "{newest}");
        }
    }
}
