use super::super::route::Route;
use super::*;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn rewritten(route: Route, body: &str, rewrite: Rewrite<'_>) -> String {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let shape = Shape::read(route, &body).unwrap();
    let spliced = rewrite.apply(&body, &shape);
    assert_eq!(spliced.len, spliced.pieces.iter().map(Bytes::len).sum::<usize>());
    String::from_utf8(spliced.into_bytes().to_vec()).unwrap()
}

const CHAT: Route = Route::ChatCompletions;
const ASK: Rewrite<'static> = Rewrite { upstream_model: None, ask_usage: true, max_output: None };

fn cap(tokens: u64) -> Rewrite<'static> {
    Rewrite { max_output: Some(tokens), ..Rewrite::default() }
}

#[test]
fn nothing_to_change_is_the_same_allocation() {
    let body = Bytes::from_static(br#"{"model":"m","stream":false,"max_tokens":5}"#);
    let shape = Shape::read(CHAT, &body).unwrap();
    let same = Rewrite { upstream_model: Some("m"), ask_usage: true, max_output: Some(5) };
    let spliced = same.apply(&body, &shape);
    assert_eq!(spliced.pieces.len(), 1);
    assert_eq!(spliced.pieces[0].as_ptr(), body.as_ptr());
}

#[test]
fn only_the_value_of_model_changes() {
    let rename = Rewrite { upstream_model: Some("a\"b/\u{e9}"), ..Rewrite::default() };
    assert_eq!(
        rewritten(CHAT, r#"{ "x" : 1e400 , "mod\u0065l" : "m" , "y":"m"}"#, rename),
        r#"{ "x" : 1e400 , "mod\u0065l" : "a\"b/é" , "y":"m"}"#
    );
}

#[test]
fn usage_is_asked_for_in_each_place_it_can_stand() {
    for (before, after) in [
        ("", r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#),
        (
            r#","stream_options":null"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (r#","stream_options":{}"#, r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#),
        (
            r#","stream_options":{"x":1}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true,"x":1}}"#,
        ),
        (
            r#","stream_options":{ "include_usage" : false }"#,
            r#"{"model":"m","stream":true,"stream_options":{ "include_usage" : true }}"#,
        ),
        (
            r#","stream_options":{"include_usage":null}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#","stream_options":{"include_usage":true}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
    ] {
        assert_eq!(rewritten(CHAT, &format!(r#"{{"model":"m","stream":true{before}}}"#), ASK), after);
    }
}

#[test]
fn usage_is_not_asked_for_where_it_comes_unasked() {
    let streamed = r#"{"model":"m","stream":true}"#;
    assert_eq!(rewritten(Route::Messages, streamed, ASK), streamed);
    assert_eq!(rewritten(Route::Responses, streamed, ASK), streamed);
    assert_eq!(rewritten(CHAT, r#"{"model":"m"}"#, ASK), r#"{"model":"m"}"#);
}

#[test]
fn the_output_bound_is_lowered_or_set_and_never_raised() {
    for (route, before, after) in [
        (CHAT, r#"{"model":"m"}"#, r#"{"max_tokens":7,"model":"m"}"#),
        (CHAT, r#"{"model":"m","max_tokens":9}"#, r#"{"model":"m","max_tokens":7}"#),
        (CHAT, r#"{"model":"m","max_tokens":3}"#, r#"{"model":"m","max_tokens":3}"#),
        (CHAT, r#"{"model":"m","max_tokens":null}"#, r#"{"model":"m","max_tokens":7}"#),
        (CHAT, r#"{"model":"m","max_tokens":0}"#, r#"{"model":"m","max_tokens":7}"#),
        (
            CHAT,
            r#"{"model":"m","max_tokens":9,"max_completion_tokens":8}"#,
            r#"{"model":"m","max_tokens":7,"max_completion_tokens":7}"#,
        ),
        (
            CHAT,
            r#"{"model":"m","max_tokens":null,"max_completion_tokens":8}"#,
            r#"{"model":"m","max_tokens":null,"max_completion_tokens":7}"#,
        ),
        (Route::Responses, r#"{"model":"m"}"#, r#"{"max_output_tokens":7,"model":"m"}"#),
        (Route::Embeddings, r#"{"model":"m"}"#, r#"{"model":"m"}"#),
    ] {
        assert_eq!(rewritten(route, before, cap(7)), after);
    }
}

#[test]
fn a_shape_of_another_body_cuts_nothing_out_of_range() {
    let long = Bytes::from_static(br#"{"xxxxxxxxxxxxxxxxxxxxx":1,"model":"m"}"#);
    let shape = Shape::read(CHAT, &long).unwrap();
    let rename = Rewrite { upstream_model: Some("b"), ..Rewrite::default() };
    assert_eq!(rename.apply(&Bytes::from_static(b"{}"), &shape).into_bytes(), "{}");
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((".{0,6}", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn everything_but_the_changed_fields_stays(
        others in prop::collection::vec(("[a-zé\"\\\\]{1,6}", value()), 0..5),
        messages in prop::collection::vec(value(), 0..3),
        options in prop::option::of(prop_oneof![Just(Value::Null), Just(json!({})), Just(json!({"x": 1})),
            Just(json!({"include_usage": false, "y": [1]})), Just(json!({"include_usage": true}))]),
        bound in prop::option::of(prop_oneof![Just(Value::Null), (1_u64..20).prop_map(Value::from)]),
        max_output in prop::option::of(1_u64..20),
        ask_usage in any::<bool>(),
        pretty in any::<bool>(),
    ) {
        let mut before: Map<String, Value> = others.into_iter().filter(|(k, _)| crate::wire::Field::of(k).is_none()).collect();
        before.insert("model".into(), "m".into());
        before.insert("messages".into(), messages.into());
        before.insert("stream".into(), true.into());
        before.extend(options.map(|o| ("stream_options".to_owned(), o)));
        before.extend(bound.map(|b| ("max_tokens".to_owned(), b)));
        let body = if pretty { serde_json::to_string_pretty(&before) } else { serde_json::to_string(&before) }.unwrap();
        let after = rewritten(CHAT, &body, Rewrite { upstream_model: Some("up\n"), ask_usage, max_output });

        let mut expected = before;
        expected.insert("model".into(), "up\n".into());
        if ask_usage {
            let options = expected.entry("stream_options").or_insert(Value::Null);
            if options.is_null() { *options = json!({}); }
            options["include_usage"] = true.into();
        }
        if let Some(cap) = max_output {
            let given = expected.get("max_tokens").and_then(Value::as_u64);
            expected.insert("max_tokens".into(), given.unwrap_or(cap).min(cap).into());
        }
        prop_assert_eq!(serde_json::from_str::<Value>(&after).unwrap(), Value::Object(expected));
        prop_assert!(Shape::read(CHAT, after.as_bytes()).is_ok());
    }
}
