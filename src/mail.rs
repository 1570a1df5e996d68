//! Emails: by SMTP where it is set up, else into files that the operator can read.
//!
//! An email in the outbox folder is one `.eml` file; by name the newest is last. Each form of the
//! code stands alone on a line of the text part, so that a script can find it. Nobody can read mail
//! to `@localhost`, the address of the first administrator, so nothing is sent there by SMTP: the
//! server would pass a code on to whoever takes it.

pub mod queue;

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use lettre::message::{Mailbox, MultiPart};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use secrecy::ExposeSecret;
use vellum_actors::sign_in::{CODE_MILLIS, CodeLetter};
use vellum_protocol::UnixMillis;

use crate::config::Mail;

/// How long each step of a mail server may take.
const SMTP_PATIENCE: Duration = Duration::from_secs(20);

/// Where letters go.
pub struct Post {
    from: Mailbox,
    /// The node's name in letters.
    node: String,
    way: Way,
}

enum Way {
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
    Folder(PathBuf),
}

impl Post {
    /// Sets the way up that the settings name.
    ///
    /// # Errors
    /// When the SMTP address cannot be used.
    pub fn new(settings: &Mail, outbox: PathBuf, node: &str) -> anyhow::Result<Self> {
        let way = match &settings.smtp_url {
            Some(url) => {
                let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.expose_secret());
                Way::Smtp(
                    transport
                        .map_err(|_| anyhow::anyhow!("the setting mail.smtp_url cannot be used"))?
                        .timeout(Some(SMTP_PATIENCE))
                        .build(),
                )
            }
            None => Way::Folder(outbox),
        };
        Ok(Self { from: settings.from.parse().context("the setting mail.from")?, node: node.to_owned(), way })
    }

    /// Whether the way out is open: a mail server that answers, or a folder, which always is.
    ///
    /// # Errors
    /// What the mail server says, or why it cannot be reached.
    pub async fn can_send(&self) -> anyhow::Result<bool> {
        match &self.way {
            Way::Smtp(transport) => transport.test_connection().await.context("asking the mail server"),
            Way::Folder(_) => Ok(true),
        }
    }

    /// Sends one letter.
    ///
    /// # Errors
    /// When it cannot be composed, or is not taken.
    async fn send(&self, letter: &CodeLetter) -> anyhow::Result<()> {
        let message = self.compose(letter)?;
        match &self.way {
            Way::Smtp(_) if is_at_localhost(&letter.to) => {
                tracing::warn!(to = letter.to, "email not sent: nobody can receive mail at localhost");
            }
            Way::Smtp(transport) => {
                transport.send(message).await.context("handing an email to the mail server")?;
            }
            Way::Folder(folder) => {
                let text = String::from_utf8_lossy(&message.formatted()).replace("\r\n", "\n");
                let path = write_letter(folder, letter.sent_at, text.as_bytes())
                    .with_context(|| format!("writing an email into {}", folder.display()))?;
                tracing::info!(letter = %path.display(), "wrote an email; set mail.smtp_url to have it sent");
            }
        }
        Ok(())
    }

    fn compose(&self, letter: &CodeLetter) -> anyhow::Result<Message> {
        let code = letter.code.expose_secret();
        let long_code = letter.long_code.expose_secret();
        let Words { subject, before, between, after } = Words::in_language(&letter.language, &self.node);
        let text = format!("{before}\n\n{code}\n\n{between}\n\n{long_code}\n\n{after}\n");
        let html = format!(
            "<p>{before}</p><p style=\"font-size:1.6em\"><b>{code}</b></p><p>{between}</p>\
             <p><b>{long_code}</b></p><p>{after}</p>"
        );
        Ok(Message::builder()
            .from(self.from.clone())
            .to(letter.to.parse()?)
            .subject(subject)
            .multipart(MultiPart::alternative_plain_html(text, html))?)
    }
}

/// An email's words, in one language.
struct Words {
    subject: String,
    before: String,
    between: String,
    after: String,
}

impl Words {
    /// Spanish for `es` and everything that begins with it; English otherwise.
    fn in_language(tag: &str, node: &str) -> Self {
        let minutes = CODE_MILLIS / 60_000;
        if tag.split('-').next().is_some_and(|language| language.eq_ignore_ascii_case("es")) {
            return Self {
                subject: format!("Tu código para {node}"),
                before: format!("Tu código para entrar en {node} es"),
                between: "Si no se acepta, escribe en su lugar, en el mismo campo, estas letras:".to_owned(),
                after: format!(
                    "Sirve una sola vez, durante {minutes} minutos. Si no lo has pedido, alguien ha escrito tu \
                     dirección; no tienes que hacer nada."
                ),
            };
        }
        Self {
            subject: format!("Your code for {node}"),
            before: format!("Your code to sign in at {node} is"),
            between: "If it is not accepted, enter these letters in the same field instead:".to_owned(),
            after: format!(
                "It works once, within {minutes} minutes. If you did not ask for it, somebody typed your address; \
                 you need not do anything."
            ),
        }
    }
}

/// Whether an address is at `localhost`.
fn is_at_localhost(address: &str) -> bool {
    address.trim().rsplit_once('@').is_some_and(|(_, domain)| domain.eq_ignore_ascii_case("localhost"))
}

fn write_letter(folder: &Path, at: UnixMillis, content: &[u8]) -> std::io::Result<PathBuf> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // The time first, so that names sort by age; the id keeps two of one millisecond apart.
    let name = format!("{:015}-{}", at.0, uuid::Uuid::now_v7());
    let (draft, path) = (folder.join(format!(".{name}")), folder.join(format!("{name}.eml")));
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&draft)?;
    file.write_all(content)?;
    drop(file);
    // A reader that waits for letters never sees half of one.
    std::fs::rename(&draft, &path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_letter_is_one_file_and_its_code_stands_alone_on_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Mail { smtp_url: None, from: "Vellum <vellum@localhost>".into() };
        let post = Post::new(&settings, folder.path().join("outbox"), "node.example").unwrap();
        for (at, code) in [(1_000, "01234567"), (2_000, "89012345")] {
            let letter = CodeLetter {
                to: "a@b.example".into(),
                code: code.into(),
                long_code: "ABCDEFGHIJKLMNOPQRST".into(),
                language: "en-US".into(),
                sent_at: UnixMillis(at),
                has_account: true,
            };
            post.send(&letter).await.unwrap();
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

    #[test]
    fn an_address_at_localhost_is_recognised_however_it_is_written() {
        for (address, local) in [
            ("admin@localhost", true),
            (" Ann@LocalHost ", true),
            ("admin@localhost.example", false),
            ("localhost@people.example", false),
        ] {
            assert_eq!(is_at_localhost(address), local, "{address}");
        }
    }
}
