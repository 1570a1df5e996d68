//! What emails say, and the headers they say it under.

use std::time::{Duration, UNIX_EPOCH};

use lettre::message::{Mailbox, MultiPart};
use lettre::{Address, Message};
use secrecy::ExposeSecret;
use vellum_actors::mailer::CodeEmail;
use vellum_actors::sign_in::CODE_MILLIS;
use vellum_protocol::UnixMillis;

/// Composes emails of one node.
#[derive(Debug, Clone)]
pub(super) struct Composer {
    /// The sender, with the ASCII form of its domain.
    pub from: Mailbox,
    /// The node's name in emails: its domain.
    pub node: String,
    /// The host of the node's origin.
    pub host: String,
}

impl Composer {
    /// An email with a sign-in code, to the address as it goes out.
    pub fn code(&self, email: &CodeEmail, to: &Address) -> anyhow::Result<Message> {
        let code = email.code.expose_secret();
        let long_code = email.long_code.expose_secret();
        let Words { subject, before, between, after } = Words::in_language(&email.language, &self.node);
        let text = format!("{before}\n\n{code}\n\n{between}\n\n{long_code}\n\n{after}\n");
        let html = format!(
            "<p>{before}</p><p style=\"font-size:1.6em\"><b>{code}</b></p><p>{between}</p>\
             <p><b>{long_code}</b></p><p>{after}</p>"
        );
        self.message(to, email.sent_at, subject, text, html)
    }

    /// An email that only shows that emails arrive.
    pub fn test(&self, to: &Address, at: UnixMillis) -> anyhow::Result<Message> {
        let subject = format!("Test email from {}", self.node);
        let text = format!("{} can send emails to this address.\n", self.node);
        let html = format!("<p>{} can send emails to this address.</p>", self.node);
        self.message(to, at, subject, text, html)
    }

    fn message(
        &self,
        to: &Address,
        at: UnixMillis,
        subject: String,
        text: String,
        html: String,
    ) -> anyhow::Result<Message> {
        let since_epoch = Duration::from_millis(u64::try_from(at.0).unwrap_or(0));
        Ok(Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to.clone()))
            .date(UNIX_EPOCH + since_epoch)
            .message_id(Some(format!("<{}@{}>", uuid::Uuid::new_v4(), self.id_domain())))
            .subject(subject)
            .multipart(MultiPart::alternative_plain_html(text, html))?)
    }

    /// What stands behind the `@` of a message's id.
    fn id_domain(&self) -> String {
        let is_address = self.host.parse::<std::net::IpAddr>().is_ok();
        if is_address { format!("[{}]", self.host) } else { self.host.clone() }
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
