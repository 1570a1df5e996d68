//! A mail server inside the test: it speaks enough SMTP to take letters, and keeps them.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The server.
pub struct PostOffice {
    port: u16,
    letters: Arc<Mutex<Vec<String>>>,
    opened: watch::Sender<bool>,
}

impl PostOffice {
    /// A server that takes letters from the start.
    pub async fn open() -> Self {
        let office = Self::closed().await;
        office.open_up();
        office
    }

    /// A server that lets everybody connect and wait, until it is opened.
    pub async fn closed() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let letters: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&letters);
        let (opened, is_open) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, is_open.clone(), Arc::clone(&kept)));
            }
        });
        Self { port, letters, opened }
    }

    /// Begins to take letters.
    pub fn open_up(&self) {
        self.opened.send_replace(true);
    }

    /// What the setting `mail.smtp_url` has to be.
    pub fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// The letters taken so far, as they were transmitted.
    pub fn letters(&self) -> Vec<String> {
        self.letters.lock().unwrap().clone()
    }
}

async fn serve(stream: TcpStream, mut is_open: watch::Receiver<bool>, letters: Arc<Mutex<Vec<String>>>) {
    if is_open.wait_for(|open| *open).await.is_err() {
        return;
    }
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut letter: Option<String> = None;
    write.write_all(b"220 post.example\r\n").await.unwrap();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match &mut letter {
            Some(text) if line == "." => {
                letters.lock().unwrap().push(std::mem::take(text));
                letter = None;
                "250 taken\r\n"
            }
            Some(text) => {
                text.push_str(&line);
                text.push('\n');
                continue;
            }
            None if line.starts_with("DATA") => {
                letter = Some(String::new());
                "354 go on\r\n"
            }
            None if line.starts_with("QUIT") => "221 bye\r\n",
            None => "250 ok\r\n",
        };
        if write.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
