use crate::mcp::headers::{Mirror, Mirrored, disagreement, encoded};
use crate::mcp::{Era, Kind, Malformed, Message};

fn read(text: &str) -> Result<Message<'_>, Malformed> {
    Message::read(text.as_bytes())
}

fn call(params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#)
}

#[test]
fn a_message_says_what_it_is() {
    let body = call(r#"{"name":"ec\u0068o","arguments":{"name":"other","a":[1,{"name":"x"}]}}"#);
    let message = read(&body).unwrap();
    assert_eq!((message.kind, message.tool()), (Kind::Request, Some("echo")));
    assert_eq!(message.id.unwrap().get(), "1");
    for (text, kind) in [
        (r#" {"jsonrpc":"2.0","method":"ping","id":"a"} "#, Kind::Request),
        (r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, Kind::Notification),
        (r#"{"jsonrpc":"2.0","id":0,"result":{}}"#, Kind::Response),
        (r#"{"jsonrpc":"2.0","id":0,"error":{"code":1,"message":"m"}}"#, Kind::Response),
        (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":null}"#, Kind::Request),
    ] {
        assert_eq!(read(text).unwrap().kind, kind, "{text}");
    }
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///a"}}"#;
    let message = read(body).unwrap();
    assert_eq!((message.name.as_deref(), message.tool()), (Some("file:///a"), None));
}

#[test]
fn what_two_readers_could_read_in_two_ways_is_no_message() {
    let whole = |member: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping",{member}}}"#);
    for body in [
        whole(r#""method":"tools/call""#),
        whole(r#""Method":"tools/call""#),
        whole(r#""meth\u006fd":"tools/call""#),
        whole(r#""ID":2"#),
        whole(r#""param\u017f":{"name":"evil"}"#),
        whole(r#""params":{},"params":{}"#),
        call(r#"{"name":"echo","name":"evil"}"#),
        call(r#"{"name":"echo","n\u0061me":"evil"}"#),
        call(r#"{"name":"echo","Name":"evil"}"#),
        call(r#"{"name":"echo","NAME":"evil"}"#),
        call(r#"{"name":"echo","_meta":{},"_meta":{}}"#),
        call(r#"{"name":"echo","_meta":{"a":1,"a":2}}"#),
        call(r#"{"name":"echo","arguments":{},"Arguments":{}}"#),
    ] {
        assert_eq!(read(&body).unwrap_err(), Malformed::Ambiguous, "{body}");
    }
    // Members of arguments are the tool's own business.
    assert!(read(&call(r#"{"name":"echo","arguments":{"a":1,"A":2,"a":3}}"#)).is_ok());
}

#[test]
fn what_is_no_single_message_is_refused() {
    for (body, why) in [
        ("", Malformed::NotJson),
        ("{", Malformed::NotJson),
        (r#"{"jsonrpc":"2.0"}{"jsonrpc":"2.0"}"#, Malformed::NotJson),
        ("[]", Malformed::NotOne),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, Malformed::NotOne),
        ("1", Malformed::NotOne),
        (r#"{"id":1,"method":"ping"}"#, Malformed::NotOne),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, Malformed::NotOne),
        (r#"{"jsonrpc":"2.0","id":1}"#, Malformed::NotOne),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"params":{"name":"x"}}"#, Malformed::NotOne),
    ] {
        assert_eq!(read(body).unwrap_err(), why, "{body}");
    }
    assert_eq!(Message::read(b"{\"a\":\"\xff\"}").unwrap_err(), Malformed::NotJson);
    assert_eq!(
        Message::read(
            "{\"jsonrpc\":\"2.0\"}".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>().as_slice()
        )
        .unwrap_err(),
        Malformed::NotJson
    );
    for body in [
        r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
        // Would be a call that counts in no limit, or a list that nothing is cut from.
        r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"a"}}"#,
        r#"{"jsonrpc":"2.0","method":"tools/list"}"#,
        r#"{"jsonrpc":"2.0","method":"prompts/get","params":{"name":"a"}}"#,
        &format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"ping"}}"#, "x".repeat(1023)),
    ] {
        let why = read(body).unwrap_err();
        assert!(matches!(why, Malformed::Invalid(_)) && why.code() == -32600, "{body}");
    }
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}"#,
        &call("{}"),
        &call(r#"{"name":7}"#),
        &call(r#"{"name":"\ud800"}"#),
        &call(r#"{"name":"a","_meta":[]}"#),
    ] {
        assert!(matches!(read(body).unwrap_err(), Malformed::Wrong(_)), "{body}");
        assert_eq!(Message::id_of(body.as_bytes()).unwrap().get(), "1", "{body}");
    }
    let many: Vec<String> = (0..300).map(|n| format!(r#""m{n}":1"#)).collect();
    assert_eq!(read(&format!("{{{}}}", many.join(","))).unwrap_err(), Malformed::Ambiguous);
}

#[test]
fn the_era_follows_the_version_and_a_session_is_always_of_the_old_one() {
    let plain = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let modern = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":
        {"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
    let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#;
    for (body, header, era) in [
        (plain, None, Era::Session),
        (plain, Some("2025-11-25"), Era::Session),
        (plain, Some("2026-07-28"), Era::Stateless),
        (plain, Some("2027-01-01"), Era::Stateless),
        (modern, None, Era::Stateless),
        (modern, Some("2026-07-28"), Era::Stateless),
        (initialize, Some("2026-07-28"), Era::Session),
    ] {
        assert_eq!(read(body).unwrap().era(header), era, "{body} {header:?}");
    }
    assert!(read(modern).unwrap().has_envelope());
    assert!(!read(plain).unwrap().has_envelope());
}

fn says<'a>(version: &'a str, method: &'a str, name: &'a str) -> Mirrored<'a> {
    let mirror = |text: &'a str| if text.is_empty() { Mirror::Absent } else { Mirror::Says(text) };
    Mirrored { version: mirror(version), method: mirror(method), name: mirror(name) }
}

#[test]
fn headers_agree_with_the_body_or_are_not_there() {
    let body =
        call(r#"{"name":"f\u00fcr","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#);
    let message = read(&body).unwrap();
    let name = encoded("für");
    assert_eq!(name, "=?base64?ZsO8cg==?=");
    for (said, wrong) in [
        (says("", "", ""), None),
        (says("2026-07-28", "tools/call", &name), None),
        (says("2025-11-25", "tools/call", &name), Some("MCP-Protocol-Version")),
        (says("2026-07-28", "tools/list", &name), Some("Mcp-Method")),
        (says("2026-07-28", "Tools/Call", &name), Some("Mcp-Method")),
        (says("2026-07-28", "tools/call", "fur"), Some("Mcp-Name")),
        (says("2026-07-28", "tools/call", "=?base64?ZsO8cg?="), Some("Mcp-Name")),
        (says("2026-07-28", "tools/call", "=?base64?/w==?="), Some("Mcp-Name")),
        (Mirrored { name: Mirror::Unreadable, ..says("", "", "") }, Some("Mcp-Name")),
        (Mirrored { method: Mirror::Unreadable, ..says("", "", "") }, Some("Mcp-Method")),
    ] {
        assert_eq!(disagreement(&message, &said), wrong, "{said:?}");
    }
    for plain in ["a", "a b", "?=", "=?base64?"] {
        assert_eq!(encoded(plain), plain);
    }
    for odd in [" a", "a\n", "=?base64?x?=", "ü"] {
        assert!(encoded(odd).starts_with("=?base64?"), "{odd}");
    }
}

#[test]
fn a_renamed_call_differs_in_its_name_alone() {
    let body = call(
        r#"{ "arguments" : {"a": 1.50, "u":"\u00e9"}, "name":"s__t", "_meta":{"progressToken":9}, "x":[ ] }"#,
    );
    let message = read(&body).unwrap();
    assert_eq!(
        message.renamed("t\"x"),
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"a": 1.50, "u":"\u00e9"},"name":"t\"x","_meta":{"progressToken":9},"x":[ ]}}"#
    );
    let turned = message.stateless("t", r#"{"name":"c"}"#);
    let turned = read(&turned).unwrap();
    assert!(turned.has_envelope() && turned.tool() == Some("t"));
    assert_eq!(turned.version.as_deref(), Some("2026-07-28"));
    assert_eq!(turned.param("_meta").unwrap().get().matches("progressToken").count(), 1);
}
