//! Whether a whole answer may be given to the next one who asks the same.
//!
//! Is: a look for what makes an answer a single one: a call of a tool, an error within a 200, a promise of an
//! answer. Is not: a check of the answer; where in doubt it is not kept.

use super::json::{Cursor, each_member};
use super::route::{Dialect, Route};
use memchr::memmem;

/// Whether `body`, the whole answer on `route`, may be kept. `tools`: the request offered some.
pub fn is_fit(route: Route, events: bool, tools: bool, body: &[u8]) -> bool {
    !(tools && calls_tool(body)) && (events || is_plain_success(route, body))
}

/// Whether JSON, or what is no JSON at all, says of itself that it is an answer.
fn is_plain_success(route: Route, body: &[u8]) -> bool {
    let mut fit = true;
    each_member(body, |key, cursor| match key {
        b"error" => fit &= cursor.skip() == b"null",
        b"status" if route.dialect() == Dialect::Responses => {
            fit &= matches!(cursor.skip(), b"\"completed\"" | b"\"incomplete\"");
        }
        _ => {
            cursor.skip();
        }
    });
    fit
}

/// Whether a tool is called anywhere in the answer, or in one of its events. Quotes within a text are escaped,
/// so what a model says about tools does not match.
fn calls_tool(body: &[u8]) -> bool {
    let has_value = |name: &[u8]| {
        memmem::find_iter(body, name).any(|at| {
            let mut cursor = Cursor::new(body.get(at + name.len()..).unwrap_or_default());
            !(cursor.take(b':') && is_nothing(cursor.skip()))
        })
    };
    has_value(b"\"tool_calls\"")
        || has_value(b"\"function_call\"")
        || [&b"tool_use\""[..], b"_call\"", b"_call.", b"_call_"].iter().any(|word| names_call(body, word))
}

fn is_nothing(value: &[u8]) -> bool {
    match value.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) {
        Some(items) => items.trim_ascii().is_empty(),
        None => matches!(value, b"null" | b"\"\""),
    }
}

/// Whether a `type` whose name ends with `word` occurs: `"type":"web_search_call"`, `"type":"tool_use"`.
fn names_call(body: &[u8], word: &[u8]) -> bool {
    const LONGEST: usize = 64;
    memmem::find_iter(body, word).any(|at| {
        let before = body.get(at.saturating_sub(LONGEST)..at).unwrap_or_default();
        let name = before
            .iter()
            .rev()
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'));
        let rest = before.get(..before.len() - name.count()).unwrap_or_default();
        let Some(rest) = rest.strip_suffix(b"\"") else { return false };
        let rest = rest.trim_ascii_end().strip_suffix(b":").map(<[u8]>::trim_ascii_end);
        rest.is_some_and(|rest| rest.ends_with(b"\"type\""))
    })
}

#[cfg(test)]
mod tests {
    use super::is_fit;
    use crate::wire::Route;

    #[test]
    fn a_call_of_a_tool_is_not_kept_whatever_its_api() {
        for body in [
            r#"{"choices":[{"message":{"tool_calls":[{"id":"c"}]}}]}"#,
            r#"{"choices":[{"message":{"tool_calls" : [ {"id":"c"}]}}]}"#,
            r#"{"choices":[{"message":{"function_call":{"name":"f"}}}]}"#,
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0}]}}]}\n\n",
            r#"{"content":[{"type":"tool_use","id":"t"}]}"#,
            r#"{"content":[{"type": "server_tool_use","id":"t"}]}"#,
            r#"{"status":"completed","output":[{"type":"function_call","name":"f"}]}"#,
            r#"{"status":"completed","output":[{"type":"web_search_call"}]}"#,
            "data: {\"type\":\"response.function_call_arguments.delta\"}\n\n",
            "data: {\"type\":\"response.web_search_call.searching\"}\n\n",
        ] {
            let events = body.starts_with("data");
            assert!(!is_fit(Route::Responses, events, true, body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn an_answer_without_a_call_is_kept_also_where_tools_were_offered() {
        for body in [
            r#"{"choices":[{"message":{"content":"Hi","tool_calls":[],"function_call":null}}]}"#,
            r#"{"choices":[{"message":{"content":"Hi","tool_calls" : [ ] }}]}"#,
            r#"{"choices":[{"message":{"content":"say \"tool_calls\":[1] or \"type\":\"tool_use\""}}]}"#,
            r#"{"choices":[{"message":{"content":"a phone_call"}}],"error":null}"#,
        ] {
            assert!(is_fit(Route::ChatCompletions, false, true, body.as_bytes()), "{body}");
        }
        let call = br#"{"choices":[{"message":{"tool_calls":[{"id":"c"}]}}]}"#;
        assert!(is_fit(Route::ChatCompletions, false, false, call), "no tools were offered: a text");
    }

    #[test]
    fn an_error_in_a_200_and_a_promise_are_not_kept() {
        for (route, body, fit) in [
            (Route::ChatCompletions, r#"{"error":{"message":"x"}}"#, false),
            (Route::ChatCompletions, r#"{"status":"queued"}"#, true),
            (Route::Responses, r#"{"status":"queued"}"#, false),
            (Route::Responses, r#"{"status":"failed","error":{}}"#, false),
            (Route::Responses, r#"{"status":"completed","error":null}"#, true),
            (Route::Responses, r#"{"status":"incomplete"}"#, true),
            (Route::Embeddings, r#"{"data":[]}"#, true),
        ] {
            assert_eq!(is_fit(route, false, false, body.as_bytes()), fit, "{body}");
        }
    }
}
