//! Whether the upstream makes a prompt of more than the body: then the body does not bound it.

use super::json::each_member;
use super::route::{Dialect, Route};

/// Top-level fields by which a request takes up what the upstream has kept, or lets it fetch more.
const fn fields(route: Route) -> &'static [&'static [u8]] {
    match route.dialect() {
        Dialect::Responses => &[b"previous_response_id", b"conversation", b"prompt"],
        Dialect::Messages => &[b"container", b"mcp_servers"],
        _ => &[],
    }
}

/// Whether one of the fields has a value that is not null. The body is JSON.
pub fn goes_beyond_body(route: Route, body: &[u8]) -> bool {
    let fields = fields(route);
    let mut beyond = false;
    if !fields.is_empty() {
        each_member(body, |key, cursor| beyond |= cursor.skip() != b"null" && fields.contains(&key));
    }
    beyond
}

/// Whether the upstream is to answer before it has done the work. The body is JSON.
pub fn runs_in_background(route: Route, body: &[u8]) -> bool {
    let mut background = false;
    if matches!(route.dialect(), Dialect::Responses) {
        each_member(body, |key, cursor| background |= cursor.skip() == b"true" && key == b"background");
    }
    background
}

#[cfg(test)]
mod tests {
    use super::{goes_beyond_body, runs_in_background};
    use crate::wire::Route;

    #[test]
    fn work_in_the_background_is_seen_under_any_spelling() {
        for (route, body, expected) in [
            (Route::Responses, r#"{"input":"hi","background":true}"#, true),
            (Route::Responses, r#"{"input":"hi","back\u0067round": true }"#, true),
            (Route::Responses, r#"{"input":"hi","background":false}"#, false),
            (Route::Responses, r#"{"input":{"background":true}}"#, false),
            (Route::ChatCompletions, r#"{"background":true}"#, false),
        ] {
            assert_eq!(runs_in_background(route, body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn what_is_kept_elsewhere_is_seen_under_any_spelling_and_null_is_nothing() {
        for (route, body, beyond) in [
            (Route::Responses, r#"{"input":"hi"}"#, false),
            (Route::Responses, r#"{"input":"\"conversation\"","previous_response_id":null}"#, false),
            (Route::Responses, r#"{"previous_response_id":null,"previous_response_id":"r"}"#, true),
            (Route::Responses, r#" {"previous\u005fresponse_id" : "r"}"#, true),
            (Route::Responses, r#"{"prompt":{"id":"p"}}"#, true),
            (Route::Responses, r#"{"metadata":{"conversation":"c"}}"#, false),
            (Route::Messages, r#"{"container":"c"}"#, true),
            (Route::Messages, r#"{"mcp_servers":[{"type":"url"}]}"#, true),
            (Route::ChatCompletions, r#"{"conversation":"c"}"#, false),
        ] {
            assert_eq!(goes_beyond_body(route, body.as_bytes()), beyond, "{body}");
        }
    }
}
