//! A ledger row as the journal keeps it and the database gets it.
//!
//! Is: every field of contract §4 in plain types, borrowed from a row or from the bytes of the journal; words,
//! not numbers, for what may get new values. Its fields and their order are the format of a payload: they stay
//! as they are. What came later follows them as one block each ([`Charge`]): a reader that does not know a block
//! does not see it, and a payload that ends before a block was written by an earlier version. Never holds a
//! prompt or a body.

use super::row::LedgerRow;
use crate::ids::{KeyId, RowId, TenantId};
use serde::{Deserialize, Serialize};

/// What a payload says since it tells costs by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// Of the row's cost, for prompt tokens that were not cached; pico-dollars.
    pub input_pico: i64,
    /// Of the row's cost, for cached prompt tokens. The rest is for the answer.
    pub cached_input_pico: i64,
    /// Some of the tokens had no price.
    pub unpriced: bool,
}

/// One row in plain types.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<'a> {
    pub row_id: RowId,
    pub request_id: &'a str,
    /// Arrival, Unix microseconds.
    pub ts: i64,
    pub tenant: TenantId,
    pub key: KeyId,
    pub model: &'a str,
    pub upstream_model: &'a str,
    pub route: &'a str,
    pub stream: bool,
    pub admission: &'a str,
    pub status: u16,
    pub error_code: Option<&'a str>,
    pub cache: &'a str,
    pub estimated_tokens: u64,
    pub input_tokens: u64,
    pub cached_input_tokens: u64,
    pub output_tokens: u64,
    pub reasoning_tokens: u64,
    pub usage_source: &'a str,
    /// Pico-dollars.
    pub cost_pico: i64,
    pub queue_ms: u64,
    pub ttft_ms: Option<u64>,
    pub total_ms: u64,
    pub target_pod: Option<&'a str>,
    pub session_id: Option<&'a str>,
    pub mcp_server: Option<&'a str>,
    pub mcp_tool: Option<&'a str>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Not in the payloads of earlier versions. Follows the fields above.
    #[serde(skip)]
    pub charge: Option<Charge>,
}

impl<'a> From<&'a LedgerRow> for Entry<'a> {
    fn from(row: &'a LedgerRow) -> Self {
        // The counts that the cost was made from.
        let usage = row.usage.clamped();
        let [input_pico, cached_input_pico, output_pico] = row.cost.row_pico();
        Self {
            row_id: row.id,
            request_id: &row.request_id,
            ts: row.ts,
            tenant: row.tenant,
            key: row.key,
            model: &row.model,
            upstream_model: &row.upstream_model,
            route: row.route,
            stream: row.stream,
            admission: row.admission.as_str(),
            status: row.status,
            error_code: row.error_code,
            cache: row.cache.as_str(),
            estimated_tokens: row.estimated_tokens,
            input_tokens: usage.input,
            cached_input_tokens: usage.cached_input,
            output_tokens: usage.output,
            reasoning_tokens: usage.reasoning,
            usage_source: usage.source.as_str(),
            cost_pico: input_pico + cached_input_pico + output_pico,
            queue_ms: row.queue_ms,
            ttft_ms: row.ttft_ms,
            total_ms: row.total_ms,
            target_pod: row.target_pod.as_deref(),
            session_id: row.session_id.as_deref(),
            mcp_server: row.mcp_server.as_deref(),
            mcp_tool: row.mcp_tool.as_deref(),
            bytes_in: row.bytes_in,
            bytes_out: row.bytes_out,
            charge: Some(Charge { input_pico, cached_input_pico, unpriced: row.cost.unpriced }),
        }
    }
}

impl<'a> Entry<'a> {
    /// Reads a payload; `None` if it is none.
    pub(super) fn decode(payload: &'a [u8]) -> Option<Self> {
        let (entry, later): (Self, &[u8]) = postcard::take_from_bytes(payload).ok()?;
        let charge = if later.is_empty() { None } else { Some(postcard::from_bytes(later).ok()?) };
        Some(Self { charge, ..entry })
    }

    /// Appends the payload to `out`; whether it could.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> bool {
        super::journal::encode(self, out)
            && self.charge.is_none_or(|charge| super::journal::encode(&charge, out))
    }
}
