//! Traces: one a request, its stages as spans, the client's trace continued, nothing secret in it.

use crate::support::{
    Answer, Caller, Collector, Queue, Spanned, Stage, Step, chat_answer, chat_chunks, hang, run, sse,
    stream_body, until,
};
use actix_web::http::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const CHAT: &str = "/v1/chat/completions";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
/// What each request that is sent upstream goes through, in its order.
const STAGES: [&str; 6] = ["authenticate", "resolve", "admit", "forward", "meter", "settle"];

async fn stage(collector: &Collector, variables: &[(&str, &str)]) -> Stage {
    let base = collector.base();
    let endpoint = [("OBLETH_OTEL_ENDPOINT", base.as_str())];
    Stage::with(json!({}), &endpoint.iter().chain(variables).copied().collect::<Vec<_>>()).await
}

async fn traced(caller: &Caller, flags: &str, body: &Value) -> Answer {
    let request = caller.request(Method::POST, CHAT);
    let request = request.insert_header(("traceparent", format!("00-{TRACE}-{PARENT}-{flags}")));
    let request = request.insert_header(("tracestate", "vendor=opaque"));
    Caller::send(request.insert_header(("x-request-id", "traced")), body.to_string()).await
}

/// The one trace whose first span says it is of this request: that span, and the others in their order.
fn trace_of(spans: &[Spanned], request_id: &str) -> (Spanned, Vec<Spanned>) {
    let of = |span: &&Spanned| span.kind == 2 && span.attribute("obleth.request_id") == request_id;
    let roots: Vec<_> = spans.iter().filter(of).collect();
    assert_eq!(roots.len(), 1, "exactly one trace of {request_id}");
    let root = roots[0].clone();
    let mut others: Vec<_> =
        spans.iter().filter(|span| span.trace == root.trace && span.id != root.id).cloned().collect();
    others.sort_by_key(|span| span.begin);
    for span in &others {
        assert_eq!(span.parent, root.id, "{}", span.name);
        assert!(root.begin <= span.begin && span.begin <= span.end && span.end <= root.end, "{span:?}");
    }
    (root, others)
}

fn names(spans: &[Spanned]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

/// Whether `names` are these stages, beside which others may have come.
fn assert_stages(spans: &[Spanned], stages: &[&str]) {
    let found = names(spans);
    let known: Vec<_> = found.iter().filter(|name| !["lookup", "reserve"].contains(*name)).copied().collect();
    assert_eq!(known, stages, "{found:?}");
}

fn named<'a>(spans: &'a [Spanned], name: &str) -> &'a Spanned {
    spans.iter().find(|span| span.name == name).unwrap()
}

#[test]
fn a_request_is_one_trace_below_the_clients_span_with_its_stages() {
    run(async {
        let collector = Collector::start().await;
        let stage = stage(&collector, &[("OBLETH_OTEL_SAMPLE_RATIO", "0")]).await;
        stage.answer(chat_answer(5, 7));
        traced(&stage.caller, "01", &json!({"model": "m", "messages": []})).await.expect(200);
        let upstream = stage.upstream.last();
        let row = stage.app.row("traced").await;
        stage.stop().await;
        let spans = collector.spans();
        let (root, stages) = trace_of(&spans, "traced");
        assert_eq!(spans.len(), stages.len() + 1, "nothing but this one trace");
        assert_stages(&stages, &STAGES);
        assert_eq!((root.trace.as_str(), root.parent.as_str(), root.kind), (TRACE, PARENT, 2));
        assert_eq!((root.name.as_str(), root.state.as_str()), ("POST /v1/chat/completions", "vendor=opaque"));
        let ids: BTreeSet<_> = spans.iter().map(|span| &span.id).collect();
        assert_eq!(ids.len(), spans.len());

        let call = named(&stages, "forward");
        assert_eq!(call.kind, 3);
        assert_eq!(upstream.header("traceparent"), Some(format!("00-{TRACE}-{}-01", call.id).as_str()));
        assert_eq!(upstream.header("tracestate"), Some("vendor=opaque"));
        assert!(call.end >= named(&stages, "meter").end, "the call lasts as long as its answer");

        for (name, value) in [
            ("http.request.method", json!("POST")),
            ("http.route", json!(CHAT)),
            ("http.response.status_code", json!(200)),
            ("obleth.status", json!(200)),
            ("obleth.tenant_id", row["tenant_id"].clone()),
            ("obleth.key_id", row["key_id"].clone()),
            ("obleth.model", json!("m")),
            ("obleth.stream", json!(false)),
            ("obleth.admission", json!("fast")),
            ("obleth.queue_ms", json!(0)),
            ("obleth.cache", json!("off")),
            ("obleth.cost_usd", json!("0.000013")),
            ("obleth.error_code", Value::Null),
        ] {
            assert_eq!(root.attribute(name), &value, "{name}");
        }
        for (name, value) in [
            ("gen_ai.operation.name", json!("chat")),
            ("gen_ai.provider.name", json!("openai")),
            ("gen_ai.request.model", json!("m")),
            ("gen_ai.response.model", json!("m")),
            ("gen_ai.usage.input_tokens", json!(5)),
            ("gen_ai.usage.output_tokens", json!(7)),
            ("obleth.tenant_id", row["tenant_id"].clone()),
            ("server.address", json!("127.0.0.1")),
        ] {
            assert_eq!(call.attribute(name), &value, "{name}");
        }
        assert!(spans.iter().all(|span| span.status == 0), "no error");
        let resource = collector.resource();
        assert_eq!(resource["service.name"], "obleth");
        assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
        assert!(resource["service.instance.id"].as_str().is_some_and(|id| !id.is_empty()));
    });
}

#[test]
fn a_stream_tells_its_first_chunk_and_a_cut_one_is_an_error() {
    run(async {
        let collector = Collector::start().await;
        let stage = stage(&collector, &[]).await;
        stage.play(sse(&chat_chunks(&["Hello", " you"], Some((3, 2)))));
        let (whole, _) = stage.stream().await;
        let mut cut = sse(&chat_chunks(&["Hello", " you"], Some((3, 2))));
        cut.truncate(2);
        cut.push(Step::Close);
        stage.play(cut);
        let (cut, _) = stage.stream().await;
        stage.stop().await;
        let spans = collector.spans();
        let (root, stages) = trace_of(&spans, whole.header("x-request-id").unwrap());
        assert_stages(&stages, &STAGES);
        assert_eq!(root.parent, "", "a new trace");
        let call = named(&stages, "forward");
        assert_eq!(call.attribute("gen_ai.request.stream"), true);
        let first = call.attribute("gen_ai.response.time_to_first_chunk").as_f64().unwrap();
        assert!(first > 0.0 && first <= (call.end - call.begin) as f64 / 1e9, "{first}");
        assert_eq!(call.attribute("gen_ai.usage.output_tokens"), 2);

        let (root, stages) = trace_of(&spans, cut.header("x-request-id").unwrap());
        assert_eq!(root.status, 2);
        assert_eq!(root.attribute("http.response.status_code"), 200, "what the client was told");
        assert_eq!(root.attribute("obleth.status"), 502);
        for span in [&root, named(&stages, "forward"), named(&stages, "meter")] {
            assert_eq!((span.attribute("error.type"), span.status), (&json!("upstream_truncated"), 2));
        }
        assert_eq!(spans.iter().map(|span| &span.trace).collect::<BTreeSet<_>>().len(), 2);
    });
}

#[test]
fn a_refused_request_is_a_trace_that_ends_where_it_was_refused() {
    run(async {
        let collector = Collector::start().await;
        let base = collector.base();
        let queue = Queue::with(&[("OBLETH_OTEL_ENDPOINT", &base)], |_| vec![hang()]).await;
        let unknown = queue.caller.chat("none").await.expect(404);
        let stranger = queue.app.client("sk_nobody").chat("m").await.expect(401);
        let late = queue.caller.request(Method::POST, CHAT).insert_header(("x-obleth-deadline-ms", "20"));
        let late = Caller::send(late, json!({"model": "m", "messages": []}).to_string()).await.expect(503);
        let socket = queue.join(CHAT, "leaver", &stream_body()).await;
        drop(socket);
        until("it has left", async || (queue.app.queued() == 0).then_some(())).await;
        queue.stop().await;
        let spans = collector.spans();
        let of = |answer: &Answer| trace_of(&spans, answer.header("x-request-id").unwrap());

        let (root, stages) = of(&stranger);
        assert_eq!(names(&stages), ["authenticate"]);
        assert_eq!((root.attribute("http.response.status_code"), root.status), (&json!(401), 0));
        assert_eq!(root.attribute("error.type"), "invalid_api_key");
        assert_eq!(root.attribute("obleth.tenant_id"), &Value::Null);

        let (root, stages) = of(&unknown);
        assert_eq!(names(&stages), ["authenticate", "resolve", "settle"]);
        assert_eq!(root.attribute("error.type"), "model_not_found");
        assert_eq!(named(&stages, "resolve").attribute("error.type"), "model_not_found");

        let (root, stages) = of(&late);
        assert_stages(&stages, &["authenticate", "resolve", "admit", "settle"]);
        assert_eq!((root.attribute("http.response.status_code"), root.status), (&json!(503), 2));
        let admit = named(&stages, "admit");
        assert_eq!((admit.attribute("error.type"), admit.status), (&json!("deadline_unreachable"), 2));
        assert!(admit.attribute("obleth.queue_ms").as_u64().unwrap() >= 20);
        assert!(admit.end - admit.begin >= 20_000_000);
        assert_eq!(root.attribute("gen_ai.request.model"), "m", "no call says what was asked");

        let (root, stages) = trace_of(&spans, "leaver");
        assert_stages(&stages, &["authenticate", "resolve", "admit", "settle"]);
        assert_eq!(root.attribute("obleth.status"), 499);
        assert_eq!((root.attribute("http.response.status_code"), root.status), (&Value::Null, 0));
    });
}

#[test]
fn no_prompt_answer_or_key_is_exported() {
    run(async {
        let collector = Collector::start().await;
        let base = collector.base();
        let headers = json!({"x-team": "operators-header"});
        let model = json!({"api_key": "operators-secret", "upstream_headers": headers});
        let stage = Stage::with(model, &[("OBLETH_OTEL_ENDPOINT", &base)]).await;
        let key = stage.caller.credential.clone().unwrap();
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "whispered-prompt"}]});
        stage.answer(chat_answer(1, 1));
        stage.caller.post(&format!("{CHAT}?token=in-the-query"), &body).await.expect(200);
        body["stream"] = json!(true);
        stage.play(sse(&chat_chunks(&["whispered-answer"], Some((1, 1)))));
        stage.caller.post(CHAT, &body).await.expect(200);
        stage.play(vec![Step::Send(crate::support::json(400, r#"{"error":{"message":"whispered-fault"}}"#))]);
        stage.caller.post(CHAT, &body).await.expect(400);
        body["model"] = json!("whispered-model");
        stage.caller.post(CHAT, &body).await.expect(404);
        stage.app.client("sk_unknown_secret").post(CHAT, &body).await.expect(401);
        stage.stop().await;
        let bytes = collector.bytes();
        let has = |text: &str| memchr::memmem::find(&bytes, text.as_bytes()).is_some();
        assert!(has("obleth.tenant_id") && has("upstream_error"));
        for secret in ["whispered", "in-the-query", "operators-", "sk_", &key, &key[3..]] {
            assert!(!has(secret), "{secret}");
        }
        assert_eq!(collector.spans().iter().filter(|span| span.kind == 2).count(), 5);
    });
}

#[test]
fn what_is_not_sampled_is_passed_on_so_and_not_sent() {
    run(async {
        let collector = Collector::start().await;
        let stage = stage(&collector, &[("OBLETH_OTEL_SAMPLE_RATIO", "0")]).await;
        stage.answer(chat_answer(1, 1));
        stage.chat().await;
        let begun = stage.upstream.last().header("traceparent").unwrap().to_owned();
        assert!(begun.starts_with("00-") && begun.ends_with("-00"), "{begun}");
        traced(&stage.caller, "00", &json!({"model": "m", "messages": []})).await.expect(200);
        let passed = stage.upstream.last().header("traceparent").unwrap().to_owned();
        assert!(passed.starts_with(&format!("00-{TRACE}-")) && passed.ends_with("-00"), "{passed}");
        assert!(!passed.contains(PARENT));
        stage.stop().await;
        assert_eq!(collector.server.connections(), 0);
    });
}

/// `obleth_trace_spans_total` by result.
async fn spans_counted(stage: &Stage) -> BTreeMap<String, u64> {
    let text = stage.app.metrics().await;
    let one = |line: &str| {
        let (result, count) = line.strip_prefix("obleth_trace_spans_total{result=\"")?.split_once("\"} ")?;
        Some((result.to_owned(), count.parse().unwrap()))
    };
    text.lines().filter_map(one).collect()
}

#[test]
fn a_collector_that_hangs_holds_up_nobody() {
    run(async {
        let collector = Collector::playing(vec![hang()]).await;
        let stage = stage(&collector, &[]).await;
        stage.answer(chat_answer(1, 1));
        stage.chat().await;
        until("the collector has the first", async || (collector.server.seen().len() == 1).then_some(()))
            .await;
        for _ in 0..20 {
            let (answer, _) = stage.chat().await;
            answer.expect(200);
        }
        assert_eq!(collector.server.seen().len(), 1, "it has not answered yet");
        let none = [("dropped", 0), ("exported", 0), ("failed", 0)];
        assert_eq!(spans_counted(&stage).await, none.map(|(name, count)| (name.to_owned(), count)).into());
        // The flush at the end gives up too: this returns.
        stage.stop().await;
    });
}

#[test]
fn spans_that_a_collector_refuses_are_counted_and_cost_nothing_else() {
    run(async {
        let refusing = Collector::playing(vec![Step::Send(crate::support::json(500, "{}"))]).await;
        let stage = stage(&refusing, &[]).await;
        stage.answer(chat_answer(1, 1));
        for _ in 0..3 {
            stage.chat().await.0.expect(200);
        }
        until("all three are refused and counted", async || {
            let spans = refusing.spans();
            let requests = spans.iter().filter(|span| span.kind == 2).count();
            let counted = spans_counted(&stage).await["failed"];
            (requests == 3 && counted == spans.len() as u64).then_some(())
        })
        .await;
        assert_eq!(spans_counted(&stage).await["exported"], 0);
        stage.chat().await.0.expect(200);
        stage.stop().await;
        assert_eq!(refusing.spans().iter().filter(|span| span.kind == 2).count(), 4);
    });
}

#[test]
fn without_an_endpoint_a_traceparent_passes_as_it_came() {
    run(async {
        let stage = Stage::new().await;
        stage.answer(chat_answer(1, 1));
        traced(&stage.caller, "01", &json!({"model": "m", "messages": []})).await.expect(200);
        let sent = stage.upstream.last();
        assert_eq!(sent.header("traceparent"), Some(format!("00-{TRACE}-{PARENT}-01").as_str()));
        stage.caller.chat("m").await.expect(200);
        assert_eq!(stage.upstream.last().header("traceparent"), None);
        stage.stop().await;
    });
}
