use crate::mcp::events::{EVENT_MAX, Events, TooLarge, data, with_data};
use crate::mcp::scan::Scan;
use proptest::prelude::*;

const STREAM: &str = "\u{feff}: hello\n\nid: 1\ndata:\n\nevent: message\r\nid: 2\r\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"n\",\
     \"params\":{\"result\":1}}\r\n\r\ndata: {\"a\":\rdata: \"b\\\"{\"}\r\revent: message\ndata:{\"result\":{\"error\":[]},\
     \"jsonrpc\":\"2.0\",\"id\":7}\n\n: end\n\n";

fn events(pieces: impl Iterator<Item = Vec<u8>>) -> (Vec<String>, String) {
    let (mut reader, mut found) = (Events::default(), Vec::new());
    for piece in pieces {
        reader.feed(&piece, |event| found.push(String::from_utf8(event.to_vec()).unwrap())).unwrap();
    }
    (found, String::from_utf8(reader.rest()).unwrap())
}

#[test]
fn events_are_the_same_however_they_come() {
    let whole = events(std::iter::once(STREAM.as_bytes().to_vec()));
    // The line feed after a carriage return belongs to the event before, wherever it is shown.
    let texts = |(found, rest): &(Vec<String>, String)| {
        let data: Vec<_> =
            found.iter().filter_map(|event| data(event.as_bytes()).map(|data| data.into_owned())).collect();
        (data, found.concat() + rest)
    };
    assert_eq!(
        texts(&whole).0,
        [
            "",
            r#"{"jsonrpc":"2.0","method":"n","params":{"result":1}}"#,
            "{\"a\":\n\"b\\\"{\"}",
            r#"{"result":{"error":[]},"jsonrpc":"2.0","id":7}"#,
        ]
    );
    assert_eq!(texts(&whole).1, STREAM);
    for size in 1..STREAM.len() {
        let cut = events(STREAM.as_bytes().chunks(size).map(<[u8]>::to_vec));
        assert_eq!(texts(&cut), texts(&whole), "{size}");
    }
}

#[test]
fn an_event_with_other_data_keeps_its_other_fields() {
    let event = b"event: message\r\nid: 9\r\ndata: {\"a\":\r\ndata: 1}\r\nretry: 5\r\n\r\n";
    assert_eq!(with_data(event, "{\"b\":\n2}"), b"event: message\nid: 9\ndata: {\"b\": 2}\nretry: 5\n\n");
}

#[test]
fn an_event_is_held_up_to_a_limit() {
    let mut reader = Events::default();
    let mut feed = |size: usize| reader.feed(&vec![b'x'; size], |_| {});
    assert_eq!((feed(EVENT_MAX), feed(1)), (Ok(()), Err(TooLarge)));
}

/// Whether a response ends in the text, fed in pieces of this size.
fn answers(text: &str, size: usize) -> bool {
    let mut scan = Scan::default();
    text.as_bytes().chunks(size).fold(false, |found, piece| scan.feed(piece) | found)
}

#[test]
fn a_response_is_told_from_what_looks_like_one() {
    for (text, is) in [
        (STREAM, true),
        ("data: {\"id\":1,\"result\":{}}\n\n", true),
        ("data: {\"id\":1,\"error\":{\"code\":1}}\r\n\r\n", true),
        ("data:{\"result\":\ndata:{\"x\":\"}\"}}\n\n", true),
        ("data: {\"id\":1,\"result\":{}}\n", false),
        ("data: {\"id\":1,\"result\":{}\n\n", false),
        ("data: {\"id\":1,\"method\":\"result\",\"params\":{}}\n\n", false),
        ("data: {\"id\":1,\"method\":\"m\",\"result\":{}}\n\n", false),
        ("data: {\"params\":{\"result\":1}}\n\n", false),
        ("data: {\"p\":[\"result\"],\"q\":\"error\"}\n\n", false),
        ("data: {\"p\":\"\\\",\\\"result\\\":\"}\n\n", false),
        ("data: [{\"result\":1}]\n\n", false),
        ("data: \"result\"\n\n", false),
        ("xdata: {\"result\":1}\n\n", false),
        ("data2: {\"result\":1}\n\n", false),
        (": data: {\"result\":1}\n\n", false),
        ("id: {\"result\":1}\n\n", false),
        ("data: {\"resultx\":1}\n\n", false),
        ("data: {\"resultxxxxxxxx\":1}\n\n", false),
    ] {
        for size in [1, 2, 3, 7, 1000] {
            assert_eq!(answers(text, size), is, "{text:?} by {size}");
        }
    }
}

proptest! {
    #[test]
    fn the_scan_agrees_with_a_parser(
        members in proptest::collection::vec((
            prop_oneof![Just("result"), Just("error"), Just("method"), Just("id"), Just("x")],
            prop_oneof![Just("1"), Just("{\"result\":{\"a\":[]}}"), Just("[\"error\",{}]"), Just("\"a\\\"\\\\\""), Just("null")],
        ), 0..5),
        size in 1_usize..20,
    ) {
        let text: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\" : {value}")).collect();
        let has = |name: &str| members.iter().any(|(own, _)| *own == name);
        let is = (has("result") || has("error")) && !has("method");
        prop_assert_eq!(answers(&format!("event: message\ndata: {{{}}}\n\n", text.join(" , ")), size), is);
    }
}
