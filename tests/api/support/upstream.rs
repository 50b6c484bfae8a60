//! A scripted upstream on a raw socket: every byte of its answers is the test's choice.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// A request as the upstream saw it. Header names are in lower case.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: Bytes,
    /// Which connection it came on, from 0.
    pub connection: usize,
}

impl Seen {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// Opens once per permit: lets a script wait for the test.
pub type Gate = Arc<Semaphore>;

/// One step of an answer.
#[derive(Clone, Debug)]
pub enum Step {
    /// Send these bytes at once.
    Send(Bytes),
    /// Wait until the gate lets one through; a client that leaves meanwhile is noted and ends the script.
    Wait(Gate),
    /// Close the connection in good order.
    Close,
    /// Reset the connection.
    Reset,
}

type Script = dyn Fn(&Seen) -> Vec<Step> + Send + Sync;

#[derive(Default)]
struct Notes {
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    busy: AtomicUsize,
    left: AtomicUsize,
}

/// The server. It ends with the runtime that started it.
#[derive(Clone)]
pub struct Upstream {
    pub address: SocketAddr,
    notes: Arc<Notes>,
}

impl Upstream {
    /// A server that answers each request by `script`.
    pub async fn start(script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let notes = Arc::new(Notes::default());
        let script: Arc<Script> = Arc::new(script);
        let shared = Arc::clone(&notes);
        actix_rt::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                actix_rt::spawn(serve(socket, number, Arc::clone(&shared), Arc::clone(&script)));
            }
        });
        Self { address, notes }
    }

    /// A server that always sends the same bytes.
    pub async fn always(answer: impl Into<Bytes>) -> Self {
        let answer = answer.into();
        Self::start(move |_| vec![Step::Send(answer.clone())]).await
    }

    /// The base URL, with `/v1`.
    pub fn base(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.notes.seen.lock().unwrap().clone()
    }

    /// The last request.
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("a request upstream")
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.notes.connections.load(Ordering::SeqCst)
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.notes.open.load(Ordering::SeqCst)
    }

    /// Requests that are being answered.
    pub fn busy(&self) -> usize {
        self.notes.busy.load(Ordering::SeqCst)
    }

    /// Requests whose client left while a script waited or wrote.
    pub fn left(&self) -> usize {
        self.notes.left.load(Ordering::SeqCst)
    }
}

async fn serve(mut socket: TcpStream, number: usize, notes: Arc<Notes>, script: Arc<Script>) {
    notes.open.fetch_add(1, Ordering::SeqCst);
    socket.set_nodelay(true).unwrap();
    let mut buffer = Vec::new();
    while let Some(seen) = read_request(&mut socket, &mut buffer, number).await {
        let steps = script(&seen);
        notes.seen.lock().unwrap().push(seen);
        notes.busy.fetch_add(1, Ordering::SeqCst);
        let usable = play(&mut socket, steps, &notes).await;
        notes.busy.fetch_sub(1, Ordering::SeqCst);
        if !usable {
            break;
        }
    }
    notes.open.fetch_sub(1, Ordering::SeqCst);
}

/// Plays a script; whether the connection can be used again.
async fn play(socket: &mut TcpStream, steps: Vec<Step>, notes: &Notes) -> bool {
    for step in steps {
        match step {
            Step::Send(bytes) => {
                if socket.write_all(&bytes).await.is_err() {
                    notes.left.fetch_add(1, Ordering::SeqCst);
                    return false;
                }
            }
            Step::Wait(gate) => {
                let mut byte = [0];
                tokio::select! {
                    permit = gate.acquire() => permit.unwrap().forget(),
                    _ = socket.peek(&mut byte) => {
                        notes.left.fetch_add(1, Ordering::SeqCst);
                        return false;
                    }
                }
            }
            Step::Close => {
                let _ = socket.shutdown().await;
                return false;
            }
            Step::Reset => {
                socket.set_zero_linger().unwrap();
                return false;
            }
        }
    }
    true
}

async fn read_request(socket: &mut TcpStream, buffer: &mut Vec<u8>, connection: usize) -> Option<Seen> {
    let head_end = loop {
        if let Some(at) = memchr::memmem::find(buffer, b"\r\n\r\n") {
            break at + 4;
        }
        if socket.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer[..head_end].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    while buffer.len() < head_end + length {
        if socket.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = Bytes::copy_from_slice(&buffer[head_end..head_end + length]);
    buffer.drain(..head_end + length);
    Some(Seen { method, target, headers, body, connection })
}

/// An answer with a JSON body.
pub fn json(status: u16, body: &str) -> Bytes {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into()
}

/// A chat completion that reports this usage.
pub fn chat_answer(prompt_tokens: u64, completion_tokens: u64) -> Bytes {
    let total = prompt_tokens + completion_tokens;
    json(
        200,
        &format!(
            r#"{{"id":"c1","object":"chat.completion","created":1,"model":"up","choices":[{{"index":0,"message":{{"role":"assistant","content":"Hi"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":{prompt_tokens},"completion_tokens":{completion_tokens},"total_tokens":{total}}}}}"#
        ),
    )
}

/// Streams send one event and go silent; anything else is answered.
pub async fn silent_streams() -> Upstream {
    let gate: Gate = Arc::new(Semaphore::new(0));
    Upstream::start(move |seen| {
        if seen.json()["stream"] != true {
            return vec![Step::Send(chat_answer(1, 1))];
        }
        let mut steps = sse(&chat_chunks(&["Hello"], None));
        steps.truncate(2);
        steps.push(Step::Wait(Arc::clone(&gate)));
        steps
    })
    .await
}

/// The head of a chunked event stream, then each of `events` as a chunk of its own, then the last chunk.
pub fn sse(events: &[String]) -> Vec<Step> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut steps = vec![Step::Send(head.into())];
    steps.extend(events.iter().map(|event| Step::Send(chunk(event))));
    steps.push(Step::Send("0\r\n\r\n".into()));
    steps
}

/// One chunk of the chunked transfer coding.
fn chunk(text: &str) -> Bytes {
    format!("{:x}\r\n{text}\r\n", text.len()).into()
}

/// The events of a chat stream: one a word, then (when `usage`) the extra chunk, then `[DONE]`.
pub fn chat_chunks(words: &[&str], usage: Option<(u64, u64)>) -> Vec<String> {
    let mut events: Vec<String> = words
        .iter()
        .map(|word| {
            format!(
                "data: {{\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\"finish_reason\":null}}]}}\n\n"
            )
        })
        .collect();
    if let Some((input, output)) = usage {
        events.push(format!(
            "data: {{\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"choices\":[],\"usage\":{{\"prompt_tokens\":{input},\"completion_tokens\":{output},\"total_tokens\":{}}}}}\n\n",
            input + output
        ));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}
