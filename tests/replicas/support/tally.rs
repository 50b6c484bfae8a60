//! What clients were told.

use std::collections::BTreeMap;
use std::time::Instant;

/// One request and its end.
#[derive(Clone, Debug)]
pub struct Told {
    /// The request id it was sent with.
    pub id: String,
    /// Which of the doors it went through, from 0.
    pub door: usize,
    /// `None`: no head came.
    pub status: Option<u16>,
    /// The code of an error, also of one within a stream.
    pub code: Option<String>,
    /// The answer came to its end: a stream up to `[DONE]` or to an error event.
    pub whole: bool,
    /// As the answer says; 0 unless it was a whole success.
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub asked: Instant,
    pub ended: Instant,
}

impl Told {
    /// A whole success.
    pub fn served(&self) -> bool {
        self.whole && self.status == Some(200) && self.code.is_none()
    }
}

/// What the clients of one tenant were told.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub all: Vec<Told>,
}

impl Tally {
    /// Whole successes.
    pub fn served(&self) -> impl Iterator<Item = &Told> {
        self.all.iter().filter(|told| told.served())
    }

    /// Request ids of answers, errors among them, that came to their end.
    pub fn delivered(&self) -> impl Iterator<Item = &str> {
        self.all.iter().filter(|told| told.whole).map(|told| told.id.as_str())
    }

    /// Input and output tokens of whole successes.
    pub fn tokens(&self) -> u64 {
        self.served().map(|told| told.input_tokens + told.output_tokens).sum()
    }

    /// The same of those that ended in this time.
    pub fn tokens_between(&self, from: Instant, to: Instant) -> u64 {
        let within = self.served().filter(|told| told.ended >= from && told.ended < to);
        within.map(|told| told.input_tokens + told.output_tokens).sum()
    }

    /// How often each end came: `200`, `429 tokens_per_minute`, `200 draining` (in a stream), `200 broken`, `no answer`.
    pub fn ends(&self) -> BTreeMap<String, usize> {
        let mut ends = BTreeMap::new();
        for told in &self.all {
            let end = match (told.status, &told.code, told.whole) {
                (None, ..) => "no answer".to_owned(),
                (Some(status), _, false) => format!("{status} broken"),
                (Some(status), Some(code), true) => format!("{status} {code}"),
                (Some(status), None, true) => status.to_string(),
            };
            *ends.entry(end).or_default() += 1;
        }
        ends
    }
}
