use super::*;

fn weight(json: &str) -> (u64, u64, u64) {
    let weight = weigh(json, true).0;
    (weight.text_bytes, weight.token_ids, weight.media_parts)
}

#[test]
fn text_weighs_its_bytes_and_structure_nothing() {
    assert_eq!(weight(r#""hällo""#), (6, 0, 0));
    assert_eq!(weight(r#"[{"role":"user","content":"hello"}]"#), (5, 0, 0));
    assert_eq!(
        weight(r#"[{"role":"user","content":[{"type":"text","text":"ab"},{"text":"cd","type":"text"}]}]"#),
        (4, 0, 0)
    );
    assert_eq!(weight("null"), (0, 0, 0));
}

#[test]
fn token_lists_weigh_their_tokens() {
    assert_eq!(weight("[1,2,3]"), (0, 3, 0));
    assert_eq!(weight("[[1,2],[3]]"), (0, 3, 0));
}

#[test]
fn each_kind_of_media_is_one_part_without_text() {
    for part in [
        r#"{"type":"image_url","image_url":{"url":"https://x.example/a.png","detail":"high"}}"#,
        r#"{"image_url":{"url":"data:image/png;base64,AAAA"},"type":"image_url"}"#,
        r#"{"type":"input_image","image_url":"data:image/png;base64,AAAA"}"#,
        r#"{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}"#,
        r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}"#,
        r#"{"type":"image","source":{"type":"url","url":"https://x.example/a.png"}}"#,
        r#"{"type":"file","file":{"file_data":"data:application/pdf;base64,AAAA","filename":"a.pdf"}}"#,
        r#"{"type":"input_file","file_id":"file-1"}"#,
    ] {
        assert_eq!(weight(&format!("[{part}]")), (0, 0, 1), "{part}");
    }
}

#[test]
fn parts_within_a_part_count_each() {
    let page = r#"{"type":"image_url","image_url":{"url":"https://x.example/a.png"}}"#;
    assert_eq!(weight(&format!(r#"{{"type":"file","content":[{page},{page}]}}"#)), (0, 0, 2));
    let pair = r#"{"type":"image","data":["data:image/png;base64,A","data:image/png;base64,B"]}"#;
    assert_eq!(weight(pair), (0, 0, 2));
}

#[test]
fn a_document_of_plain_text_weighs_as_text() {
    let document = r#"{"type":"document","source":{"type":"text","media_type":"text/plain","data":"hello"}}"#;
    assert!(weight(document).0 >= 5);
    assert_eq!(weight(document).2, 0);
}

#[test]
fn text_dressed_as_media_still_weighs() {
    let dressed = r#"[{"role":"user","content":"data:x/y;base64,hello"}]"#;
    assert_eq!(weight(dressed), (21, 0, 0));
    assert_eq!(weight(r#"{"type":"image_url","content":"hello"}"#).0, 5);
    assert_eq!(weight(r#"{"\u0074ext":"data:x/y;base64,hello"}"#).0, 21);
    assert_eq!(weight(r#"{"type":"text","image_url":"hello"}"#).0, 5);
}

#[test]
fn a_data_string_where_no_text_is_read_is_media() {
    let weight = weigh(r#"["data:image/png;base64,AAAA"]"#, false).0;
    assert_eq!((weight.text_bytes, weight.media_parts), (0, 1));
}

#[test]
fn arguments_given_as_objects_weigh_as_their_json() {
    assert_eq!(weight(r#"{"type":"tool_use","input":{"a":[1,2]}}"#).0, 11);
}

#[test]
fn what_is_not_known_to_be_text_is_not_bounded_by_its_bytes() {
    let unbounded = |json: &str| weigh(json, true).0.unbounded;
    for text in [
        r#""hello""#,
        r#"[{"role":"user","content":"hi","name":"u","id":"m1","weight":1}]"#,
        r#"[{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral","ttl":"5m"}}]}]"#,
        r#"[{"role":"assistant","content":null,"audio":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":"7"}]"#,
        r#"[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","is_error":false,"content":[{"type":"text","text":"7"}]}]}]"#,
        r#"[{"type":"message","id":"m","role":"assistant","status":"completed","content":[{"type":"output_text","text":"a","annotations":[]}]},{"type":"function_call_output","call_id":"c","output":"7"}]"#,
        r#"[{"type":"function","function":{"name":"f","description":"d","strict":true,"parameters":{"type":"object","image":{"type":"string"}}}}]"#,
        r#"[{"name":"f","description":"d","input_schema":{"type":"object"}}]"#,
        r#"{"type":"document","source":{"type":"text","media_type":"text/plain","data":"hello"},"title":"t"}"#,
        r#"[{"text":"a"},{"text":"b"}]"#,
        "[[1,2],[3]]",
    ] {
        assert!(!unbounded(text), "{text}");
    }
    for odd in [
        r#"[{"role":"user","content":[{"image_url":{"url":"http://x/y.png"}}]}]"#,
        r#"{"type":"text","text":"a","image_url":{"url":"http://x"}}"#,
        r#"[{"type":"item_reference","id":"m"}]"#,
        r#"[{"id":"m"}]"#,
        r#"{"image_url":"http://x"}"#,
        r#"{"input_audio":{"data":"A"}}"#,
        r#"{"type":null,"image_url":"http://x"}"#,
        r#"{"Type":"image_url","text":"a"}"#,
        r#"{"type":"image_pil","text":"a"}"#,
        r#"{"type":"image_url","type":"text","text":"a"}"#,
        r#"{"type":"weird","url":"http://x"}"#,
        r#"{"role":"assistant","content":"a","audio":{"id":"audio_1"}}"#,
        r#"{"type":"container_upload","file_id":"f"}"#,
        r#"{"type":"computer_call_output","output":{"type":"computer_screenshot","image_url":"http://x"}}"#,
        r#"{"type":"reasoning","id":"rs_1","summary":[]}"#,
        r#"[{"image":"http://x"}]"#,
        r#"[{"type":"web_search"}]"#,
        r#"{"\u0069mage":"http://x"}"#,
        r#"{"type":"image_url","image_url":{"url":"http://x/y.png"}}"#,
        r#"["data:image/png;base64,AAAA"]"#,
    ] {
        let read = if odd.starts_with("[\"data") { weigh(odd, false).0.unbounded } else { unbounded(odd) };
        assert!(read, "{odd}");
    }
}
