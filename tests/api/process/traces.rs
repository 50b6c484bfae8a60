//! Traces of the real process: where they go, and that nothing does without an endpoint.

use super::Serving;
use crate::support::{Collector, Upstream, chat_answer, run};

/// A gateway with these variables answers one request and ends.
async fn served(variables: &[(&str, &str)]) {
    let upstream = Upstream::always(chat_answer(1, 1)).await;
    let mut serving = Serving::start(&upstream, variables).await;
    serving.furnish().await.chat("m").await.expect(200);
    serving.process.signal("INT");
    assert_eq!(serving.process.exit().await, Some(0));
}

#[test]
fn without_an_endpoint_of_its_own_nothing_is_sent_anywhere() {
    run(async {
        let collector = Collector::start().await;
        let base = collector.base();
        served(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &base), ("OTEL_TRACES_EXPORTER", "otlp")]).await;
        assert_eq!(collector.server.connections(), 0);
        served(&[
            ("OBLETH_OTEL_ENDPOINT", &base),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-collector-key=abc"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test"),
        ])
        .await;
        assert_eq!(collector.spans().iter().filter(|span| span.kind == 2).count(), 1, "flushed at the end");
        assert_eq!(collector.server.last().header("x-collector-key"), Some("abc"));
        assert_eq!(collector.resource()["deployment.environment"], "test");
    });
}
