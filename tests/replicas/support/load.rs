//! Clients of one tenant that ask without a pause until they are told to stop.

use super::door::Door;
use super::tally::{Tally, Told};
use actix_rt::task::JoinHandle;
use awc::Client;
use bytes::BytesMut;
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Longest silence within an answer, and longest wait for the last ones when the load stops.
const PATIENCE: Duration = Duration::from_secs(120);
/// Pause of a client that got no answer: a replica that is away is not hammered.
const PAUSE: Duration = Duration::from_millis(20);

/// What to ask, and where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Begins the request ids: `<name>-<number>`.
    pub name: String,
    pub key: String,
    /// Client number k goes through door k modulo their number.
    pub doors: Vec<Door>,
    pub clients: usize,
    pub model: String,
    pub stream: bool,
    pub prompt: String,
    pub max_tokens: Option<u64>,
    /// Requests of all clients together; then they end by themselves.
    pub requests: Option<u64>,
    /// Whether a refusal (4xx, 5xx) is followed by a short pause.
    pub patient: bool,
}

impl Plan {
    /// Streams of model `m` through these doors.
    pub fn new(name: &str, key: &str, doors: &[Door], clients: usize) -> Self {
        Self {
            name: name.to_owned(),
            key: key.to_owned(),
            doors: doors.to_vec(),
            clients,
            model: "m".to_owned(),
            stream: true,
            prompt: "Hello".to_owned(),
            max_tokens: None,
            requests: None,
            patient: true,
        }
    }

    fn body(&self) -> String {
        let messages = json!([{"role": "user", "content": self.prompt}]);
        let mut body = json!({"model": self.model, "messages": messages});
        if self.stream {
            body["stream"] = true.into();
            body["stream_options"] = json!({"include_usage": true});
        }
        if let Some(max_tokens) = self.max_tokens {
            body["max_tokens"] = max_tokens.into();
        }
        body.to_string()
    }
}

struct Shared {
    plan: Plan,
    body: String,
    next: Cell<u64>,
    running: Cell<usize>,
    stopped: Cell<bool>,
    told: RefCell<Vec<Told>>,
}

/// Clients that ask.
pub struct Load {
    shared: Rc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub fn start(plan: Plan) -> Self {
        let shared = Rc::new(Shared {
            body: plan.body(),
            next: Cell::new(0),
            running: Cell::new(0),
            stopped: Cell::new(false),
            told: RefCell::default(),
            plan,
        });
        let clients = (0..shared.plan.clients).map(|number| {
            let door = number % shared.plan.doors.len();
            actix_rt::spawn(client(Rc::clone(&shared), door))
        });
        Self { clients: clients.collect(), shared }
    }

    /// Requests that ended so far.
    pub fn ended(&self) -> usize {
        self.shared.told.borrow().len()
    }

    /// Whole successes so far.
    pub fn served(&self) -> usize {
        self.shared.told.borrow().iter().filter(|told| told.served()).count()
    }

    /// Requests that wait for their answer or its end.
    pub fn running(&self) -> usize {
        self.shared.running.get()
    }

    /// What was told so far.
    pub fn tally(&self) -> Tally {
        Tally { all: self.shared.told.borrow().clone() }
    }

    /// Asks nothing more, waits for the answers that are on their way, and tells.
    pub async fn stop(self) -> Tally {
        self.shared.stopped.set(true);
        self.done().await
    }

    /// Waits for the end of a load with a number of requests.
    pub async fn done(mut self) -> Tally {
        for client in std::mem::take(&mut self.clients) {
            timeout(PATIENCE, client).await.expect("an end of the load").unwrap();
        }
        self.tally()
    }

    /// Leaves at once; requests that run are not in the tally.
    pub fn abandon(self) -> Tally {
        self.tally()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.clients.iter().for_each(JoinHandle::abort);
    }
}

async fn client(shared: Rc<Shared>, door: usize) {
    let client = shared.plan.doors[door].client();
    let may = |number| shared.plan.requests.is_none_or(|requests| number < requests);
    while !shared.stopped.get() && may(shared.next.get()) {
        let number = shared.next.replace(shared.next.get() + 1);
        shared.running.set(shared.running.get() + 1);
        let told = ask(&shared, &client, door, number).await;
        shared.running.set(shared.running.get() - 1);
        let pause = told.status.is_none() || (shared.plan.patient && !told.served());
        shared.told.borrow_mut().push(told);
        if pause {
            sleep(PAUSE).await;
        }
    }
}

async fn ask(shared: &Shared, client: &Client, door: usize, number: u64) -> Told {
    let plan = &shared.plan;
    let id = format!("{}-{number}", plan.name);
    let url = format!("{}/v1/chat/completions", plan.doors[door].base);
    let request = client
        .post(url)
        .insert_header(("authorization", format!("Bearer {}", plan.key)))
        .insert_header(("x-request-id", id.as_str()))
        .insert_header(("content-type", "application/json"));
    let asked = Instant::now();
    let mut told = Told {
        id,
        door,
        status: None,
        code: None,
        whole: false,
        input_tokens: 0,
        output_tokens: 0,
        asked,
        ended: asked,
    };
    if let Ok(mut answer) = request.send_body(shared.body.clone()).await {
        told.status = Some(answer.status().as_u16());
        let mut body = BytesMut::new();
        let ended = loop {
            match timeout(PATIENCE, answer.next()).await.expect("a stream that goes on") {
                Some(Ok(piece)) => body.extend_from_slice(&piece),
                Some(Err(_)) => break false,
                None => break true,
            }
        };
        read(&mut told, &String::from_utf8_lossy(&body), ended);
    }
    told.ended = Instant::now();
    told
}

/// Takes from an answer what it says.
fn read(told: &mut Told, body: &str, ended: bool) {
    let mut last = None;
    if let Ok(whole) = serde_json::from_str::<Value>(body) {
        told.whole = ended;
        last = Some(whole);
    } else {
        for event in body.lines().filter_map(|line| line.strip_prefix("data: ")) {
            let event = serde_json::from_str::<Value>(event).ok();
            // `[DONE]` is no JSON.
            told.whole = ended && event.as_ref().is_none_or(|event| event["error"].is_object());
            last = event.filter(|event| event["error"].is_object() || event["usage"].is_object()).or(last);
        }
    }
    let Some(last) = last else { return };
    told.code = last["error"]["code"].as_str().map(str::to_owned);
    if told.served() {
        told.input_tokens = last["usage"]["prompt_tokens"].as_u64().unwrap_or(0);
        told.output_tokens = last["usage"]["completion_tokens"].as_u64().unwrap_or(0);
    }
}
