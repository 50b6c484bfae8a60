//! The response cache: what is the same, what is kept, for whom and for how long.

use crate::support::{
    Answer, Caller, Stage, Step, chat_answer, chat_body, chat_chunks, json, run, sse, until,
};
use actix_web::http::Method;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

/// A gateway whose model `m` is cached.
async fn cached() -> Stage {
    cached_with(&[]).await
}

async fn cached_with(variables: &[(&str, &str)]) -> Stage {
    Stage::with(json!({"cache_enabled": true, "cache_ttl_secs": 600}), variables).await
}

fn state(answer: &Answer) -> &str {
    answer.header("x-obleth-cache").expect("x-obleth-cache")
}

/// Posts `body` with further headers.
async fn with_headers(caller: &Caller, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut request = caller.request(Method::POST, CHAT).insert_header(("content-type", "application/json"));
    for header in headers {
        request = request.append_header(*header);
    }
    Caller::send(request, body.to_string()).await
}

fn streamed(body: &Value) -> Value {
    let mut body = body.clone();
    body["stream"] = json!(true);
    body
}

#[test]
fn a_kept_answer_costs_nothing_and_says_so() {
    run(async {
        let stage = cached().await;
        stage.answer(chat_answer(100, 20));
        let (first, row) = stage.chat().await;
        assert_eq!((state(&first.clone().expect(200)), first.header("age")), ("miss", None));
        assert_eq!((&row["cache"], &row["cost_usd"]), (&json!("miss"), &json!("0.00008")));
        let (second, row) = stage.chat().await;
        assert_eq!((second.status, state(&second), &second.body), (200, "hit", &first.body));
        assert_eq!(second.header("content-type"), Some("application/json"));
        assert!(second.header("age").is_some_and(|age| age.parse::<u64>().unwrap() < 60));
        assert_ne!(second.header("x-request-id"), first.header("x-request-id"));
        assert_eq!(second.header("x-obleth-admission"), None, "it took no slot");
        for (field, value) in [
            ("cache", json!("hit")),
            ("admission", json!("none")),
            ("cost_usd", json!("0")),
            ("input_tokens", json!(100)),
            ("output_tokens", json!(20)),
            ("status", json!(200)),
        ] {
            assert_eq!(row[field], value, "{field}");
        }
        assert_eq!(stage.upstream.seen().len(), 1);
        let stats = stage.app.admin().get("/api/v1/cache/stats").await.expect(200).json();
        let model = &stats["models"][0];
        for (field, value) in [
            ("hits", json!(1)),
            ("misses", json!(1)),
            ("coalesced", json!(0)),
            ("tokens_saved", json!(120)),
            ("saved_usd", json!("0.00008")),
            ("entries", json!(1)),
        ] {
            assert_eq!((&stats[field], &model[field]), (&value, &value), "{field}");
        }
        assert!(model["bytes"].as_u64().unwrap() > 500);
        let metrics = stage.app.metrics().await;
        for line in [
            "obleth_cache_lookups_total{result=\"hit\"} 1",
            "obleth_cache_lookups_total{result=\"miss\"} 1",
            "obleth_cache_lookups_total{result=\"bypass\"} 0",
            "obleth_cache_tokens_saved_total 120",
            "obleth_tokens_total{direction=\"input\",model=\"m\"} 100",
        ] {
            assert!(metrics.contains(line), "{line}");
        }
        stage.stop().await;
    });
}

#[test]
fn a_model_that_is_not_cached_goes_its_way() {
    run(async {
        for fields in [
            json!({}),
            json!({"cache_enabled": true}),
            json!({"cache_enabled": true, "cache_ttl_secs": 0}),
            json!({"cache_enabled": false, "cache_ttl_secs": 60}),
        ] {
            let stage = Stage::with(fields, &[]).await;
            stage.answer(chat_answer(1, 1));
            for _ in 0..2 {
                let (answer, row) = stage.chat().await;
                assert_eq!((state(&answer), &row["cache"]), ("off", &json!("off")));
            }
            assert_eq!(stage.upstream.seen().len(), 2);
            stage.stop().await;
        }
        let stage = cached_with(&[("OBLETH_CACHE_MAX_BYTES", "0")]).await;
        stage.answer(chat_answer(1, 1));
        assert_eq!(state(&stage.chat().await.0), "off");
        assert_eq!(state(&stage.chat().await.0), "off");
        stage.stop().await;
    });
}

#[test]
fn what_cannot_change_the_answer_does_not_count_and_everything_else_does() {
    run(async {
        let stage = cached().await;
        stage.app.model_with(json!({"model_name": "n", "cache_enabled": true, "cache_ttl_secs": 60})).await;
        stage.answer(chat_answer(3, 4));
        let ask = async |text: &str| {
            let answer = stage.caller.post_text(CHAT, text.to_owned()).await.expect(200);
            state(&answer).to_owned()
        };
        let base = r#"{"model":"m","temperature":1,"messages":[{"role":"user","content":"Hello"}]}"#;
        assert_eq!(ask(base).await, "miss");
        for same in [
            r#" { "messages" : [ { "content" : "Hello" , "role" : "user" } ], "temperature" : 1.0, "model" : "m" } "#,
            r#"{"model":"m","temperature":1e0,"messages":[{"role":"user","content":"\u0048ello"}],"stream":false}"#,
            r#"{"model":"m","temperature":1,"messages":[{"role":"user","content":"Hello"}],"user":"u","metadata":{"a":"b"}}"#,
            r#"{"\u006dodel":"m","temperature":1,"messages":[{"role":"user","content":"Hello"}],"stream_options":null}"#,
        ] {
            assert_eq!(ask(same).await, "hit", "{same}");
        }
        for other in [
            r#"{"model":"m","temperature":0.9,"messages":[{"role":"user","content":"Hello"}]}"#,
            r#"{"model":"m","temperature":1.0000000000000000001,"messages":[{"role":"user","content":"Hello"}]}"#,
            r#"{"model":"m","temperature":1,"seed":7,"messages":[{"role":"user","content":"Hello"}]}"#,
            r#"{"model":"m","temperature":1,"seed":9007199254740993,"messages":[{"role":"user","content":"Hello"}]}"#,
            r#"{"model":"m","temperature":1,"seed":9007199254740992,"messages":[{"role":"user","content":"Hello"}]}"#,
            r#"{"model":"n","temperature":1,"messages":[{"role":"user","content":"Hello"}]}"#,
            r#"{"model":"m","temperature":1,"messages":[{"role":"system","content":"Be brief"},{"role":"user","content":"Hello"}]}"#,
            r#"{"model":"m","temperature":1,"n":2,"messages":[{"role":"user","content":"Hello"}]}"#,
            r#"{"model":"m","temperature":1,"messages":[{"role":"user","content":"hello"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"Hello"}]}"#,
        ] {
            assert_eq!(ask(other).await, "miss", "{other}");
            assert_eq!(ask(other).await, "hit", "{other}");
        }
        let beta = [("openai-beta", "x")];
        let body: Value = serde_json::from_str(base).unwrap();
        assert_eq!(state(&with_headers(&stage.caller, &beta, &body).await), "miss");
        assert_eq!(state(&with_headers(&stage.caller, &[("user-agent", "other")], &body).await), "hit");
        stage.stop().await;
    });
}

#[test]
fn a_stream_is_repeated_as_it_came_and_the_usage_only_for_those_who_ask() {
    run(async {
        let stage = cached().await;
        let events = chat_chunks(&["Hello", " you"], Some((5, 2)));
        stage.play(sse(&events));
        let plain = streamed(&chat_body());
        let mut asking = plain.clone();
        asking["stream_options"] = json!({"include_usage": true});
        let without: String = events.iter().filter(|event| !event.contains("usage")).cloned().collect();
        let with = events.concat();
        for (first, second) in [(&plain, &asking), (&asking, &plain)] {
            stage.app.admin().delete("/api/v1/cache").await.expect(204);
            let want = |body: &Value| if body == &asking { with.clone() } else { without.clone() };
            for (body, cache) in [(first, "miss"), (first, "hit"), (second, "hit"), (first, "hit")] {
                let (answer, row) = stage.ask(CHAT, body).await;
                assert_eq!((answer.text(), state(&answer)), (want(body), cache));
                assert_eq!(answer.header("content-type"), Some("text/event-stream"));
                assert_eq!((&row["input_tokens"], &row["output_tokens"]), (&json!(5), &json!(2)));
                assert_eq!((&row["stream"], &row["cache"]), (&json!(true), &json!(cache)));
            }
        }
        // The JSON form is apart.
        stage.answer(chat_answer(1, 1));
        let (answer, _) = stage.chat().await;
        assert_eq!((state(&answer), answer.header("content-type")), ("miss", Some("application/json")));
        stage.stop().await;
    });
}

#[test]
fn what_is_no_whole_answer_is_asked_again() {
    run(async {
        let stage = cached_with(&[("OBLETH_CACHE_MAX_ENTRY_BYTES", "4096")]).await;
        let good = sse(&chat_chunks(&["a", "b"], Some((5, 2))));
        let mut cut = good.clone();
        cut.truncate(2);
        cut.push(Step::Close);
        let failed = sse(&["data: {\"error\":{\"message\":\"x\",\"code\":500}}\n\n".to_owned()]);
        let long = sse(&chat_chunks(&["x".repeat(1500).as_str(); 4], Some((5, 2))));
        let short = chat_answer(1, 1);
        let scripts: [(Vec<Step>, bool); 7] = [
            (vec![Step::Send(json(500, r#"{"error":{"message":"x"}}"#))], false),
            (vec![Step::Send(json(404, r#"{"error":{"message":"x"}}"#))], false),
            (vec![Step::Send(short.slice(..short.len() - 9)), Step::Close], false),
            (
                vec![Step::Send(json(200, &format!("{{\"choices\":[],\"x\":\"{}\"}}", "y".repeat(5000))))],
                false,
            ),
            (cut, true),
            (failed, true),
            (long, true),
        ];
        for (number, (script, stream)) in scripts.into_iter().enumerate() {
            stage.play(script);
            let body = json!({"model": "m", "seed": number, "stream": stream, "messages": []});
            let before = stage.upstream.seen().len();
            for _ in 0..2 {
                let answer = stage.caller.post(CHAT, &body).await;
                assert_eq!(state(&answer), "miss", "{number}: {}", answer.text());
            }
            stage.play(if stream { good.clone() } else { vec![Step::Send(short.clone())] });
            assert_eq!(state(&stage.caller.post(CHAT, &body).await.expect(200)), "miss", "{number}");
            assert_eq!(state(&stage.caller.post(CHAT, &body).await.expect(200)), "hit", "{number}");
            assert_eq!(stage.upstream.seen().len(), before + 3);
        }
        stage.stop().await;
    });
}

#[test]
fn with_tools_only_an_answer_without_a_call_is_kept() {
    run(async {
        let stage = cached().await;
        let tools = json!([{"type": "function", "function": {"name": "f"}}]);
        let call = r#"{"choices":[{"message":{"role":"assistant","content":null,"tool_calls":[{"id":"c"}]}}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
        for (number, answer, then) in [(1, json(200, call), "miss"), (2, chat_answer(1, 1), "hit")] {
            stage.answer(answer);
            let body = json!({"model": "m", "seed": number, "tools": tools, "messages": []});
            assert_eq!(state(&stage.caller.post(CHAT, &body).await.expect(200)), "miss");
            assert_eq!(state(&stage.caller.post(CHAT, &body).await.expect(200)), then);
        }
        stage.stop().await;
    });
}

#[test]
fn what_depends_on_more_than_the_body_passes_by() {
    run(async {
        let stage = cached().await;
        stage.answer(chat_answer(1, 1));
        let body = json!({"model": "m", "input": "x", "conversation": "c1"});
        for _ in 0..2 {
            let answer = stage.caller.post("/v1/responses", &body).await.expect(200);
            assert_eq!(state(&answer), "bypass");
        }
        stage.stop().await;
    });
}

#[test]
fn the_client_says_how_old_an_answer_may_be_and_whether_it_is_kept() {
    run(async {
        let stage = cached().await;
        let body = chat_body();
        let ask = async |directive: &str, tokens: u64| {
            stage.answer(chat_answer(tokens, 1));
            let answer =
                with_headers(&stage.caller, &[("cache-control", directive)], &body).await.expect(200);
            let tokens = answer.json()["usage"]["prompt_tokens"].as_u64().unwrap();
            (state(&answer).to_owned(), tokens)
        };
        let said = |state: &str, tokens: u64| (state.to_owned(), tokens);
        assert_eq!(ask("no-store", 1).await, said("bypass", 1));
        assert_eq!(ask("max-stale", 2).await, said("miss", 2), "what went by was not kept");
        assert_eq!(ask("no-store", 3).await, said("bypass", 3));
        assert_eq!(ask("max-age=600", 4).await, said("hit", 2));
        assert_eq!(ask("no-cache", 5).await, said("miss", 5));
        assert_eq!(ask("public", 6).await, said("hit", 5), "it was asked anew and kept");
        assert_eq!(ask("max-age=0", 7).await, said("miss", 7));
        until("the answer is older than a second", async || {
            let (state, tokens) = ask("max-age=1", 8).await;
            (state == "miss" && tokens == 8).then_some(())
        })
        .await;
        assert_eq!(ask("max-age=60", 9).await, said("hit", 8));
        stage.stop().await;
    });
}

#[test]
fn an_answer_ends_with_its_time_looked_up_or_not() {
    run(async {
        let stage = Stage::with(json!({"cache_enabled": true, "cache_ttl_secs": 1}), &[]).await;
        stage.answer(chat_answer(1, 1));
        stage.chat().await;
        assert_eq!(state(&stage.chat().await.0), "hit");
        let entries = async || stage.app.admin().get("/api/v1/cache/stats").await.json()["entries"].as_u64();
        assert_eq!(entries().await, Some(1));
        until("the entry is gone unasked", async || (entries().await == Some(0)).then_some(())).await;
        assert_eq!(state(&stage.chat().await.0), "miss");
        stage.stop().await;
    });
}

#[test]
fn a_namespace_is_a_cache_of_its_own() {
    run(async {
        let stage = cached().await;
        stage.answer(chat_answer(1, 1));
        let body = chat_body();
        let ask = async |name: &str| {
            with_headers(&stage.caller, &[("x-obleth-cache-namespace", name)], &body).await
        };
        assert_eq!(state(&stage.caller.post(CHAT, &body).await), "miss");
        for name in ["a", "b"] {
            assert_eq!(state(&ask(name).await.expect(200)), "miss");
            assert_eq!(state(&ask(name).await.expect(200)), "hit");
        }
        assert!(stage.upstream.last().header("x-obleth-cache-namespace").is_none());
        let long = "x".repeat(129);
        for bad in ["", "a b", &long] {
            let answer = ask(bad).await.expect(400);
            assert_eq!(
                (answer.error_code().as_str(), answer.json()["error"]["param"].as_str()),
                ("invalid_request", Some("x-obleth-cache-namespace"))
            );
        }
        let twice = [("x-obleth-cache-namespace", "a"), ("x-obleth-cache-namespace", "b")];
        assert_eq!(with_headers(&stage.caller, &twice, &body).await.status, 400);
        stage.stop().await;
    });
}

#[test]
fn no_tenant_gets_or_learns_anything_of_another() {
    run(async {
        let stage = cached().await;
        let other = stage.app.caller("other").await;
        stage.answer(chat_answer(1, 1));
        let first = stage.caller.post(CHAT, &chat_body()).await.expect(200);
        assert_eq!(state(&stage.caller.post(CHAT, &chat_body()).await), "hit");
        let theirs = other.post(CHAT, &chat_body()).await.expect(200);
        assert_eq!((state(&theirs), stage.upstream.seen().len()), ("miss", 2));
        let names = |answer: &Answer| {
            let mut names: Vec<String> = answer.headers.keys().map(|name| name.to_string()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&theirs), names(&first), "nothing tells that another has asked");
        let namespace = [("x-obleth-cache-namespace", "acme")];
        assert_eq!(state(&with_headers(&other, &namespace, &chat_body()).await), "miss");
        // Another key of the same tenant does.
        let tenant = stage.app.rows().await.pop().unwrap()["tenant_id"].as_str().unwrap().to_owned();
        let key = stage.app.key(&tenant, json!({"name": "second"})).await;
        assert_eq!(state(&stage.app.client(&key).post(CHAT, &chat_body()).await), "hit");
        stage.stop().await;
    });
}

#[test]
fn purges_forget_what_is_meant_and_an_upstream_that_changes_forgets_its_own() {
    run(async {
        let stage = cached().await;
        stage.app.model_with(json!({"model_name": "n", "cache_enabled": true, "cache_ttl_secs": 60})).await;
        let other = stage.app.caller("other").await;
        stage.answer(chat_answer(1, 1));
        let admin = stage.app.admin();
        let ask =
            async |caller: &Caller, model: &str| state(&caller.chat(model).await.expect(200)).to_owned();
        let fill = async || {
            for (caller, model) in [(&stage.caller, "m"), (&stage.caller, "n"), (&other, "m"), (&other, "n")]
            {
                ask(caller, model).await;
                assert_eq!(ask(caller, model).await, "hit");
            }
        };
        let check = async |wanted: [&str; 4]| {
            let mut found = Vec::new();
            for (caller, model) in [(&stage.caller, "m"), (&stage.caller, "n"), (&other, "m"), (&other, "n")]
            {
                found.push(ask(caller, model).await);
            }
            assert_eq!(found, wanted);
        };
        let rows = stage.app.admin().get("/api/v1/tenants").await.json();
        let id = |name: &str| {
            let tenants = rows["data"].as_array().unwrap();
            tenants.iter().find(|tenant| tenant["name"] == name).unwrap()["id"].as_str().unwrap().to_owned()
        };
        let (acme, others) = (id("acme"), id("other"));
        fill().await;
        admin.delete(&format!("/api/v1/cache?tenant_id={others}")).await.expect(204);
        check(["hit", "hit", "miss", "miss"]).await;
        admin.delete("/api/v1/cache?model=n").await.expect(204);
        check(["hit", "miss", "hit", "miss"]).await;
        admin.delete(&format!("/api/v1/cache?model=m&tenant_id={acme}")).await.expect(204);
        check(["miss", "hit", "hit", "hit"]).await;
        admin.delete("/api/v1/cache").await.expect(204);
        check(["miss", "miss", "miss", "miss"]).await;
        for (path, status) in [("?model=x", 404), ("?tenant_id=x", 400), ("?other=1", 400)] {
            admin.delete(&format!("/api/v1/cache{path}")).await.expect(status);
        }
        let entries = async || admin.get("/api/v1/cache/stats").await.json()["entries"].as_u64();
        assert_eq!(entries().await, Some(4));
        // What does not touch the upstream keeps everything.
        admin.patch("/api/v1/models/m", &json!({"description": "x", "aliases": ["o"]})).await.expect(200);
        check(["hit", "hit", "hit", "hit"]).await;
        assert_eq!(ask(&other, "o").await, "hit", "an alias is the same model");
        admin.patch("/api/v1/models/m", &json!({"upstream_model": "newer"})).await.expect(200);
        until("their memory is free", async || (entries().await == Some(2)).then_some(())).await;
        check(["miss", "hit", "miss", "hit"]).await;
        admin.delete(&format!("/api/v1/tenants/{others}")).await.expect(204);
        until("their memory is free", async || (entries().await == Some(2)).then_some(())).await;
        admin.patch("/api/v1/models/n", &json!({"cache_enabled": false})).await.expect(200);
        until("their memory is free", async || (entries().await == Some(1)).then_some(())).await;
        assert_eq!(ask(&stage.caller, "n").await, "off");
        stage.stop().await;
    });
}

#[test]
fn forms_are_kept_whatever_their_boundary() {
    run(async {
        let stage = cached().await;
        stage.answer(json(200, r#"{"text":"Hi"}"#));
        let send = async |boundary: &str, sound: &str, user: &str| {
            let part = |name: &str, value: &str| {
                format!("--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
            };
            let file = format!(
                "--{boundary}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n{sound}\r\n"
            );
            let body = format!("{}{file}{}--{boundary}--\r\n", part("model", "m"), part("user", user));
            let kind = format!("multipart/form-data; boundary={boundary}");
            let request = stage.caller.request(Method::POST, "/v1/audio/transcriptions");
            let answer = Caller::send(request.insert_header(("content-type", kind)), body).await.expect(200);
            state(&answer).to_owned()
        };
        assert_eq!(send("one", "abc", "u").await, "miss");
        assert_eq!(send("other", "abc", "v").await, "hit");
        assert_eq!(send("one", "abd", "u").await, "miss");
        stage.stop().await;
    });
}
