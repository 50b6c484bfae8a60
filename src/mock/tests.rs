//! Black-box tests: a mock on a port of its own, spoken to over plain sockets, so that framing is seen as it is.
//! Nothing sleeps: a poll of `/stats` is the pause.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{MockOptions, start};

mod faults;
mod shapes;

const PATIENCE: Duration = Duration::from_secs(10);

/// A mock that runs on a thread of its own until it is dropped.
struct Running {
    addr: SocketAddr,
    handle: actix_web::dev::ServerHandle,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Running {
    fn new(options: MockOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = start(listener, options).unwrap();
        let (addr, handle) = (server.addr(), server.handle());
        let thread = std::thread::spawn(move || actix_web::rt::System::new().block_on(server.run()));
        Self { addr, handle, thread: Some(thread) }
    }

    /// Answers of `tokens` tokens, as fast as possible.
    fn of(tokens: u32) -> Self {
        Self::new(MockOptions { tokens, ..MockOptions::default() })
    }

    /// Sends a request and leaves the connection open.
    fn send(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> TcpStream {
        let mut socket = TcpStream::connect(self.addr).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: mock\r\nconnection: close\r\nauthorization: Bearer upstream-key\r\nx-trace: a\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(body).unwrap();
        socket
    }

    fn begin(&self, path: &str, body: &Value) -> TcpStream {
        self.send("POST", path, "application/json", body.to_string().as_bytes())
    }

    fn post(&self, path: &str, body: &Value) -> Reply {
        Reply::read(self.begin(path, body))
    }

    fn get(&self, path: &str) -> Reply {
        Reply::read(self.send("GET", path, "text/plain", b""))
    }

    fn stats(&self) -> Value {
        self.get("/stats").json()
    }

    /// Polls `/stats` until `name` is `value`.
    fn until(&self, name: &str, value: u64) -> Value {
        let begun = Instant::now();
        loop {
            let stats = self.stats();
            if stats[name] == value {
                return stats;
            }
            assert!(begun.elapsed() < PATIENCE, "{name} never became {value}: {stats}");
        }
    }

    fn control(&self, model: &str, mode: &str) {
        assert_eq!(self.post("/control", &json!({"model": model, "mode": mode})).status, 200);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The command is sent by the call; only its answer would be awaited.
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

/// An answer as it came over the wire.
struct Reply {
    status: u16,
    head: String,
    /// As sent: with the chunk framing, if there is one.
    raw: Vec<u8>,
}

impl Reply {
    fn read(mut socket: TcpStream) -> Self {
        let mut bytes = Vec::new();
        // A cut connection may end in a reset; what came before it counts.
        let _ended = socket.read_to_end(&mut bytes);
        let split = memchr::memmem::find(&bytes, b"\r\n\r\n").expect("a response head");
        let head = String::from_utf8(bytes[..split].to_vec()).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head, raw: bytes[split + 4..].to_vec() }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.raw).unwrap()
    }

    /// The payload of each HTTP chunk, and whether the terminal one came.
    fn chunks(&self) -> (Vec<String>, bool) {
        let (mut rest, mut chunks) = (std::str::from_utf8(&self.raw).unwrap(), Vec::new());
        while let Some((size, after)) = rest.split_once("\r\n") {
            let size = usize::from_str_radix(size, 16).unwrap();
            if size == 0 {
                return (chunks, true);
            }
            chunks.push(after[..size].to_owned());
            rest = &after[size + 2..];
        }
        (chunks, false)
    }

    /// The `data:` of each chunk of a whole stream; every chunk holds exactly one event.
    fn events(&self) -> Vec<String> {
        assert_eq!(self.status, 200);
        let (chunks, whole) = self.chunks();
        assert!(whole, "the stream has no end");
        for chunk in &chunks {
            assert!(
                chunk.ends_with("\n\n") && chunk.matches("\n\n").count() == 1,
                "not one event: {chunk:?}"
            );
        }
        chunks.iter().map(|chunk| chunk.split_once("data: ").unwrap().1.trim_end().to_owned()).collect()
    }
}

fn parsed(events: &[String]) -> Vec<Value> {
    events.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
}

fn chat(stream: bool) -> Value {
    json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "Say hello, twice."}]})
}
