//! `events.jsonl`: what happened, in order.

use obleth_core::moment::Moment;
use std::io::{self, Write};

/// What happened to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It arrived and was taken, perhaps to be granted at once.
    Enqueue,
    Grant,
    Finish,
    /// Its sender left, while it waited or while it ran.
    Cancel,
    /// Its tenant has as many waiting as it may.
    Reject,
    /// It waited too long.
    Timeout,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Grant => "grant",
            Self::Finish => "finish",
            Self::Cancel => "cancel",
            Self::Reject => "reject",
            Self::Timeout => "timeout",
        }
    }
}

/// Where events go, if anywhere.
pub struct Events<'a> {
    to: Option<&'a mut dyn Write>,
}

impl std::fmt::Debug for Events<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("written", &self.to.is_some()).finish()
    }
}

impl<'a> Events<'a> {
    /// Writes to `to`, which should buffer.
    pub fn to(to: &'a mut dyn Write) -> Self {
        Self { to: Some(to) }
    }

    /// Writes nothing.
    pub fn nowhere() -> Self {
        Self { to: None }
    }

    pub(super) fn write(&mut self, at: Moment, kind: Kind, id: u64, tenant: &str) -> io::Result<()> {
        let Some(to) = &mut self.to else { return Ok(()) };
        let (whole, rest) = (at.as_micros() / 1_000_000, at.as_micros() % 1_000_000);
        write!(to, "{{\"t\":{whole}")?;
        if rest > 0 {
            let digits = format!("{rest:06}");
            write!(to, ".{}", digits.trim_end_matches('0'))?;
        }
        write!(to, ",\"event\":\"{}\",\"id\":{id},\"tenant\":", kind.name())?;
        serde_json::to_writer(&mut *to, tenant).map_err(io::Error::from)?;
        to.write_all(b"}\n")
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.to.as_mut().map_or(Ok(()), |to| to.flush())
    }
}
