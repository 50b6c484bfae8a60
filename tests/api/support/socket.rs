//! A client on a raw socket: it can keep its connection, and leave at any moment.

use serde_json::Value;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection to the gateway.
pub struct Socket {
    socket: TcpStream,
    buffer: Vec<u8>,
}

/// The text of a `POST` of JSON.
pub fn post(path: &str, key: &str, request_id: &str, body: &Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nx-request-id: {request_id}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

impl Socket {
    pub async fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, buffer: Vec::new() }
    }

    /// Connects and sends `text`.
    pub async fn sent(address: SocketAddr, text: &str) -> Self {
        let mut raw = Self::connect(address).await;
        raw.send(text).await;
        raw
    }

    pub async fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).await.unwrap();
    }

    /// Waits for a byte of the answer, and leaves it there. `false`: the connection ended.
    pub async fn answers(&mut self) -> bool {
        if self.buffer.is_empty() {
            return matches!(self.socket.read_buf(&mut self.buffer).await, Ok(read) if read > 0);
        }
        true
    }

    /// The bytes up to and with `end`; `None` when the connection ends before.
    async fn through(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, end) {
                return Some(self.buffer.drain(..at + end.len()).collect());
            }
            if self.socket.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// The head of the answer, in lower case.
    pub async fn head(&mut self) -> Option<String> {
        let head = self.through(b"\r\n\r\n").await?;
        Some(String::from_utf8(head).unwrap().to_lowercase())
    }

    /// The next chunk of a chunked body; empty at its end.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = String::from_utf8(self.through(b"\r\n").await?).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        while self.buffer.len() < size + 2 {
            if self.socket.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
        let chunk = self.buffer.drain(..size).collect();
        self.buffer.drain(..2);
        Some(chunk)
    }
}
