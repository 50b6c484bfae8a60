//! One row of the ledger (contract §4).

use super::cost::{Cost, Usage, UsageSource};
use crate::ids::{KeyId, RowId, TenantId};
use std::sync::Arc;

/// How a request got its seat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Admission {
    /// At once: a slot was free and nobody waited.
    Fast,
    /// After a wait in the queue.
    Queued,
    /// At once or after a wait, and with less than it asked for: its pool was under pressure.
    Brownout,
    /// Refused by the gateway before a seat was given.
    Rejected,
    /// The request needed no seat, or ended before it asked for one.
    #[default]
    None,
}

impl Admission {
    /// The word in the ledger, the header and the metric.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Queued => "queued",
            Self::Brownout => "brownout",
            Self::Rejected => "rejected",
            Self::None => "none",
        }
    }
}

/// What the response cache did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheState {
    /// The model is not cached.
    #[default]
    Off,
    /// The answer was kept from an earlier request: no upstream call, no cost.
    Hit,
    /// There was none: the upstream was asked.
    Miss,
    /// The answer to an equal request at the same time: no upstream call of its own, no cost.
    Coalesced,
    /// The client or the request itself ruled the cache out.
    Bypass,
}

impl CacheState {
    /// The word in the ledger and the header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Coalesced => "coalesced",
            Self::Bypass => "bypass",
        }
    }

    /// Whether the answer cost nothing: its tokens are saved.
    pub const fn is_free(self) -> bool {
        matches!(self, Self::Hit | Self::Coalesced)
    }
}

/// One row: what one request on a model route asked, got and cost.
#[derive(Clone, Debug)]
pub struct LedgerRow {
    pub id: RowId,
    /// As the client sees it in `x-request-id`; a client may choose it and may repeat it.
    pub request_id: Arc<str>,
    /// Arrival, Unix microseconds.
    pub ts: i64,
    pub tenant: TenantId,
    pub key: KeyId,
    /// Registered name; empty when the request named no model that exists.
    pub model: Arc<str>,
    pub upstream_model: Arc<str>,
    /// Path of the route, e.g. `/v1/chat/completions`; `mcp` for all of MCP.
    pub route: &'static str,
    pub stream: bool,
    pub admission: Admission,
    /// HTTP status; 499 when the client left.
    pub status: u16,
    pub error_code: Option<&'static str>,
    pub cache: CacheState,
    pub estimated_tokens: u64,
    pub usage: Usage,
    /// Frozen at completion.
    pub cost: Cost,
    pub queue_ms: u64,
    /// To the first byte of the answer's body.
    pub ttft_ms: Option<u64>,
    pub total_ms: u64,
    pub target_pod: Option<Arc<str>>,
    pub session_id: Option<Arc<str>>,
    /// Name of a registered MCP server.
    pub mcp_server: Option<Arc<str>>,
    /// The tool that was called, as its server names it.
    pub mcp_tool: Option<Arc<str>>,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl LedgerRow {
    /// The word for where the counts come from.
    pub const fn usage_source(&self) -> UsageSource {
        self.usage.source
    }
}
