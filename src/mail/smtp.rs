//! One email by SMTP, a step at a time: the code that it carries is made only when the server has
//! taken the recipient.

use std::fmt::Display;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use secrecy::ExposeSecret;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use vellum_actors::mailer::MailError;

use super::url::SmtpUrl;
use crate::config::{self, StartTls};

/// How long each step of a mail server may take.
const STEP: Duration = Duration::from_secs(30);
/// How long it may take to answer once it has the email, which many servers look through first.
const LOOK_THROUGH: Duration = Duration::from_secs(100);
/// How long each of the server's addresses may take to answer.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a good-bye may take, which nothing depends on.
const QUIT: Duration = Duration::from_secs(2);

/// A mail server.
pub(super) struct SmtpServer {
    url: SmtpUrl,
    credentials: Option<Credentials>,
    starttls: StartTls,
    allow_plaintext: bool,
    authority: Option<Certificate>,
    /// How the node introduces itself.
    hello: ClientId,
}

/// What one step has shown; for `vellum mail test`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The step.
    pub about: &'static str,
    /// How it went.
    pub says: String,
}

impl SmtpServer {
    pub fn new(url: &SmtpUrl, settings: &config::Mail, host: &str) -> anyhow::Result<Self> {
        let authority = settings.ca_file.as_ref().map(|path| {
            let pem = fs::read(path).map_err(anyhow::Error::from);
            let read = pem.and_then(|pem| Ok(Certificate::from_pem(&pem)?));
            read.with_context(|| format!("reading {} (mail.ca_file)", path.display()))
        });
        let credentials = url.credentials.as_ref();
        let credentials = credentials
            .map(|(user, password)| Credentials::new(user.clone(), password.expose_secret().to_owned()));
        Ok(Self {
            url: url.clone(),
            credentials,
            starttls: settings.starttls,
            allow_plaintext: settings.allow_plaintext,
            authority: authority.transpose()?,
            hello: match host.parse() {
                Ok(IpAddr::V4(address)) => ClientId::Ipv4(address),
                Ok(IpAddr::V6(address)) => ClientId::Ipv6(address),
                Err(_) => ClientId::Domain(host.to_owned()),
            },
        })
    }

    /// Connects, encrypts and signs in, and notes each step.
    pub async fn connect(&self, steps: &mut Vec<Step>) -> Result<AsyncSmtpConnection, MailError> {
        self.sign_in(steps).await.map_err(about_this_node)
    }

    async fn sign_in(&self, steps: &mut Vec<Step>) -> Result<AsyncSmtpConnection, MailError> {
        note(steps, "server", format!("{}:{}", self.url.host, self.url.port));
        let mut connection = if self.url.implicit_tls {
            let server = (self.url.host.as_str(), self.url.port);
            let tls = Some(self.tls(true)?);
            let encrypted =
                AsyncSmtpConnection::connect_tokio1(server, Some(CONNECT), &self.hello, tls, None);
            let connection = step("connecting by TLS", encrypted).await?;
            note(steps, "encryption", "TLS from the start, certificate checked");
            connection
        } else {
            let stream = self.dial().await?;
            let is_loopback = stream.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback());
            let greeting = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &self.hello);
            let mut connection = step("waiting for the greeting", greeting).await?;
            self.encrypt(&mut connection, is_loopback, steps).await?;
            connection
        };
        match &self.credentials {
            Some(credentials) => {
                let answer = step("signing in", connection.auth(DEFAULT_MECHANISMS, credentials)).await?;
                note(steps, "signing in", words(&answer));
            }
            None => note(steps, "signing in", "no user is set"),
        }
        Ok(connection)
    }

    /// Connects to the first of the server's addresses that answers.
    async fn dial(&self) -> Result<TcpStream, MailError> {
        let failed = |reason: &dyn Display| MailError::temporary(format!("connecting: {reason}"));
        let found = timeout(CONNECT, lookup_host((self.url.host.as_str(), self.url.port))).await;
        let found = found.map_err(|_| failed(&"the name was not found in time"))?;
        let addresses: Vec<SocketAddr> = found.map_err(|error| failed(&error))?.collect();
        let mut last = failed(&"the name has no address");
        for address in addresses {
            match timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = failed(&error),
                Err(_) => last = failed(&"no answer"),
            }
        }
        Err(last)
    }

    /// Encrypts the connection as the settings say. Fails where user and password would be sent in
    /// the clear.
    ///
    /// The certificate is checked unless the email might as well go in the clear: who can show a
    /// false certificate could hide that the server offers encryption, too.
    async fn encrypt(
        &self,
        connection: &mut AsyncSmtpConnection,
        is_loopback: bool,
        steps: &mut Vec<Step>,
    ) -> Result<(), MailError> {
        let may_be_clear = self.starttls != StartTls::Required
            && (self.credentials.is_none() || is_loopback || self.allow_plaintext);
        let says = if self.starttls != StartTls::Off && connection.can_starttls() {
            let is_checked = !may_be_clear || self.authority.is_some();
            step("STARTTLS", connection.starttls(self.tls(is_checked)?, &self.hello)).await?;
            if is_checked { "STARTTLS, certificate checked" } else { "STARTTLS, certificate not checked" }
        } else if !may_be_clear {
            return Err(MailError::temporary(match self.starttls {
                StartTls::Required => "the server offers no STARTTLS, which mail.starttls requires",
                StartTls::Off => "user and password are not sent in the clear, and mail.starttls is off",
                StartTls::Opportunistic => {
                    "user and password are not sent in the clear, and the server offers no STARTTLS"
                }
            }));
        } else if self.starttls == StartTls::Off {
            "none: mail.starttls is off"
        } else {
            "none: the server offers no STARTTLS"
        };
        note(steps, "encryption", says);
        Ok(())
    }

    fn tls(&self, is_checked: bool) -> Result<TlsParameters, MailError> {
        let parameters = TlsParameters::builder(self.url.host.clone());
        let parameters = parameters.dangerous_accept_invalid_certs(!is_checked);
        let parameters = match &self.authority {
            Some(authority) => parameters.add_root_certificate(authority.clone()),
            None => parameters,
        };
        parameters.build().map_err(|error| failure("preparing TLS", &error))
    }
}

/// Names sender and recipient.
pub(super) async fn offer(
    connection: &mut AsyncSmtpConnection,
    from: &Address,
    to: &Address,
    steps: &mut Vec<Step>,
) -> Result<(), MailError> {
    let sender = Mail::new(Some(from.clone()), Vec::new());
    let answer = step("naming the sender", connection.command(sender)).await.map_err(about_this_node)?;
    note(steps, "sender", words(&answer));
    let recipient = Rcpt::new(to.clone(), Vec::new());
    let answer = step("naming the recipient", connection.command(recipient)).await?;
    note(steps, "recipient", words(&answer));
    Ok(())
}

/// Sends the email's text. Where the server has it and does not answer, it may have been sent.
pub(super) async fn send(
    connection: &mut AsyncSmtpConnection,
    email: &[u8],
    steps: &mut Vec<Step>,
) -> Result<(), MailError> {
    step("beginning the email", connection.command(Data)).await?;
    const WHAT: &str = "sending the email";
    let answer = match timeout(LOOK_THROUGH, connection.message(email)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) if error.status().is_some() => return Err(failure(WHAT, &error)),
        Ok(Err(error)) => return Err(MailError::unknown(failure(WHAT, &error).reason)),
        Err(_) => {
            let reason = format!("{WHAT}: no answer within {} s", LOOK_THROUGH.as_secs());
            return Err(MailError::unknown(reason));
        }
    };
    note(steps, "email", words(&answer));
    Ok(())
}

/// Says good-bye. The email was taken, whatever becomes of the connection.
pub(super) async fn quit(connection: &mut AsyncSmtpConnection) {
    let _ = timeout(QUIT, connection.quit()).await;
}

fn note(steps: &mut Vec<Step>, about: &'static str, says: impl Into<String>) {
    steps.push(Step { about, says: says.into() });
}

/// The server's answer.
fn words(answer: &Response) -> String {
    let text: Vec<&str> = answer.message().collect();
    format!("{} {}", answer.code(), text.join(" ")).trim_end().to_owned()
}

async fn step<T>(what: &str, work: impl Future<Output = Result<T, Error>>) -> Result<T, MailError> {
    match timeout(STEP, work).await {
        Ok(done) => done.map_err(|error| failure(what, &error)),
        Err(_) => Err(MailError::temporary(format!("{what}: no answer within {} s", STEP.as_secs()))),
    }
}

/// Only what the server refuses for good (5xx) is final.
fn failure(what: &str, error: &Error) -> MailError {
    let words = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let reason = match error.status() {
        Some(code) => format!("{what}: {code} {words}"),
        None => format!("{what}: {error}"),
    };
    if error.is_permanent() { MailError::refused(reason) } else { MailError::temporary(reason) }
}

/// What a server refuses before it knows the recipient is about this node: once the operator has
/// mended that, the email goes.
fn about_this_node(error: MailError) -> MailError {
    MailError::temporary(error.reason)
}
