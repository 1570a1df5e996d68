//! As much of HTTP/1.1 as the network between nodes needs: one request or answer read whole, its body as it came. What
//! it means is not known here.

use anyhow::{Context, ensure};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// A request or an answer.
#[derive(Debug, Clone)]
pub struct HttpMessage {
    /// The request line or the status line.
    pub first_line: String,
    headers: Vec<(String, String)>,
    /// The body, freed of chunks.
    pub body: Vec<u8>,
    /// All bytes as they came.
    pub raw: Vec<u8>,
}

impl HttpMessage {
    /// Reads one; `None` when the other side has nothing more to say.
    ///
    /// # Errors
    /// When the connection breaks in the middle, or what comes is not HTTP.
    pub async fn read(stream: &mut (impl AsyncBufRead + Unpin)) -> anyhow::Result<Option<Self>> {
        let mut raw = Vec::new();
        if read_line(stream, &mut raw).await? == 0 {
            return Ok(None);
        }
        let first_line = text_of(&raw, 0);
        let mut headers = Vec::new();
        loop {
            let start = raw.len();
            ensure!(read_line(stream, &mut raw).await? > 0, "the connection ended within the headers");
            let line = text_of(&raw, start);
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').context("a header without a colon")?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut message = Self { first_line, headers, body: Vec::new(), raw };
        message.read_body(stream).await?;
        Ok(Some(message))
    }

    /// The value of a header; the name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The status of an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.first_line.split(' ').nth(1)?.parse().ok()
    }

    async fn read_body(&mut self, stream: &mut (impl AsyncBufRead + Unpin)) -> anyhow::Result<()> {
        if self.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            loop {
                let start = self.raw.len();
                ensure!(read_line(stream, &mut self.raw).await? > 0, "the connection ended within a chunk");
                let size = usize::from_str_radix(text_of(&self.raw, start).trim(), 16)?;
                let start = self.raw.len();
                self.read_exactly(stream, size + 2).await?;
                self.body.extend_from_slice(&self.raw[start..start + size]);
                if size == 0 {
                    return Ok(());
                }
            }
        }
        let length = self.header("content-length").map_or(Ok(0), str::parse)?;
        let start = self.raw.len();
        self.read_exactly(stream, length).await?;
        self.body = self.raw[start..].to_vec();
        Ok(())
    }

    async fn read_exactly(
        &mut self,
        stream: &mut (impl AsyncBufRead + Unpin),
        length: usize,
    ) -> anyhow::Result<()> {
        let start = self.raw.len();
        self.raw.resize(start + length, 0);
        stream.read_exact(&mut self.raw[start..]).await?;
        Ok(())
    }
}

async fn read_line(stream: &mut (impl AsyncBufRead + Unpin), raw: &mut Vec<u8>) -> anyhow::Result<usize> {
    Ok(stream.read_until(b'\n', raw).await?)
}

fn text_of(raw: &[u8], start: usize) -> String {
    String::from_utf8_lossy(&raw[start..]).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_messages_on_one_connection_are_told_apart() {
        let bytes = b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n";
        let mut stream = &bytes[..];
        let request = HttpMessage::read(&mut stream).await.unwrap().unwrap();
        assert_eq!((request.first_line.as_str(), request.body.as_slice()), ("POST /a HTTP/1.1", &b"abc"[..]));
        let answer = HttpMessage::read(&mut stream).await.unwrap().unwrap();
        assert_eq!((answer.status(), answer.body.as_slice()), (Some(202), &b"de"[..]));
        assert!(HttpMessage::read(&mut stream).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_connection_that_breaks_in_the_middle_is_an_error() {
        let mut stream = &b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"[..];
        assert!(HttpMessage::read(&mut stream).await.is_err());
    }
}
