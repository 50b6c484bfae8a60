//! Which bodies are the same.

use crate::response_cache::{Canonical, LeftOut, NotCanonical};

const CHAT: LeftOut = LeftOut { fields: &["model", "stream", "user", "metadata"], include_usage: true };

fn form(body: &str) -> Vec<u8> {
    Canonical::of(body.as_bytes(), &CHAT).unwrap_or_else(|_| panic!("{body}")).bytes
}

#[test]
fn order_of_keys_white_space_escapes_and_spellings_of_numbers_do_not_count() {
    for (one, other) in [
        (r#"{"a":1,"b":2}"#, r#" { "b" : 2 , "a" : 1 } "#),
        (r#"{"a":{"x":[1,2],"y":null}}"#, "{\"a\":{\n\"y\":null,\"x\":[1,\t2]}}"),
        (r#"{"a":"a/b"}"#, r#"{"\u0061":"\u0061\/b"}"#),
        (r#"{"a":"😀"}"#, r#"{"a":"\ud83d\uDE00"}"#),
        (r#"{"a":"\b\f\n\r\t\"\\"}"#, r#"{"a":"\u0008\u000c\u000a\u000d\u0009\u0022\u005c"}"#),
        (r#"{"a":1}"#, r#"{"a":1.0}"#),
        (r#"{"a":1}"#, r#"{"a":1e0}"#),
        (r#"{"a":100}"#, r#"{"a":1E+2}"#),
        (r#"{"a":0.001}"#, r#"{"a":1e-3}"#),
        (r#"{"a":-12.50}"#, r#"{"a":-1.25e1}"#),
        (r#"{"a":0}"#, r#"{"a":-0.000e7}"#),
        (r#"{"a":123456789012345678901234567890}"#, r#"{"a":12345678901234567890123456789e1}"#),
        (r#"{"a":1}"#, r#"{"a":1e00000000000000000000000}"#),
        (r#"{"a":1}"#, r#"{"a":1,"user":"u","metadata":{"k":[1]},"model":"x","stream":true}"#),
        (r#"{"a":1}"#, r#"{"a":1,"stream_options":{"include_usage":true}}"#),
        (r#"{"a":1}"#, r#"{"a":1,"stream_options":null}"#),
    ] {
        assert_eq!(form(one), form(other), "{one} and {other}");
    }
}

#[test]
fn every_value_counts() {
    let bodies = [
        r#"{}"#,
        r#"{"a":null}"#,
        r#"{"a":false}"#,
        r#"{"a":true}"#,
        r#"{"a":0}"#,
        r#"{"a":"0"}"#,
        r#"{"a":""}"#,
        r#"{"a":[]}"#,
        r#"{"a":{}}"#,
        r#"{"a":[[]]}"#,
        r#"{"a":[1,2]}"#,
        r#"{"a":[2,1]}"#,
        r#"{"a":[12]}"#,
        r#"{"a":1}"#,
        r#"{"a":-1}"#,
        r#"{"a":10}"#,
        r#"{"a":0.1}"#,
        r#"{"a":9007199254740993}"#,
        r#"{"a":9007199254740992}"#,
        r#"{"a":1e400}"#,
        r#"{"a":1e401}"#,
        r#"{"a":1e99999999999999999999}"#,
        r#"{"a":1e99999999999999999998}"#,
        r#"{"a":0.30000000000000000001}"#,
        r#"{"a":0.3}"#,
        r#"{"b":1}"#,
        r#"{"a":"A"}"#,
        r#"{"a":"a "}"#,
        r#"{"a":"\ud800"}"#,
        r#"{"a":"\ud801"}"#,
        r#"{"a":"\\u0061"}"#,
        r#"{"a":{"user":1}}"#,
        r#"{"a":1,"a":2}"#,
        r#"{"a":2,"a":1}"#,
        r#"{"a":2}"#,
        r#"{"a":1,"b":{"c":2}}"#,
        r#"{"a":{"b":1},"c":2}"#,
        r#"{"stream_options":{"include_obfuscation":false}}"#,
        r#"{"stream_options":{"include_usage":true,"continuous_usage_stats":true}}"#,
    ];
    for (at, one) in bodies.iter().enumerate() {
        for other in &bodies[at + 1..] {
            assert_ne!(form(one), form(other), "{one} and {other}");
        }
    }
}

#[test]
fn a_long_value_counts_to_its_last_byte() {
    let long = |last: &str| format!(r#"{{"z":1,"messages":["{}{last}"]}}"#, "x".repeat(10_000));
    assert_eq!(form(&long("a")), form(&long(r"\u0061")));
    assert_ne!(form(&long("a")), form(&long("b")));
    assert!(form(&long("a")).len() < 200, "sorting copies digests only");
}

#[test]
fn what_is_no_object_or_too_deep_has_no_form() {
    let deep = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    assert!(Canonical::of(deep(128).as_bytes(), &CHAT).is_ok());
    let bad = [
        deep(129),
        String::new(),
        "[]".to_owned(),
        "1".to_owned(),
        "{".to_owned(),
        r#"{"a"}"#.to_owned(),
        r#"{"a":}"#.to_owned(),
        r#"{"a":1"#.to_owned(),
        r#"{"a":"x}"#.to_owned(),
        r#"{"a":"\x"}"#.to_owned(),
        r#"{"a":"\u00"}"#.to_owned(),
        r#"{"a":tru}"#.to_owned(),
        r#"{"a":-}"#.to_owned(),
        r#"{"a":1.}"#.to_owned(),
        r#"{"a":1e}"#.to_owned(),
        r#"{"a":1}x"#.to_owned(),
        r#"{"a":[1 2]}"#.to_owned(),
        r#"{"a":1 "b":2}"#.to_owned(),
        r#"{"a":"\"#.to_owned(),
    ];
    for body in bad {
        assert_eq!(Canonical::of(body.as_bytes(), &CHAT), Err(NotCanonical), "{body}");
    }
}

#[test]
fn offers_of_tools_and_references_to_changing_state_are_seen() {
    let read = |body: &str| Canonical::of(body.as_bytes(), &CHAT).map(|form| (form.tools, form.stateful));
    for (body, tools, stateful) in [
        (r#"{"a":{"tools":[1],"conversation":"c"}}"#, false, false),
        (r#"{"tools":[]}"#, false, false),
        (r#"{"tools":null,"functions":[],"background":false,"conversation":null}"#, false, false),
        (r#"{"tools":[{"type":"function"}]}"#, true, false),
        (r#"{"\u0074ools":[{}]}"#, true, false),
        (r#"{"functions":[{"name":"f"}]}"#, true, false),
        (r#"{"conversation":"c"}"#, false, true),
        (r#"{"background":true}"#, false, true),
    ] {
        assert_eq!(read(body), Ok((tools, stateful)), "{body}");
    }
}
