//! A mail server inside the test: it speaks enough SMTP to take emails, and keeps them. It can offer
//! TLS with a certificate of its own, ask for a password, and refuse commands.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// How a server behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manners {
    /// Offers STARTTLS.
    pub starttls: bool,
    /// Expects TLS from the start.
    pub implicit_tls: bool,
    /// Takes emails only from who signs in as `user` with the password `hunter2`.
    pub auth: bool,
    /// Waits after the first command that begins so, until it is opened.
    pub waits_at: Option<&'static str>,
}

/// The answer of a server that goes away instead.
pub const NO_ANSWER: &str = "";

/// The server.
pub struct PostOffice {
    address: SocketAddr,
    state: Arc<State>,
    opened: watch::Sender<bool>,
}

struct State {
    manners: Manners,
    acceptor: TlsAcceptor,
    authority: String,
    letters: Mutex<Vec<String>>,
    commands: Mutex<Vec<Command>>,
    answers: Mutex<Vec<(&'static str, &'static str)>>,
}

/// What a client has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub line: String,
    pub encrypted: bool,
}

impl PostOffice {
    /// A server that takes letters from the start.
    pub async fn open() -> Self {
        Self::with(Manners::default()).await
    }

    /// The same with other manners.
    pub async fn with(manners: Manners) -> Self {
        let office = Self::start(manners).await;
        if manners.waits_at.is_none() {
            office.open_up();
        }
        office
    }

    /// A server that lets everybody connect and wait, until it is opened.
    pub async fn closed() -> Self {
        Self::start(Manners::default()).await
    }

    /// A server at an address of this machine that is no loopback address; `None` where it has no
    /// such address, said loudly.
    pub async fn elsewhere(manners: Manners) -> Option<Self> {
        // Connecting a datagram socket sends nothing; it tells the address that packets would have.
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        if let Err(error) = socket.connect("192.0.2.1:9") {
            // Written past the test harness, which keeps the words of tests that pass to itself.
            let words = format!("\n*** SKIPPED: no network beside loopback ({error}) ***\n\n");
            let _ = std::io::stderr().write_all(words.as_bytes());
            return None;
        }
        let office = Self::start_at(socket.local_addr().unwrap().ip(), manners).await;
        office.open_up();
        Some(office)
    }

    async fn start(manners: Manners) -> Self {
        Self::start_at(IpAddr::from([127, 0, 0, 1]), manners).await
    }

    async fn start_at(ip: IpAddr, manners: Manners) -> Self {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (acceptor, authority) = certificate(ip);
        let state = Arc::new(State {
            manners,
            acceptor,
            authority,
            letters: Mutex::default(),
            commands: Mutex::default(),
            answers: Mutex::default(),
        });
        let (opened, is_open) = watch::channel(false);
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, is_open) = (Arc::clone(&serving), is_open.clone());
                tokio::spawn(async move { drop(serve(stream, is_open, state).await) });
            }
        });
        Self { address, state, opened }
    }

    /// Begins to take letters.
    pub fn open_up(&self) {
        self.opened.send_replace(true);
    }

    /// The next command that begins so gets this answer; one answer a command. [`NO_ANSWER`] at the
    /// end of a letter: it is taken, and the connection closed.
    pub fn answer(&self, command: &'static str, answer: &'static str) {
        self.state.answers.lock().unwrap().push((command, answer));
    }

    /// What the setting `mail.smtp_url` has to be.
    pub fn url(&self) -> String {
        let scheme = if self.state.manners.implicit_tls { "smtps" } else { "smtp" };
        let user = if self.state.manners.auth { "user:hunter2@" } else { "" };
        format!("{scheme}://{user}{}", self.address)
    }

    /// The server's certificate, as PEM.
    pub fn authority(&self) -> &str {
        &self.state.authority
    }

    /// The letters taken so far, as they were transmitted.
    pub fn letters(&self) -> Vec<String> {
        self.state.letters.lock().unwrap().clone()
    }

    /// What clients have said so far, but for letters, of which the dot at the end is there.
    pub fn commands(&self) -> Vec<Command> {
        self.state.commands.lock().unwrap().clone()
    }

    /// How often clients have said what begins so.
    pub fn count(&self, command: &str) -> usize {
        self.commands().iter().filter(|said| said.line.starts_with(command)).count()
    }
}

fn certificate(ip: IpAddr) -> (TlsAcceptor, String) {
    // It may be there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed([ip.to_string()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let certificate = made.cert.der().clone();
    let base64 = STANDARD.encode(&certificate);
    let lines: Vec<&str> =
        base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), pem)
}

/// What is to happen after a session.
enum Next {
    End,
    Tls,
}

async fn serve(stream: TcpStream, is_open: watch::Receiver<bool>, state: Arc<State>) -> std::io::Result<()> {
    if state.manners.implicit_tls {
        let mut stream = BufStream::new(state.acceptor.accept(stream).await?);
        return talk(&mut stream, is_open, &state, true, true).await.map(drop);
    }
    let mut stream = BufStream::new(stream);
    if matches!(talk(&mut stream, is_open.clone(), &state, false, true).await?, Next::Tls) {
        let stream = state.acceptor.accept(stream.into_inner()).await?;
        talk(&mut BufStream::new(stream), is_open, &state, true, false).await?;
    }
    Ok(())
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufStream<S>,
    mut is_open: watch::Receiver<bool>,
    state: &State,
    encrypted: bool,
    greets: bool,
) -> std::io::Result<Next> {
    let manners = state.manners;
    if manners.waits_at.is_none() && is_open.wait_for(|open| *open).await.is_err() {
        return Ok(Next::End);
    }
    if greets {
        stream.write_all(b"220 post.example\r\n").await?;
        stream.flush().await?;
    }
    let (mut letter, mut signed_in): (Option<String>, bool) = (None, !manners.auth);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(Next::End);
        }
        let line = line.trim_end_matches(['\r', '\n']);
        if let Some(text) = &mut letter {
            if line != "." {
                text.push_str(line);
                text.push('\n');
                continue;
            }
            state.commands.lock().unwrap().push(Command { line: line.to_owned(), encrypted });
        } else {
            state.commands.lock().unwrap().push(Command { line: line.to_owned(), encrypted });
        }
        let waits = manners.waits_at.is_some_and(|at| line.starts_with(at));
        if waits && is_open.wait_for(|open| *open).await.is_err() {
            return Ok(Next::End);
        }
        let answer = match (forced(state, line), &mut letter) {
            (Some(NO_ANSWER), text) => {
                state.letters.lock().unwrap().extend(text.take());
                return Ok(Next::End);
            }
            (Some(answer), _) => {
                letter = None;
                answer.to_owned()
            }
            (None, Some(text)) => {
                state.letters.lock().unwrap().push(std::mem::take(text));
                letter = None;
                "250 2.0.0 taken".to_owned()
            }
            (None, None) if line.starts_with("EHLO") => {
                let mut lines = vec!["250-post.example"];
                lines.extend((manners.starttls && !encrypted).then_some("250-STARTTLS"));
                lines.extend(manners.auth.then_some("250-AUTH PLAIN LOGIN"));
                lines.push("250 8BITMIME");
                lines.join("\r\n")
            }
            (None, None) if line == "STARTTLS" => {
                stream.write_all(b"220 go ahead\r\n").await?;
                stream.flush().await?;
                return Ok(Next::Tls);
            }
            (None, None) if line.starts_with("AUTH") => {
                let right = format!("AUTH PLAIN {}", STANDARD.encode("\0user\0hunter2"));
                signed_in = line == right;
                if signed_in { "235 2.7.0 welcome" } else { "535 5.7.8 wrong" }.to_owned()
            }
            (None, None) if line.starts_with("MAIL") && !signed_in => "530 5.7.0 sign in first".to_owned(),
            (None, None) if line == "DATA" => {
                letter = Some(String::new());
                "354 go on".to_owned()
            }
            (None, None) if line == "QUIT" => "221 bye".to_owned(),
            (None, None) => "250 2.1.0 ok".to_owned(),
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
        stream.flush().await?;
    }
}

/// The answer that the test wants this command to get, once.
fn forced(state: &State, line: &str) -> Option<&'static str> {
    let mut answers = state.answers.lock().unwrap();
    let n = answers.iter().position(|(command, _)| line.starts_with(command))?;
    Some(answers.remove(n).1)
}
