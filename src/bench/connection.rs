//! One connection of the driver: HTTP/1.1 as lean as it gets, so that what is measured is the node and not its
//! client. It writes requests that are bytes already, into one buffer reads answers with a length, and takes
//! nothing else: whatever it does not expect is an error and ends the run. It is no client for anything but
//! measuring.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The longest head of an answer.
const LONGEST_HEAD: usize = 16 * 1024;
/// The longest body of an answer.
const LONGEST_BODY: usize = 16 * 1024 * 1024;

/// Why an exchange did not end with an answer.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    /// It was closed in the middle, or before an answer.
    #[error("the connection was closed before the answer was whole")]
    Closed,
    /// What came is no answer as this driver reads them.
    #[error("the answer cannot be read: {0}")]
    Malformed(&'static str),
}

/// An answer: valid until the next exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The status.
    pub status: u16,
    /// The body, as it came.
    pub body: &'a [u8],
}

impl Answer<'_> {
    /// Takes the answer only with this status, and with this text somewhere in its body.
    ///
    /// # Errors
    /// What was answered instead.
    pub fn expect(&self, status: u16, text: &str) -> Result<(), String> {
        let has_text = text.is_empty() || self.body.windows(text.len()).any(|part| part == text.as_bytes());
        if self.status == status && has_text {
            return Ok(());
        }
        let body: String = String::from_utf8_lossy(self.body).chars().take(300).collect();
        Err(format!("expected {status} with {text}, got {}: {body}", self.status))
    }
}

/// The parts of an answer's head that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Bytes up to the body.
    length: usize,
    /// Bytes of the body.
    body: usize,
}

/// A connection that stays open.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of the last answer, which lie in front in the buffer until the next exchange.
    last: usize,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096), last: 0 })
    }

    /// Sends a whole request and reads the whole answer.
    ///
    /// # Errors
    /// [`WireError`]; the connection is of no use then.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Answer<'_>, WireError> {
        self.buffer.drain(..self.last);
        self.last = 0;
        if !self.buffer.is_empty() {
            return Err(WireError::Malformed("it has more bytes than it says"));
        }
        self.stream.write_all(request).await?;
        let head = loop {
            if let Some(head) = parse_head(&self.buffer)? {
                break head;
            }
            self.read_more().await?;
        };
        let end = head.length + head.body;
        while self.buffer.len() < end {
            self.read_more().await?;
        }
        self.last = end;
        Ok(Answer { status: head.status, body: &self.buffer[head.length..end] })
    }

    async fn read_more(&mut self) -> Result<(), WireError> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(WireError::Closed),
            _ => Ok(()),
        }
    }
}

/// Reads the head once it is whole.
fn parse_head(bytes: &[u8]) -> Result<Option<Head>, WireError> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() > LONGEST_HEAD {
            Err(WireError::Malformed("its head does not end"))
        } else {
            Ok(None)
        };
    };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| WireError::Malformed("its head is no text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
    let status = status.and_then(|rest| rest.get(..3)).and_then(|digits| digits.parse().ok());
    let status: u16 = status.ok_or(WireError::Malformed("its first line is none of HTTP/1.1"))?;
    let mut body = None;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(WireError::Malformed("a header has no colon"))?;
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(WireError::Malformed("it comes in chunks"));
        }
        if name.eq_ignore_ascii_case("content-length") {
            let length: usize =
                value.trim().parse().map_err(|_| WireError::Malformed("its length is no number"))?;
            if body.replace(length).is_some() || length > LONGEST_BODY {
                return Err(WireError::Malformed("its length is given twice, or too large"));
            }
        }
    }
    let body = match (body, status) {
        (_, 204 | 304) => 0,
        (Some(length), _) => length,
        (None, _) => return Err(WireError::Malformed("it has no length")),
    };
    Ok(Some(Head { status, length: end + 4, body }))
}

/// Writes a request, in place of what is in `buffer`.
pub fn write_request(buffer: &mut Vec<u8>, start: &str, headers: &[(&str, &str)], body: &[u8]) {
    buffer.clear();
    buffer.extend_from_slice(start.as_bytes());
    buffer.extend_from_slice(b" HTTP/1.1\r\nhost: localhost\r\n");
    for (name, value) in headers {
        for part in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            buffer.extend_from_slice(part);
        }
    }
    if !body.is_empty() {
        buffer.extend_from_slice(
            format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()).as_bytes(),
        );
    }
    buffer.extend_from_slice(b"\r\n");
    buffer.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx: y\r\n\r\n{}";
        let head = Head { status: 200, length: bytes.len() - 2, body: 2 };
        assert_eq!(parse_head(bytes).unwrap(), Some(head));
        for end in 0..bytes.len() - 2 {
            assert_eq!(parse_head(&bytes[..end]).unwrap(), None, "{end}");
        }
        assert_eq!(parse_head(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap().body, 0);
    }

    #[test]
    fn what_the_driver_does_not_expect_is_an_error() {
        for wrong in [
            "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 20\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
        ] {
            assert!(parse_head(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(parse_head(&vec![b'a'; LONGEST_HEAD + 1]).is_err());
    }

    #[test]
    fn an_answer_counts_only_with_its_status_and_its_content() {
        let answer = Answer { status: 200, body: br#"{"handle":"ann@node"}"# };
        assert!(answer.expect(200, r#""handle":"ann@node""#).is_ok());
        assert!(answer.expect(201, "").is_err());
        assert!(answer.expect(200, "bob").unwrap_err().contains("ann@node"), "it tells what came instead");
    }
}
