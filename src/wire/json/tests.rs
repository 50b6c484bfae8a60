use super::*;
use proptest::prelude::*;

fn text_len(json: &str) -> usize {
    Cursor::new(json.as_bytes()).string().unwrap().text_len()
}

#[test]
fn the_length_of_a_string_is_that_of_its_text() {
    for json in
        [r#""""#, r#""abc""#, r#""a\nb""#, r#""\u00e9é""#, r#""\u4e2d""#, r#""\ud83d\ude00""#, r#""\\\"\/""#]
    {
        let text: String = serde_json::from_str(json).unwrap();
        assert_eq!(text_len(json), text.len(), "{json}");
    }
}

#[test]
fn a_fault_ends_every_loop() {
    for json in
        ["{", "[", "[1", "[}", "{]", "{\"a\"", "{\"a\":", "{\"a\":}", "[,,,", "[\"", "[\"\\", "{1:2}", "[:]"]
    {
        each_member(json.as_bytes(), |_, cursor| {
            cursor.skip();
        });
        each_item(json.as_bytes(), |_| {});
        Cursor::new(json.as_bytes()).skip();
    }
}

#[test]
fn depth_counts_containers_and_not_brackets_in_strings() {
    for (json, depth) in
        [(r#"["[[[[", {"]": "}"}]"#, 2), ("[[],[],[]]", 2), ("[[[]],[]]", 3), (r#""[""#, 0), ("1", 0)]
    {
        let mut cursor = Cursor::new(json.as_bytes());
        cursor.skip();
        assert_eq!(cursor.skipped_depth(), depth, "{json}");
    }
}

proptest! {
    #[test]
    fn a_skipped_value_is_the_whole_value(text in ".{0,40}", n in any::<i64>(), tail in "[,\\]} ]{0,3}") {
        let value = serde_json::json!({"k\"": [text, n, null, {"x": {}}], "[": true}).to_string();
        let both = format!("{value}{tail}");
        prop_assert_eq!(Cursor::new(both.as_bytes()).skip(), value.as_bytes());
    }

    #[test]
    fn any_string_has_its_length(text in any::<String>()) {
        prop_assert_eq!(text_len(&serde_json::to_string(&text).unwrap()), text.len());
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(prop::sample::select(b"{}[]\",:\\u01a ".to_vec()), 0..200)) {
        each_member(&bytes, |_, cursor| { cursor.skip(); });
        each_item(&bytes, |_| {});
        Cursor::new(&bytes).skip();
    }
}
