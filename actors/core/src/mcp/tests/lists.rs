use crate::mcp::catalogue::{Page, TOOLS_MAX, listed};
use crate::mcp::list::{completed, filtered};
use crate::mcp::{Catalogue, Era, Rights, ToolGlobs};
use std::time::Duration;

#[test]
fn a_list_is_cut_and_all_else_passes() {
    let list = r#"{"result":{"tools":[{"name":"a","x":1.0},{"title":"t","n\u0061me":"b"},{"name":7},{"name":"a","name":"b"},1],"nextCursor":"c"},"jsonrpc":"2.0","id":1}"#;
    let cut = |text: &str| filtered(text, |tool| tool == "a");
    assert_eq!(
        cut(list).unwrap().unwrap(),
        r#"{"result":{"tools":[{"name":"a","x":1.0}],"nextCursor":"c"},"jsonrpc":"2.0","id":1}"#
    );
    let scoped = r#"{"result":{"cacheScope":"public","ttlMs":5,"tools":[]}}"#;
    assert_eq!(cut(scoped).unwrap().unwrap(), r#"{"result":{"cacheScope":"private","ttlMs":5,"tools":[]}}"#);
    for other in [
        r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"name":"b"}]}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"tools":[{"name":"b"}]}}"#,
        r#"{"result":7}"#,
        r#"{"result":{"tools":"b"}}"#,
    ] {
        assert_eq!(cut(other), Ok(None), "{other}");
    }
    for unclear in [
        "",
        "{",
        "[]",
        r#"[{"result":{"tools":[{"name":"b"}]}}]"#,
        r#"{"result":{},"result":{"tools":[{"name":"b"}]}}"#,
        r#"{"result":{"tools":[],"tools":[{"name":"b"}]}}"#,
    ] {
        assert!(cut(unclear).is_err(), "{unclear}");
    }
}

#[test]
fn a_result_says_that_it_is_complete() {
    let plain = r#"{"id":1,"result":{"content":[]}}"#;
    assert_eq!(
        completed(plain).unwrap().unwrap(),
        r#"{"id":1,"result":{"content":[],"resultType":"complete"}}"#
    );
    for other in
        [r#"{"id":1,"result":{"resultType":"x"}}"#, r#"{"id":1,"error":{}}"#, r#"{"method":"m","params":{}}"#]
    {
        assert_eq!(completed(other), Ok(None), "{other}");
    }
    assert!(completed("x").is_err());
}

fn page(tools: &str) -> Page {
    Page::read(&format!(r#"{{"tools":{tools}}}"#)).unwrap()
}

fn catalogue(tools: &str) -> Catalogue {
    let mut catalogue = Catalogue::new(Era::Session, "2025-11-25");
    assert!(!catalogue.add(page(tools)));
    catalogue
}

#[test]
fn lists_of_servers_are_merged_in_order_and_tools_keep_their_text() {
    let one = catalogue(r#"[{"description":"\u00e9", "name" : "z" ,"inputSchema":{"n":1.10}},{"name":"a"}]"#);
    let two = catalogue(r#"[{"name":"a\"b"},{"noname":1}]"#);
    let servers = [("one", &one), ("two", &two)];
    let free = Rights { tenant: None, key: None };
    assert_eq!(
        listed(servers.into_iter(), &free),
        r#"[{"description":"\u00e9", "name" : "one__z" ,"inputSchema":{"n":1.10}},{"name":"one__a"},{"name":"two__a\"b"}]"#
    );
    let globs = ToolGlobs::of(["*/a"]);
    let limited = Rights { tenant: None, key: Some(&globs) };
    assert_eq!(listed(servers.into_iter(), &limited), r#"[{"name":"one__a"}]"#);
    assert_eq!(listed(std::iter::empty(), &free), "[]");
}

#[test]
fn parameters_that_are_mirrored_are_found_at_their_path() {
    let catalogue = catalogue(
        r#"[{"name":"t","inputSchema":{"type":"object","properties":{
            "region":{"type":"string","x-mcp-header":"Region"},
            "n":{"type":"integer","x-mcp-header":"N"},
            "on":{"type":"boolean","x-mcp-header":"On"},
            "in":{"type":"object","properties":{"deep":{"type":"string","x-mcp-header":"Deep"}}},
            "plain":{"type":"string"},
            "list":{"type":"array","items":{"x-mcp-header":"Never"}}}}},
           {"name":"u","inputSchema":{"type":"object"}}]"#,
    );
    let mirrored = |tool: &str, arguments: &str| {
        let arguments: Box<serde_json::value::RawValue> = serde_json::from_str(arguments).unwrap();
        catalogue.mirrored(tool, &arguments)
    };
    let found = mirrored(
        "t",
        r#"{"on":false,"n":42,"region":"z\u00fcrich","in":{"deep":"d"},"plain":"p","list":["l"]}"#,
    );
    let expected = [("Region", "=?base64?esO8cmljaA==?="), ("N", "42"), ("On", "false"), ("Deep", "d")];
    assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(mirrored("t", r#"{"region":null,"n":{},"in":7}"#), []);
    for (tool, arguments) in
        [("t", "{}"), ("t", "[]"), ("t", r#"{"n":1,"n":2}"#), ("u", r#"{"n":1}"#), ("v", "{}")]
    {
        assert_eq!(mirrored(tool, arguments), []);
    }
}

#[test]
fn pages_add_up_to_a_limit() {
    let read =
        Page::read(r#"{"tools":[{"name":"a"}],"nextCursor":"n","ttlMs":10,"cacheScope":"public"}"#).unwrap();
    assert_eq!(
        (read.next.as_deref(), read.ttl, read.public),
        (Some("n"), Some(Duration::from_millis(10)), true)
    );
    let mut catalogue = Catalogue::new(Era::Stateless, "v");
    assert!(catalogue.add(read.clone()));
    assert_eq!((catalogue.ttl, catalogue.public), (Duration::from_secs(1), true));
    let many: Vec<String> = (0..TOOLS_MAX).map(|n| format!(r#"{{"name":"{n}"}}"#)).collect();
    let many = Page { next: Some("more".to_owned()), ..page(&format!("[{}]", many.join(","))) };
    assert!(!catalogue.add(many));
    assert_eq!((catalogue.tools.len(), catalogue.public), (TOOLS_MAX, false));
    for wrong in ["", "[]", "{}", r#"{"tools":{}}"#, r#"{"tools":[],"tools":[]}"#] {
        assert!(Page::read(wrong).is_err(), "{wrong}");
    }
}
