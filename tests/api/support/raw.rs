//! Requests byte by byte on a raw socket: what no well-behaved client would send.

use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// An answer as it came over the wire. Header names are in lower case.
#[derive(Clone, Debug)]
pub struct RawAnswer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// All of the body came.
    pub whole: bool,
}

impl RawAnswer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// `error.code` of an answer in the envelope, whose request id is that of the header.
    pub fn error_code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"));
        let error = &body["error"];
        assert_eq!(error["source"], "gateway", "{body}");
        assert_eq!(error["request_id"].as_str(), self.header("x-request-id"), "{body}");
        error["code"].as_str().unwrap().to_owned()
    }
}

/// A connection that sends what the test says.
pub struct Raw {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    pub async fn open(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, buffer: Vec::new() }
    }

    /// Sends bytes; the other side may have closed already.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.socket.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Ends the sending side.
    pub async fn half_close(&mut self) {
        self.socket.shutdown().await.unwrap();
    }

    /// Reads one answer; `None` when the connection ends before its head.
    pub async fn answer(&mut self) -> Option<RawAnswer> {
        timeout(Duration::from_secs(20), self.read_answer()).await.expect("an answer or an end within 20 s")
    }

    /// Waits until this many bytes are there; whether they are these. Nothing is taken.
    pub async fn begins(&mut self, text: &str) -> bool {
        while self.buffer.len() < text.len() && self.fill().await {}
        self.buffer.starts_with(text.as_bytes())
    }

    async fn read_answer(&mut self) -> Option<RawAnswer> {
        let end = loop {
            match memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                Some(at) => break at + 4,
                None if self.fill().await => {}
                None => return None,
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end);
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = RawAnswer { status, headers, body: Vec::new(), whole: true };
        if answer.header("transfer-encoding").is_some() {
            answer.whole = self.read_chunks(&mut answer.body).await;
        } else {
            let length = answer.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
            while self.buffer.len() < length && self.fill().await {}
            answer.whole = self.buffer.len() >= length;
            let taken = length.min(self.buffer.len());
            answer.body = self.buffer.drain(..taken).collect();
        }
        Some(answer)
    }

    async fn read_chunks(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            let Some(at) = memchr::memmem::find(&self.buffer, b"\r\n") else {
                if !self.fill().await {
                    return false;
                }
                continue;
            };
            let size = std::str::from_utf8(&self.buffer[..at]).unwrap();
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            while self.buffer.len() < at + 2 + size + 2 {
                if !self.fill().await {
                    return false;
                }
            }
            body.extend_from_slice(&self.buffer[at + 2..at + 2 + size]);
            self.buffer.drain(..at + 2 + size + 2);
            if size == 0 {
                return true;
            }
        }
    }

    /// Waits for the end of the connection; `false` when more bytes come.
    pub async fn ended(&mut self) -> bool {
        self.buffer.is_empty()
            && !timeout(Duration::from_secs(20), self.fill()).await.expect("an end within 20 s")
    }

    async fn fill(&mut self) -> bool {
        matches!(self.socket.read_buf(&mut self.buffer).await, Ok(read) if read > 0)
    }
}

/// One request on a connection of its own.
pub async fn exchange(address: SocketAddr, request: impl AsRef<[u8]>) -> Option<RawAnswer> {
    let mut raw = Raw::open(address).await;
    raw.send(request).await;
    raw.answer().await
}
