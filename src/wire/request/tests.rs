use super::*;
use proptest::prelude::*;

const CHAT: Route = Route::ChatCompletions;

fn read(route: Route, body: &str) -> Result<Shape, BodyError> {
    Shape::read(route, body.as_bytes())
}

fn wrong_type(field: &'static str) -> BodyError {
    BodyError::WrongType { field }
}

#[test]
fn a_chat_body_is_read() {
    let body = r#" {"model":"m","messages":[{"role":"user","content":"hello"},{"role":"user","content":"!"}],
        "stream":true,"max_tokens":50,"max_completion_tokens":20,"n":2,"x":{"unknown":[1e400,123456789012345678901234567890]}} "#;
    let shape = read(CHAT, body).unwrap();
    assert_eq!(shape.model, "m");
    assert_eq!(body.get(shape.model_span.clone()), Some("\"m\""));
    assert_eq!((shape.stream, shape.messages, shape.weight.text_bytes), (true, 2, 6));
    assert_eq!((shape.output_bound(), shape.sequences()), (Some(20), 2));
}

#[test]
fn each_route_reads_its_own_bound_and_input() {
    for (path, body, bound, text) in [
        ("/v1/completions", r#"{"model":"m","prompt":["ab","c"],"max_tokens":7}"#, Some(7), 3),
        ("/v1/messages", r#"{"model":"m","system":"ab","messages":[],"max_tokens":7}"#, Some(7), 2),
        (
            "/v1/responses",
            r#"{"model":"m","input":"abc","instructions":"d","max_output_tokens":9,"max_tokens":"x"}"#,
            Some(9),
            4,
        ),
        ("/v1/embeddings", r#"{"model":"m","input":["ab","cd"],"max_tokens":-1}"#, None, 4),
        ("/v1/rerank", r#"{"model":"m","query":"q","documents":["ab",{"text":"c"}]}"#, None, 5),
        ("/v1/score", r#"{"model":"m","text_1":"q","text_2":["ab","c"]}"#, None, 5),
        ("/v1/images/generations", r#"{"model":"m","prompt":"a cat","n":2}"#, None, 5),
        ("/v1/audio/speech", r#"{"model":"m","input":"hi","voice":"x"}"#, None, 2),
        ("/v1/moderations", r#"{"model":"m","input":"hi"}"#, None, 2),
    ] {
        let shape = read(Route::of(path).unwrap(), body).unwrap();
        assert_eq!((shape.output_bound(), shape.weight.text_bytes), (bound, text), "{path}");
    }
}

#[test]
fn several_prompts_are_several_answers() {
    let prompts = |prompt: &str| {
        let body = format!(r#"{{"model":"m","prompt":{prompt},"n":2,"best_of":3}}"#);
        let shape = read(Route::Completions, &body).unwrap();
        (shape.sequences(), shape.weight.token_ids)
    };
    assert_eq!(prompts(r#""a""#), (3, 0));
    assert_eq!(prompts(r#"["a","b"]"#), (6, 0));
    assert_eq!(prompts("[1,2,3]"), (3, 3));
    assert_eq!(prompts("[[1,2],[3],[4]]"), (9, 4));
}

#[test]
fn tools_weigh_their_json() {
    let tools = r#"[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]"#;
    let shape = read(CHAT, &format!(r#"{{"model":"m","messages":[],"tools":{tools}}}"#)).unwrap();
    assert_eq!(shape.weight.text_bytes, u64::try_from(tools.len()).unwrap());
}

#[test]
fn a_null_is_as_if_absent() {
    let body =
        r#"{"model":"m","messages":[],"stream":null,"n":null,"max_tokens":null,"stream_options":null}"#;
    let shape = read(CHAT, body).unwrap();
    assert_eq!((shape.stream, shape.choices, shape.output_bound()), (false, 1, None));
    assert_eq!(read(CHAT, r#"{"model":null}"#), Err(BodyError::ModelMissing));
}

#[test]
fn a_zero_bound_on_chat_is_none_and_the_next_name_counts() {
    let shape = read(CHAT, r#"{"model":"m","max_completion_tokens":0,"max_tokens":9}"#).unwrap();
    assert_eq!(shape.output_bound(), Some(9));
    let shape = read(Route::Completions, r#"{"model":"m","max_tokens":0}"#).unwrap();
    assert_eq!(shape.output_bound(), Some(0));
}

#[test]
fn a_whole_number_may_be_written_as_a_float() {
    for text in ["5", "5.0", "5.000"] {
        let body = format!(r#"{{"model":"m","max_tokens":{text},"n":2.0}}"#);
        let shape = read(CHAT, &body).unwrap();
        assert_eq!((shape.output_bound(), shape.choices), (Some(5), 2), "{text}");
        assert_eq!(&body[shape.bounds[0].span.clone()], text);
    }
    assert_eq!(read(CHAT, r#"{"model":"m","max_tokens":0.0}"#).unwrap().output_bound(), None);
}

#[test]
fn wrong_types_name_the_field() {
    for (member, field) in [
        (r#""model":1"#, "model"),
        (r#""model":"""#, "model"),
        (r#""model":["m"]"#, "model"),
        (r#""model":"\ud800""#, "model"),
        (r#""stream":"true""#, "stream"),
        (r#""stream":1"#, "stream"),
        (r#""max_tokens":-1"#, "max_tokens"),
        (r#""max_tokens":1.5"#, "max_tokens"),
        (r#""max_tokens":5.01"#, "max_tokens"),
        (r#""max_tokens":-5.0"#, "max_tokens"),
        (r#""max_tokens":0.5e1"#, "max_tokens"),
        (r#""max_tokens":1e3"#, "max_tokens"),
        (r#""max_tokens":"5""#, "max_tokens"),
        (r#""max_tokens":99999999999999999999999"#, "max_tokens"),
        (r#""max_completion_tokens":true"#, "max_completion_tokens"),
        (r#""n":0"#, "n"),
        (r#""n":129"#, "n"),
        (r#""best_of":0"#, "best_of"),
        (r#""messages":{}"#, "messages"),
        (r#""messages":null"#, "messages"),
        (r#""stream_options":[]"#, "stream_options"),
        (r#""stream_options":{"include_usage":1}"#, "stream_options.include_usage"),
    ] {
        let error = read(CHAT, &format!("{{{member}}}")).unwrap_err();
        assert_eq!(error, wrong_type(field), "{member}");
        assert_eq!(error.param(), Some(field));
    }
}

#[test]
fn a_field_that_is_read_may_occur_once_however_it_is_spelt() {
    for (body, field) in [
        (r#"{"model":"a","model":"b"}"#, "model"),
        (r#"{"model":"a","mod\u0065l":"a"}"#, "model"),
        (r#"{"Model":"a","model":"b"}"#, "model"),
        (r#"{"model":"a","MODEL":"b"}"#, "model"),
        (r#"{"model":"a","stream":true,"stream":true}"#, "stream"),
        (r#"{"model":"a","messages":[],"messages":[]}"#, "messages"),
        (
            r#"{"model":"a","stream_options":{"include_usage":true,"include_usage":false}}"#,
            "stream_options.include_usage",
        ),
    ] {
        assert_eq!(read(CHAT, body), Err(BodyError::DuplicateField { field }), "{body}");
    }
    assert!(read(CHAT, r#"{"model":"a","x":1,"x":2}"#).is_ok());
    assert_eq!(read(CHAT, r#"{"mod\u0065l":"a\u0062"}"#).unwrap().model, "ab");
}

#[test]
fn a_body_that_is_no_object_is_told_from_one_that_is_no_json() {
    assert_eq!(read(CHAT, ""), Err(BodyError::Empty));
    assert_eq!(read(CHAT, " \n"), Err(BodyError::Empty));
    assert_eq!(read(CHAT, "[]"), Err(BodyError::NotObject));
    assert_eq!(read(CHAT, "{}"), Err(BodyError::ModelMissing));
    assert_eq!(Shape::read(CHAT, b"{\"model\":\"\xff\"}"), Err(BodyError::NotUtf8));
    for body in [
        "hello",
        "{",
        r#"{"model":"m"}}"#,
        r#"{"model":"m"} x"#,
        r#"{"model":"m",}"#,
        r#"{"model":"m","x":01}"#,
        r#"{"model":"m","x":"a"#,
        "{\"model\":\"m\",\"x\":\"a\nb\"}",
        "\u{feff}{}",
    ] {
        assert!(matches!(read(CHAT, body), Err(BodyError::NotJson { line: 1.., .. })), "{body}");
    }
}

#[test]
fn deep_nesting_is_refused_wherever_it_stands() {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    for field in ["messages", "unknown", "tools", "model", "stream_options", "documents", "Model"] {
        let body = format!(r#"{{"{field}":{}}}"#, deep(100_000));
        let error = read(CHAT, &body).unwrap_err();
        let typed = ["model", "stream_options"].contains(&field) && error == wrong_type(field_name(field));
        assert!(error == BodyError::TooDeep || typed, "{field}: {error}");
    }
    assert!(read(CHAT, &deep(100_000)).is_err());
    assert!(read(CHAT, &"[".repeat(100_000)).is_err());
    assert!(read(CHAT, &r#"{"x":"#.repeat(100_000)).is_err());
    assert!(read(CHAT, &format!(r#"{{"model":"m","x":{}}}"#, deep(127))).is_ok());
    for field in ["x", "messages", "tools", "Model"] {
        let at = |n| read(CHAT, &format!(r#"{{"model":"m","{field}":{}}}"#, deep(n)));
        assert_ne!(at(127), Err(BodyError::TooDeep), "{field}");
        assert_eq!(at(128), Err(BodyError::TooDeep), "{field}");
    }
}

fn field_name(name: &str) -> &'static str {
    Field::of(name).unwrap().name()
}

#[test]
fn lone_surrogates_in_texts_are_the_upstreams_affair() {
    assert!(read(CHAT, r#"{"model":"m","messages":[{"content":"\ud83d"}],"x":"\udc00"}"#).is_ok());
}

#[test]
fn errors_carry_nothing_of_the_body() {
    let error = read(CHAT, r#"{"model":"m","messages":[{"content":"secret"#).unwrap_err();
    assert!(!error.to_string().contains("secret"));
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_no_harm(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Shape::read(CHAT, &body);
    }

    #[test]
    fn nearly_json_does_no_harm(
        parts in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", "\"model\"", "\"messages\"", "\"stream_options\"", ":", ",", "\"m\"", "1", "null",
            "\"type\"", "\"image_url\"", "\"\\u00", "\"prompt\"", " ", "\"include_usage\"", "true",
        ]), 0..40)
    ) {
        let body = parts.concat();
        for route in [CHAT, Route::Completions, Route::Responses] {
            let accepted = read(route, &body).is_ok();
            prop_assert!(!accepted || serde_json::from_str::<serde_json::Value>(&body).is_ok());
        }
    }
}
