//! Rows as CSV (RFC 4180): one header, the columns of contract §4, lines that end in CR LF.
//!
//! A spreadsheet takes a field that begins with `=`, `+`, `-`, `@`, a tab or a line break for a formula. Clients choose
//! some of these texts: such a field gets an apostrophe in front, which spreadsheets do not show.

use chrono::{DateTime, SecondsFormat};
use obleth_core::units::Usd;
use obleth_schema::ledger::LedgerRecord;
use std::fmt::{Display, Write};

const COLUMNS: [&str; 28] = [
    "request_id",
    "ts",
    "tenant_id",
    "key_id",
    "model",
    "upstream_model",
    "route",
    "stream",
    "admission",
    "status",
    "error_code",
    "cache",
    "estimated_tokens",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "usage_source",
    "cost_usd",
    "queue_ms",
    "ttft_ms",
    "total_ms",
    "target_pod",
    "session_id",
    "mcp_server",
    "mcp_tool",
    "bytes_in",
    "bytes_out",
];

/// The first line.
pub(super) fn header() -> String {
    format!("{}\r\n", COLUMNS.join(","))
}

/// Appends the line of a row.
pub(super) fn line(row: &LedgerRecord, out: &mut String) {
    let start = out.len();
    fields(row, out);
    // Each field left a comma behind.
    if out.len() > start {
        out.pop();
    }
    out.push_str("\r\n");
}

fn fields(row: &LedgerRecord, out: &mut String) {
    text(out, &row.request_id);
    plain(
        out,
        DateTime::from_timestamp_micros(row.ts)
            .unwrap_or_default()
            .to_rfc3339_opts(SecondsFormat::Micros, true),
    );
    text(out, &row.tenant_id);
    text(out, &row.key_id);
    text(out, &row.model);
    text(out, &row.upstream_model);
    text(out, &row.route);
    plain(out, row.stream);
    text(out, &row.admission);
    plain(out, row.status);
    text(out, row.error_code.as_deref().unwrap_or_default());
    text(out, &row.cache);
    plain(out, row.estimated_tokens);
    plain(out, row.input_tokens);
    plain(out, row.cached_input_tokens);
    plain(out, row.output_tokens);
    plain(out, row.reasoning_tokens);
    text(out, &row.usage_source);
    plain(out, Usd::from_pico(row.cost_pico.into()));
    plain(out, row.queue_ms);
    plain(out, row.ttft_ms.map(|ms| ms.to_string()).unwrap_or_default());
    plain(out, row.total_ms);
    text(out, row.target_pod.as_deref().unwrap_or_default());
    text(out, row.session_id.as_deref().unwrap_or_default());
    text(out, row.mcp_server.as_deref().unwrap_or_default());
    text(out, row.mcp_tool.as_deref().unwrap_or_default());
    plain(out, row.bytes_in);
    plain(out, row.bytes_out);
}

/// A number, a date, a word of ours.
fn plain(out: &mut String, value: impl Display) {
    // Writing to a string does not fail.
    let _ = write!(out, "{value},");
}

/// A text that may hold anything.
fn text(out: &mut String, value: &str) {
    let formula = value.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    if !formula && !value.contains(['"', ',', '\r', '\n']) {
        return plain(out, value);
    }
    out.push('"');
    if formula {
        out.push('\'');
    }
    out.push_str(&value.replace('"', "\"\""));
    out.push_str("\",");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_where_they_must_be_and_are_no_formulas() {
        for (value, written) in [
            ("", ","),
            ("plain text", "plain text,"),
            ("a,b", "\"a,b\","),
            ("a\"b", "\"a\"\"b\","),
            ("a\r\nb", "\"a\r\nb\","),
            ("=1+1", "\"'=1+1\","),
            ("+1", "\"'+1\","),
            ("-1", "\"'-1\","),
            ("@a\"", "\"'@a\"\"\","),
            ("\tx", "\"'\tx\","),
            ("a=1", "a=1,"),
            ("ü,🦀", "\"ü,🦀\","),
        ] {
            let mut out = String::new();
            text(&mut out, value);
            assert_eq!(out, written, "{value:?}");
        }
    }
}
