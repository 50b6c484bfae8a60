//! Usage of a period survives a restart, and `kill -9`.

use super::{Limited, chat, prompt_bound, total};
use crate::process::Serving;
use crate::support::{Caller, Socket, TestApp, Upstream, chat_answer, post, run, silent_streams};
use serde_json::{Value, json};

#[test]
fn what_was_used_before_a_restart_counts_after_it() {
    run(async {
        let upstream = Upstream::always(chat_answer(30, 12)).await;
        let limited = Limited::new(&upstream, total(400)).await;
        limited.chat(20).await.expect(200);
        limited.chat(20).await.expect(200);
        let before = limited.budget().await;
        let (key, tenant) = (limited.caller.credential.clone().unwrap(), limited.tenant.clone());
        limited.app.idle().await;
        let directory = limited.app.stop().await;
        let app = TestApp::start_in(directory, &upstream.base(), &[]).await;
        let limited = Limited { caller: app.client(&key), app, tenant };
        assert_eq!(limited.budget().await, before);
        let limits = limited.caller.get("/v1/limits").await.expect(200).json();
        assert_eq!(limits["budget"]["key"]["usage"], before["usage"]);
        let refused = limited.chat(200).await.expect(402).json();
        assert_eq!(refused["error"]["budget"]["used"], 84);
        limited.stop().await;
    });
}

fn sum(rows: &[Value]) -> u64 {
    let tokens = |row: &Value| row["input_tokens"].as_u64().unwrap() + row["output_tokens"].as_u64().unwrap();
    rows.iter().map(tokens).sum()
}

#[test]
fn after_a_kill_usage_is_the_sum_of_the_ledger_with_what_was_running() {
    run(async {
        let upstream = silent_streams().await;
        let serving = Serving::start(&upstream, &[]).await;
        let caller = serving.furnish().await;
        let tenants = serving.admin.get("/api/v1/tenants").await.expect(200).json();
        let tenant = tenants["data"][0]["id"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/tenants/{tenant}");
        let budgets = json!({"budgets": [{"period": "day", "max_tokens": 100_000}]});
        serving.admin.patch(&path, &budgets).await.expect(200);
        let key = caller.credential.clone().unwrap();
        let mut streams = Vec::new();
        let mut asked = chat(300);
        asked["stream"] = json!(true);
        for n in 0..10 {
            let text = post("/v1/chat/completions", &key, &format!("long-{n}"), &asked);
            let mut stream = Socket::sent(serving.proxy, &text).await;
            stream.head().await.unwrap();
            stream.chunk().await.unwrap();
            streams.push(stream);
        }
        // Its row takes the opens along.
        caller.post("/v1/chat/completions", &chat(10)).await.expect(200);
        serving.process.signal("KILL");
        let Serving { mut process, directory, .. } = serving;
        assert_eq!(process.exit().await, None);
        let serving = Serving::start_in(directory, &upstream, &[]).await;
        let page = serving.admin.get("/api/v1/usage/logs?limit=100").await.expect(200).json();
        let rows = page["data"].as_array().unwrap().clone();
        assert_eq!(rows.iter().filter(|row| row["error_code"] == "gateway_restarted").count(), 10);
        // Where a hard budget holds, with the most that it can have used.
        let most = prompt_bound(&asked) + 300;
        let interrupted = rows.iter().filter(|row| row["error_code"] == "gateway_restarted").cloned();
        assert_eq!(sum(&interrupted.collect::<Vec<_>>()), 10 * most, "none of the ten was free");
        let view = serving.admin.get(&format!("{path}/budget")).await.expect(200).json();
        for period in ["day", "month", "total"] {
            assert_eq!(view["usage"][period]["tokens"], sum(&rows), "{period}");
            assert_eq!(view["usage"][period]["reserved_tokens"], 0);
        }
        assert_eq!(view["budgets"][0]["tokens"]["left"], 100_000 - sum(&rows));
        let caller = Caller::new(serving.proxy, Some(&key));
        caller.post("/v1/chat/completions", &chat(10)).await.expect(200);
        let view = serving.admin.get(&format!("{path}/budget")).await.expect(200).json();
        assert_eq!(view["usage"]["day"]["tokens"], sum(&rows) + 2);
    });
}
