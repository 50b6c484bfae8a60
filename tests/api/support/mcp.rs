//! Fake MCP servers of both eras, and a client that speaks as it is told.

use super::client::{Answer, Caller};
use super::upstream::{Gate, Seen, Step, Upstream, json, sse};
use actix_web::http::Method;
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// What every fake server offers: `echo` answers at once, `slow` after its gate, `events` streams, `gated` streams
/// and waits for its gate before the response, `cut` streams half of it.
const TOOLS: [&str; 5] = ["echo", "slow", "events", "gated", "cut"];

/// A fake server.
#[derive(Clone)]
pub struct FakeMcp {
    pub upstream: Upstream,
    /// Lets `slow`, `gated` and streams of sessions go on.
    pub gate: Gate,
    sessions: Arc<Mutex<BTreeSet<String>>>,
}

#[derive(Clone)]
struct Script {
    stateless: bool,
    /// Lists are streams of events.
    events: bool,
    gate: Gate,
    sessions: Arc<Mutex<BTreeSet<String>>>,
    next: Arc<AtomicUsize>,
}

impl FakeMcp {
    /// One that opens sessions and answers with JSON.
    pub async fn with_sessions() -> Self {
        Self::start(false, false).await
    }

    /// One that opens sessions and answers with streams of events.
    pub async fn with_events() -> Self {
        Self::start(false, true).await
    }

    /// One of revision 2026-07-28.
    pub async fn stateless() -> Self {
        Self::start(true, false).await
    }

    async fn start(stateless: bool, events: bool) -> Self {
        let (gate, sessions): (Gate, Arc<Mutex<_>>) = (Arc::new(Semaphore::new(0)), Arc::default());
        let (next, own) = (Arc::default(), Arc::clone(&sessions));
        let script = Script { stateless, events, gate: Arc::clone(&gate), sessions: own, next };
        let upstream = Upstream::start(move |seen| script.play(seen)).await;
        Self { upstream, gate, sessions }
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.upstream.address)
    }

    /// Sessions that are open at the server.
    pub fn sessions(&self) -> usize {
        self.sessions.lock().unwrap().len()
    }

    /// The server forgets all sessions.
    pub fn forget_sessions(&self) {
        self.sessions.lock().unwrap().clear();
    }

    /// The requests for this method, or of this HTTP method.
    pub fn seen(&self, method: &str) -> Vec<Seen> {
        let is =
            |seen: &Seen| seen.method == method || (!seen.body.is_empty() && seen.json()["method"] == method);
        self.upstream.seen().into_iter().filter(is).collect()
    }
}

impl Script {
    fn play(&self, seen: &Seen) -> Vec<Step> {
        match seen.method.as_str() {
            "POST" if self.stateless => self.post_stateless(seen),
            "POST" => self.post(seen),
            _ if self.stateless => vec![Step::Send(json(405, "{}"))],
            "GET" => match self.session(seen) {
                Some(id) => {
                    let mut steps = sse(&[format!("id: 7\ndata: {}\n\n", list(json!(3)))]);
                    let last = steps.pop().unwrap();
                    let head = format!("text/event-stream\r\nmcp-session-id: {id}");
                    steps[0] = with_head(&steps[0], &head);
                    steps.extend([Step::Wait(Arc::clone(&self.gate)), last]);
                    steps
                }
                None => vec![Step::Send(json(404, "{}"))],
            },
            "DELETE" => match self.session(seen) {
                Some(id) => {
                    self.sessions.lock().unwrap().remove(&id);
                    vec![Step::Send(json(200, "{}"))]
                }
                None => vec![Step::Send(json(404, "{}"))],
            },
            _ => vec![Step::Send(json(405, "{}"))],
        }
    }

    fn session(&self, seen: &Seen) -> Option<String> {
        let id = seen.header("mcp-session-id")?.to_owned();
        self.sessions.lock().unwrap().contains(&id).then_some(id)
    }

    fn post(&self, seen: &Seen) -> Vec<Step> {
        let message = seen.json();
        if message["method"] == "initialize" {
            let id = format!("session-{}", self.next.fetch_add(1, Ordering::SeqCst));
            self.sessions.lock().unwrap().insert(id.clone());
            let version = &message["params"]["protocolVersion"];
            let result = json!({"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": {"name": "fake", "version": "1"}});
            let body = answer(&message["id"], result);
            let answer = json(200, &body);
            let text = String::from_utf8(answer.to_vec()).unwrap();
            let head = format!("content-type: application/json\r\nmcp-session-id: {id}");
            return vec![Step::Send(text.replacen("content-type: application/json", &head, 1).into())];
        }
        match self.session(seen) {
            Some(_) => self.reply(&message, seen),
            None if seen.header("mcp-session-id").is_some() => vec![Step::Send(json(404, "{}"))],
            None => vec![Step::Send(json(
                400,
                r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no session"}}"#,
            ))],
        }
    }

    fn post_stateless(&self, seen: &Seen) -> Vec<Step> {
        let message = seen.json();
        let meta = &message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"];
        let named = message["method"] != "tools/call"
            || seen.header("mcp-name") == message["params"]["name"].as_str();
        if seen.header("mcp-protocol-version") != meta.as_str()
            || seen.header("mcp-method") != message["method"].as_str()
            || !named
        {
            return vec![Step::Send(json(
                400,
                r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32020,"message":"headers"}}"#,
            ))];
        }
        if message["method"] == "server/discover" {
            let result = json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "public"});
            return vec![Step::Send(json(200, &answer(&message["id"], result)))];
        }
        self.reply(&message, seen)
    }

    fn reply(&self, message: &Value, seen: &Seen) -> Vec<Step> {
        let id = message["id"].clone();
        match message["method"].as_str().unwrap_or_default() {
            "tools/list" if self.events => {
                sse(&[": hi\n\n".to_owned(), format!("event: message\nid: 1\ndata: {}\n\n", list(id))])
            }
            "tools/list" => vec![Step::Send(json(200, &list(id)))],
            "tools/call" => self.call(message, seen),
            "prompts/list" => vec![Step::Send(json(200, &answer(&id, json!({"prompts": []}))))],
            _ if message["id"].is_null() => {
                vec![Step::Send("HTTP/1.1 202 X\r\ncontent-length: 0\r\n\r\n".into())]
            }
            _ => vec![Step::Send(json(
                404,
                &json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "no"}}).to_string(),
            ))],
        }
    }

    fn call(&self, message: &Value, seen: &Seen) -> Vec<Step> {
        let text =
            json!({"arguments": message["params"]["arguments"], "session": seen.header("mcp-session-id")});
        let mut result = json!({"content": [{"type": "text", "text": text.to_string()}]});
        if self.stateless {
            result["resultType"] = json!("complete");
        }
        let response = format!("event: message\ndata: {}\n\n", answer(&message["id"], result.clone()));
        let progress = "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{}}\n\n".to_owned();
        let mut whole = sse(&[progress, response]);
        let wait = Step::Wait(Arc::clone(&self.gate));
        match message["params"]["name"].as_str().unwrap_or_default() {
            "slow" => vec![wait, Step::Send(json(200, &answer(&message["id"], result)))],
            "events" => whole,
            "gated" => {
                whole.insert(2, wait);
                whole
            }
            // The response is there, and the stream stays open for a while.
            "lingers" => {
                whole.insert(3, wait);
                whole
            }
            "cut" => {
                whole.truncate(2);
                whole.push(Step::Close);
                whole
            }
            _ => vec![Step::Send(json(200, &answer(&message["id"], result)))],
        }
    }
}

fn with_head(step: &Step, kind: &str) -> Step {
    let Step::Send(head) = step else { panic!("no head") };
    Step::Send(String::from_utf8(head.to_vec()).unwrap().replacen("text/event-stream", kind, 1).into())
}

fn answer(id: &Value, result: Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()
}

fn list(id: Value) -> String {
    let tools: Vec<Value> =
        TOOLS.iter().map(|name| json!({"name": name, "inputSchema": {"type": "object"}})).collect();
    answer(&id, json!({"tools": tools, "ttlMs": 60_000, "cacheScope": "public", "resultType": "complete"}))
}

/// The data of the events in a body.
pub fn messages(body: &str) -> Vec<Value> {
    body.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

/// A request of revision 2026-07-28.
pub fn modern(method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    json!({"jsonrpc": "2.0", "id": 5, "method": method, "params": params})
}

/// A client of one endpoint.
#[derive(Clone)]
pub struct McpClient {
    pub caller: Caller,
    pub path: String,
    pub session: Option<String>,
}

impl McpClient {
    pub fn new(caller: &Caller, path: &str) -> Self {
        Self { caller: caller.clone(), path: path.to_owned(), session: None }
    }

    /// With a session that was opened now.
    pub async fn opened(caller: &Caller, path: &str) -> Self {
        let mut client = Self::new(caller, path);
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let opened = client.ask("initialize", params).await.expect(200);
        client.session = Some(opened.header("mcp-session-id").expect("a session").to_owned());
        client
            .send(
                Method::POST,
                &json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string(),
                &[],
            )
            .await
            .expect(202);
        client
    }

    /// A request of a session.
    pub async fn ask(&self, method: &str, params: Value) -> Answer {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        self.send(Method::POST, &message.to_string(), &[]).await
    }

    /// A call in a session.
    pub async fn call(&self, tool: &str) -> Answer {
        self.ask("tools/call", json!({"name": tool, "arguments": {"a": 1}})).await
    }

    /// A stateless request, with its headers.
    pub async fn ask_modern(&self, method: &str, params: Value) -> Answer {
        let name = params["name"].as_str().map(str::to_owned);
        let mut headers = vec![("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)];
        headers.extend(name.as_deref().map(|name| ("mcp-name", name)));
        self.send(Method::POST, &modern(method, params).to_string(), &headers).await
    }

    /// The names of the tools that a session lists.
    pub async fn tools(&self) -> Vec<String> {
        names(&self.ask("tools/list", json!({})).await.expect(200))
    }

    pub async fn send(&self, method: Method, body: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self
            .caller
            .request(method, &self.path)
            .insert_header(("accept", "application/json, text/event-stream"));
        if !body.is_empty() {
            request = request.insert_header(("content-type", "application/json"));
        }
        if let Some(session) = &self.session {
            request = request.insert_header(("mcp-session-id", session.as_str()));
        }
        for (name, value) in headers {
            request = request.append_header((*name, *value));
        }
        Caller::send(request, Bytes::copy_from_slice(body.as_bytes())).await
    }
}

/// The names of the tools in a list.
pub fn names(answer: &Answer) -> Vec<String> {
    let text = answer.text();
    let message =
        if text.trim_start().starts_with('{') { answer.json() } else { messages(&text).pop().unwrap() };
    let tools = message["result"]["tools"].as_array().unwrap();
    tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}
