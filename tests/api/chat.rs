//! Chat completions, from key to ledger.

use crate::support::{Step, TestApp, Upstream, chat_answer, chat_chunks, run, sse};
use serde_json::json;

#[test]
fn a_chat_completion_goes_from_key_to_ledger() {
    run(async {
        let upstream = Upstream::always(chat_answer(12, 34)).await;
        let app = TestApp::start(&upstream).await;
        app.model_with(json!({"model_name": "m", "upstream_model": "org/up"})).await;
        let caller = app.caller("acme").await;
        let answer = caller.chat("m").await.expect(200);
        assert_eq!(answer.json()["usage"]["completion_tokens"], 34);
        assert_eq!(answer.header("x-obleth-admission"), Some("fast"));
        let sent = upstream.last();
        assert_eq!((sent.method.as_str(), sent.target.as_str()), ("POST", "/v1/chat/completions"));
        assert_eq!(sent.json()["model"], "org/up");
        let row = app.row(answer.header("x-request-id").unwrap()).await;
        assert_eq!(row["input_tokens"], 12);
        assert_eq!(row["output_tokens"], 34);
        assert_eq!(row["usage_source"], "upstream");
        assert_eq!(row["cost_usd"], "0.000057");
        assert_eq!(row["status"], 200);
        assert_eq!(app.in_flight(), 0);
        app.stop().await;
    });
}

#[test]
fn a_stream_passes_untouched_but_for_the_usage_the_client_did_not_ask_for() {
    run(async {
        let events = chat_chunks(&["Hello", " there"], Some((5, 2)));
        let script = sse(&events);
        let upstream = Upstream::start(move |_| script.clone()).await;
        let app = TestApp::start(&upstream).await;
        app.model("m").await;
        let caller = app.caller("acme").await;
        let body = json!({"model": "m", "stream": true, "messages": []});
        let answer = caller.post("/v1/chat/completions", &body).await.expect(200);
        assert_eq!(answer.text(), [&*events[0], &*events[1], &*events[3]].concat());
        assert_eq!(upstream.last().json()["stream_options"]["include_usage"], true);
        let row = app.row(answer.header("x-request-id").unwrap()).await;
        assert_eq!((&row["input_tokens"], &row["output_tokens"]), (&json!(5), &json!(2)));

        let asked =
            json!({"model": "m", "stream": true, "stream_options": {"include_usage": true}, "messages": []});
        let answer = caller.post("/v1/chat/completions", &asked).await.expect(200);
        assert_eq!(answer.text(), events.concat());
        app.stop().await;
    });
}

#[test]
fn a_stream_cut_by_the_upstream_ends_with_an_error_event() {
    run(async {
        let mut script = sse(&chat_chunks(&["Hello", " there"], None));
        script.truncate(2);
        script.push(Step::Close);
        let upstream = Upstream::start(move |_| script.clone()).await;
        let app = TestApp::start(&upstream).await;
        app.model("m").await;
        let caller = app.caller("acme").await;
        let body = json!({"model": "m", "stream": true, "messages": []});
        let answer = caller.post("/v1/chat/completions", &body).await.expect(200);
        let last = answer.text().trim_end().rsplit("\n\n").next().unwrap().to_owned();
        let event: serde_json::Value = serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(event["error"]["code"], "upstream_truncated");
        assert!(!answer.text().contains("[DONE]"));
        let row = app.row(answer.header("x-request-id").unwrap()).await;
        assert_eq!((&row["status"], &row["error_code"]), (&json!(502), &json!("upstream_truncated")));
        assert_eq!(row["usage_source"], "counted");
        assert!(row["output_tokens"].as_i64().unwrap() > 0);
        app.stop().await;
    });
}
