use crate::ids::{KeyId, McpServerId};
use crate::mcp::names::{is_server_name, merged, split};
use crate::mcp::{Rights, SessionSeal, ToolGlobs, Whose};
use proptest::prelude::*;
use uuid::Uuid;

#[test]
fn a_server_name_stands_in_a_path_and_before_the_border() {
    for name in ["a", "git", "my-server.v2", "a_b", "9", "A", &"x".repeat(64)] {
        assert!(is_server_name(name), "{name}");
    }
    for name in ["", "_a", "a_", "a__b", ".", "..", "-a", "a/b", "a b", "a%2e", "ä", "a?", &"x".repeat(65)] {
        assert!(!is_server_name(name), "{name}");
    }
    assert_eq!(split("a_b___x"), Some(("a_b", "_x")));
    for name in ["", "a", "__x", "a__"] {
        assert_eq!(split(name), None);
    }
}

proptest! {
    #[test]
    fn a_merged_name_is_taken_apart_again(
        server in "[a-zA-Z0-9]([a-zA-Z0-9.-]|_[a-zA-Z0-9.-]){0,20}",
        tool in "\\PC{1,20}",
    ) {
        prop_assert!(is_server_name(&server));
        let name = merged(&server, &tool);
        prop_assert_eq!(split(&name), Some((server.as_str(), tool.as_str())));
    }
}

fn globs(list: &[&str]) -> Option<ToolGlobs> {
    Some(ToolGlobs::of(list.iter().copied()))
}

#[test]
fn both_lists_hold_and_no_list_is_all() {
    let (some, none) = (globs(&["git/log", "files/*"]), globs(&[]));
    let rights = |tenant, key| Rights { tenant, key };
    let free = rights(None, None);
    assert!(free.may_call("a", "b") && free.may_reach("a") && !free.is_limited("a"));
    let limited = rights(some.as_ref(), None);
    for (server, tool, may) in [
        ("git", "log", true),
        ("git", "push", false),
        ("git", "log/x", false),
        ("files", "a/b", true),
        ("files2", "a", false),
        ("other", "log", false),
    ] {
        assert_eq!(limited.may_call(server, tool), may, "{server}/{tool}");
        assert_eq!(rights(None, some.as_ref()).may_call(server, tool), may, "{server}/{tool}");
        assert!(!rights(some.as_ref(), none.as_ref()).may_call(server, tool));
    }
    assert!(limited.may_reach("git") && limited.may_reach("files") && !limited.may_reach("other"));
    assert!(limited.is_limited("git") && !limited.is_limited("files") && limited.is_limited("other"));
    let (key, narrow) = (globs(&["git/*"]), globs(&["git/l?g", "*/echo"]));
    let both = rights(key.as_ref(), narrow.as_ref());
    assert!(both.may_call("git", "log") && both.may_call("git", "echo") && both.is_limited("git"));
    assert!(!both.may_call("files", "echo") && !both.may_reach("files"));
}

#[test]
fn a_star_does_not_reach_over_the_border() {
    let may = |glob: &str, server: &str, tool: &str| {
        let list = globs(&[glob]);
        Rights { tenant: list.as_ref(), key: None }.may_call(server, tool)
    };
    for (glob, server, tool) in [
        ("*", "a", "b/c"),
        ("a", "a", "b"),
        ("a*", "ab", "c"),
        ("*/*", "a", "b"),
        ("a/*b*c", "a", "xxbyyc"),
        ("a/b/c", "a", "b/c"),
        ("a/*/c", "a", "b/c"),
        ("?/é?", "a", "éü"),
        ("a/**", "a", "b"),
    ] {
        assert!(may(glob, server, tool), "{glob} {server}/{tool}");
    }
    for (glob, server, tool) in [
        ("a*c", "a", "c"),
        ("a", "ab", "c"),
        ("a/", "a", "b"),
        ("/b", "a", "b"),
        ("a/b", "a", "B"),
        ("a/?", "a", ""),
        ("a/[b]", "a", "b"),
        ("a/*b", "a", "bc"),
    ] {
        assert!(!may(glob, server, tool), "{glob} {server}/{tool}");
    }
    // Time is bounded by the product of both lengths.
    assert!(!may(&format!("a/{}b", "*a".repeat(200)), "a", &"a".repeat(2000)));
}

#[test]
fn a_session_opens_for_its_key_at_its_server_and_for_nobody_else() {
    let seal = SessionSeal::new(&[7; 32]);
    let (server, key) = (McpServerId(Uuid::from_u128(1)), KeyId(Uuid::from_u128(2)));
    let mine = Whose { server, address: "http://a/mcp", key };
    let sealed = seal.seal([1; 12], &mine, "abc-DEF~1").unwrap();
    assert!(sealed.bytes().all(|byte| byte.is_ascii_graphic()) && !sealed.contains("abc"));
    assert_eq!(seal.open(&mine, &sealed).as_deref(), Some("abc-DEF~1"));
    assert_eq!(SessionSeal::new(&[7; 32]).open(&mine, &sealed).as_deref(), Some("abc-DEF~1"));
    for other in [
        Whose { key: KeyId(Uuid::from_u128(4)), ..mine },
        Whose { server: McpServerId(Uuid::from_u128(3)), ..mine },
        Whose { address: "http://b/mcp", ..mine },
    ] {
        assert_eq!(seal.open(&other, &sealed), None, "{other:?}");
    }
    assert_eq!(SessionSeal::new(&[8; 32]).open(&mine, &sealed), None);
    for wrong in ["", "abc-DEF~1", &sealed[1..], &format!("{sealed}A"), &sealed.to_lowercase()] {
        assert_eq!(seal.open(&mine, wrong), None, "{wrong}");
    }
    for no_id in ["", "a b", "ü", "a\u{7f}", &"x".repeat(2049)] {
        assert_eq!(seal.seal([1; 12], &mine, no_id), None);
    }
    assert!(!format!("{seal:?}").contains('7'));
}
