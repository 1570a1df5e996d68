//! How emails are sent: what the caller of this crate supplies.

use futures_util::future::BoxFuture;
use secrecy::SecretString;
use vellum_protocol::UnixMillis;

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
    /// What that means.
    pub kind: MailErrorKind,
}

/// What a failure to send an email means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailErrorKind {
    /// Another attempt may succeed.
    Passing,
    /// Another attempt would fail in the same way.
    Final,
    /// The mail server has all of the email and did not answer: it may have been sent.
    Unknown,
    /// Nobody can receive mail at the address, which says nothing about the mail server.
    Nobody,
}

impl MailError {
    /// Another attempt may succeed.
    #[must_use]
    pub fn temporary(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), kind: MailErrorKind::Passing }
    }

    /// Another attempt would fail, too.
    #[must_use]
    pub fn refused(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), kind: MailErrorKind::Final }
    }

    /// The email may have been sent.
    #[must_use]
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), kind: MailErrorKind::Unknown }
    }
}
