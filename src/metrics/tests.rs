use super::*;
use obleth_core::brownout::Step;
use obleth_core::ids::{GroupId, KeyId, McpServerId, ModelId, RowId, TenantId};
use obleth_core::ledger::{Admission, CacheState, Cost, LedgerRow, Usage, UsageSource};
use obleth_core::registry::{McpServer, Model, Prices, Tenant, TenantStatus};
use obleth_core::response_cache::MarkOf;
use obleth_core::units::{CostFactor, Share, Usd};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

fn row(tenant: u128, model: &str) -> LedgerRow {
    LedgerRow {
        id: RowId(Uuid::nil()),
        request_id: "r".into(),
        ts: 0,
        tenant: TenantId(Uuid::from_u128(tenant)),
        key: KeyId(Uuid::nil()),
        model: model.into(),
        upstream_model: model.into(),
        route: "/v1/chat/completions",
        stream: false,
        admission: Admission::Fast,
        status: 200,
        error_code: None,
        cache: CacheState::Off,
        estimated_tokens: 0,
        usage: Usage { input: 3, output: 2, source: UsageSource::Upstream, ..Usage::default() },
        cost: Cost { output: Usd::from_pico(1_500_000), ..Cost::default() },
        queue_ms: 0,
        ttft_ms: None,
        total_ms: 0,
        target_pod: None,
        session_id: None,
        mcp_server: None,
        mcp_tool: None,
        bytes_in: 0,
        bytes_out: 0,
    }
}

fn observe(worker: &WorkerMetrics, row: &LedgerRow) {
    worker.observe(&Observed {
        row,
        at: Moment::from_micros(1_000_000),
        queued: Duration::from_millis(2),
        total: Duration::from_millis(30),
        ttft: Some(Duration::from_millis(12)),
        upstream: Some(Duration::from_micros(27_600)),
        own: Duration::from_micros(400),
    });
}

fn model(name: &str) -> Model {
    let number = name.bytes().fold(0, |sum: u128, byte| sum * 257 + u128::from(byte));
    Model {
        id: ModelId(Uuid::from_u128(number)),
        name: name.into(),
        upstream_model: name.into(),
        api_base: None,
        api_key: None,
        price: Prices::default(),
        context_window: None,
        max_output_tokens: None,
        admission_weight: CostFactor::ONE,
        max_in_flight: None,
        enabled: true,
        aliases: Vec::new(),
        fallbacks: Vec::new(),
        request_timeout_secs: None,
        upstream_headers: Vec::new(),
        created_unix: 0,
        cache_ttl: None,
        upstream_mark: MarkOf::default().mark(),
    }
}

fn server(name: &str) -> McpServer {
    let number = name.bytes().fold(0, |sum: u128, byte| sum * 257 + u128::from(byte));
    McpServer {
        id: McpServerId(Uuid::from_u128(number)),
        version: 1,
        name: name.into(),
        url: "http://h/".into(),
        auth_header: None,
        enabled: true,
        timeout_secs: None,
        requests_per_minute: None,
    }
}

fn tenant(id: u128, name: &str) -> Tenant {
    Tenant {
        id: TenantId(Uuid::from_u128(id)),
        name: name.into(),
        weight: Share::DEFAULT,
        group: GroupId(Uuid::nil()),
        status: TenantStatus::Active,
        max_in_flight: None,
        max_queued: None,
        allowed_models: None,
        allowed_tools: None,
        brownout: None,
        limits: obleth_core::token_budget::Limits::default(),
    }
}

fn records(models: &[&str]) -> Records {
    let mut records = Records::default();
    models.iter().for_each(|name| records.put_model(model(name)));
    records
}

fn metrics(tenant_labels: bool) -> Result<Metrics, prometheus::Error> {
    Metrics::new(Bounds { tenant_labels, max_queued: 1, journal_max_bytes: 1 })
}

/// Values by line without its value.
fn values(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name, value.parse().unwrap_or(f64::NAN)))
        .collect()
}

/// Values of a label of a family.
fn labels<'a>(text: &'a str, family: &str, label: &str) -> BTreeSet<&'a str> {
    let start = format!("{label}=\"");
    let lines = text.lines().filter(|line| line.starts_with(family));
    lines.filter_map(|line| line.split_once(&*start)?.1.split_once('"')).map(|(value, _)| value).collect()
}

const AT: Moment = Moment::from_micros(5_000_000);

fn later(seconds: u64) -> Moment {
    AT + Duration::from_secs(seconds)
}

#[test]
fn workers_are_added_up_and_one_that_is_gone_still_counts() -> Result<(), prometheus::Error> {
    let metrics = metrics(false)?;
    let (one, two) = (WorkerMetrics::new(&metrics), WorkerMetrics::new(&metrics));
    let seen = row(1, "m");
    for worker in [&one, &two, &two] {
        observe(worker, &seen);
    }
    two.request("/v1/chat/completions", 401, Admission::None);
    two.cache_lookup("hit");
    two.tokens_saved(7);
    two.budget_rejection("budget_exhausted");
    two.brownout(Step::Shed);
    two.mcp_request(&"files".into(), 200);
    let check = |text: &str| {
        let values = values(text);
        for (series, value) in [
            ("obleth_requests_total{route=\"/v1/chat/completions\",status=\"200\",admission=\"fast\"}", 3.0),
            ("obleth_requests_total{route=\"/v1/chat/completions\",status=\"401\",admission=\"none\"}", 1.0),
            ("obleth_tokens_total{direction=\"input\",model=\"m\"}", 9.0),
            ("obleth_tokens_total{direction=\"output\",model=\"m\"}", 6.0),
            ("obleth_upstream_requests_total{model=\"m\",outcome=\"ok\"}", 3.0),
            ("obleth_queue_wait_seconds_bucket{le=\"0.001\"}", 0.0),
            ("obleth_queue_wait_seconds_bucket{le=\"0.0025\"}", 3.0),
            ("obleth_queue_wait_seconds_sum", 0.006),
            ("obleth_gateway_overhead_seconds_bucket{le=\"0.0003\"}", 0.0),
            ("obleth_gateway_overhead_seconds_bucket{le=\"0.0005\"}", 3.0),
            ("obleth_gateway_overhead_seconds_sum", 0.0012),
            ("obleth_ttft_seconds_sum{model=\"m\"}", 0.036),
            ("obleth_upstream_seconds_sum{model=\"m\"}", 0.0828),
            ("obleth_request_seconds_sum{route=\"/v1/chat/completions\"}", 0.09),
            ("obleth_request_seconds_count{route=\"/v1/chat/completions\"}", 3.0),
            ("obleth_cache_lookups_total{result=\"hit\"}", 1.0),
            ("obleth_cache_lookups_total{result=\"miss\"}", 0.0),
            ("obleth_cache_tokens_saved_total", 7.0),
            ("obleth_budget_rejections_total{reason=\"budget_exhausted\"}", 1.0),
            ("obleth_brownout_total{step=\"shed\"}", 1.0),
            ("obleth_mcp_requests_total{server=\"files\",status=\"200\"}", 1.0),
        ] {
            assert_eq!(values.get(series), Some(&value), "{series} in {text}");
        }
    };
    let records = records(&["m"]);
    check(&metrics.traffic(AT, &records, &[]));
    drop(two);
    check(&metrics.traffic(AT, &records, &[]));
    Ok(())
}

#[test]
fn a_request_that_was_refused_adds_nothing_of_a_queue_or_an_upstream() -> Result<(), prometheus::Error> {
    let metrics = metrics(false)?;
    let worker = WorkerMetrics::new(&metrics);
    let refused = LedgerRow { admission: Admission::Rejected, status: 429, ..row(1, "m") };
    let (queued, total, own) =
        (Duration::from_secs(1), Duration::from_millis(1001), Duration::from_millis(1));
    worker.observe(&Observed { row: &refused, at: AT, queued, total, ttft: None, upstream: None, own });
    let text = metrics.traffic(AT, &records(&["m"]), &[]);
    let values = values(&text);
    for (series, value) in [
        ("obleth_queue_wait_seconds_count", 0.0),
        ("obleth_upstream_seconds_count{model=\"m\"}", 0.0),
        ("obleth_ttft_seconds_count{model=\"m\"}", 0.0),
        ("obleth_gateway_overhead_seconds_sum", 0.001),
        ("obleth_requests_total{route=\"/v1/chat/completions\",status=\"429\",admission=\"rejected\"}", 1.0),
    ] {
        assert_eq!(values.get(series), Some(&value), "{series}");
    }
    assert!(labels(&text, "obleth_upstream_requests_total", "outcome").len() == 4);
    assert_eq!(
        values.get("obleth_upstream_requests_total{model=\"m\",outcome=\"client_error\"}"),
        Some(&0.0)
    );
    Ok(())
}

#[test]
fn statuses_nobody_knows_do_not_become_series() -> Result<(), prometheus::Error> {
    let metrics = metrics(false)?;
    let worker = WorkerMetrics::new(&metrics);
    for status in 200..1000 {
        worker.request("/v1/chat/completions", status, Admission::Fast);
    }
    let text = metrics.traffic(AT, &Records::default(), &[]);
    let statuses = labels(&text, "obleth_requests_total", "status");
    assert!(statuses.len() < 80 && statuses.contains("429") && statuses.contains("9xx"), "{statuses:?}");
    let counted: f64 = values(&text)
        .iter()
        .filter(|(name, _)| name.starts_with("obleth_requests_total"))
        .map(|(_, n)| n)
        .sum();
    assert_eq!(counted, 800.0);
    Ok(())
}

#[test]
fn models_come_and_go() -> Result<(), prometheus::Error> {
    let metrics = metrics(false)?;
    let worker = WorkerMetrics::new(&metrics);
    let shown = |now, names: &[&str]| {
        let text = metrics.traffic(now, &records(names), &[]);
        let shown = labels(&text, "obleth_tokens_total", "model");
        shown.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(shown(AT, &[]), [""], "the nameless one stands in");
    assert_eq!(shown(AT, &["a", "b"]), ["a", "b"]);
    observe(&worker, &row(1, "a"));
    assert_eq!(shown(later(10), &["b"]), ["a", "b"], "the last of it can be seen");
    assert_eq!(shown(later(309), &["b"]), ["a", "b"]);
    assert_eq!(shown(later(310), &["b"]), ["b"]);
    assert_eq!(shown(later(320), &["a", "b"]), ["a", "b"]);
    let text = metrics.traffic(later(320), &records(&["a"]), &[]);
    assert_eq!(values(&text).get("obleth_tokens_total{direction=\"input\",model=\"a\"}"), Some(&0.0), "anew");
    Ok(())
}

#[test]
fn a_thousand_models_have_series_and_the_rest_share_one() -> Result<(), prometheus::Error> {
    let metrics = metrics(false)?;
    let workers = [WorkerMetrics::new(&metrics), WorkerMetrics::new(&metrics)];
    for (number, worker) in (0..MODELS + 500).zip(workers.iter().cycle()) {
        observe(worker, &row(1, &format!("m{number}")));
    }
    observe(&workers[0], &row(1, OTHER));
    let text = metrics.traffic(AT, &Records::default(), &[]);
    let models = labels(&text, "obleth_tokens_total", "model");
    assert_eq!((models.len(), models.contains(OTHER)), (MODELS + 1, true));
    let series = "obleth_tokens_total{direction=\"input\",model=\"other\"}";
    assert_eq!(values(&text).get(series), Some(&(501.0 * 3.0)));
    Ok(())
}

#[test]
fn tenants_have_no_label_unless_that_is_wanted() -> Result<(), prometheus::Error> {
    let metrics = metrics(false)?;
    observe(&WorkerMetrics::new(&metrics), &row(1, "m"));
    assert!(!metrics.traffic(AT, &records(&["m"]), &[]).contains("tenant"));
    Ok(())
}

#[test]
fn a_thousand_tenants_are_at_most_51_values_that_add_up_and_never_fall() -> Result<(), prometheus::Error> {
    let metrics = metrics(true)?;
    let workers = [WorkerMetrics::new(&metrics), WorkerMetrics::new(&metrics)];
    let mut records = records(&["m"]);
    (0..1000).for_each(|id| records.put_tenant(tenant(id, &format!("t{id}"))));
    let mut before: BTreeMap<String, f64> = BTreeMap::new();
    let mut dropped = 0.0;
    for round in 0..40_u64 {
        // Whom it goes by moves on, so that those who stand are challenged again and again.
        let recent = |id: u64| if (id + 1000 - round * 20 % 1000) % 1000 < 60 { 100_000 + id } else { id };
        let standings: Vec<Standing> = (0..1000)
            .map(|id| Standing {
                id: TenantId(Uuid::from_u128(id.into())),
                in_flight: 1,
                queued: 2,
                recent: recent(id),
            })
            .collect();
        for (id, worker) in (0..1000).zip(workers.iter().cycle()) {
            observe(worker, &row(id, "m"));
        }
        let text = metrics.traffic(later(round * 60), &records, &standings);
        for family in ["requests_total", "tokens_total", "cost_usd_total", "in_flight", "queue_depth"] {
            let shown = labels(&text, &format!("obleth_tenant_{family}"), "tenant");
            assert_eq!((shown.len(), shown.contains(OTHER)), (TENANTS + 1, true), "{family}");
        }
        let now = values(&text);
        let sum = |family: &str| {
            now.iter().filter(|(name, _)| name.starts_with(family)).map(|(_, value)| value).sum::<f64>()
        };
        assert_eq!((sum("obleth_tenant_in_flight"), sum("obleth_tenant_queue_depth")), (1000.0, 2000.0));
        let requests = |(name, value): (&&str, &f64)| {
            name.starts_with("obleth_tenant_requests").then(|| ((*name).to_owned(), *value))
        };
        let now: BTreeMap<String, f64> = now.iter().filter_map(requests).collect();
        for (series, value) in &before {
            match now.get(series) {
                Some(new) => assert!(new >= value, "{series} fell"),
                None => dropped += value,
            }
        }
        // A tenant that left between two looks took along what it had, and this round's.
        let all = f64::from(u32::try_from(round + 1).unwrap_or(0)) * 1000.0;
        let shown = now.values().sum::<f64>() + dropped;
        assert!(shown <= all && shown > all - 40.0 * 50.0, "{shown} of {all}");
        before = now;
    }
    assert!(dropped > 0.0, "nobody ever left");
    Ok(())
}

#[test]
fn servers_go_and_make_room() -> Result<(), prometheus::Error> {
    let metrics = metrics(false)?;
    let worker = WorkerMetrics::new(&metrics);
    let with = |names: &[&str]| {
        let mut records = Records::default();
        names.iter().for_each(|name| records.put_mcp_server(server(name)));
        records
    };
    let shown = |now, names: &[&str]| {
        let text = metrics.traffic(now, &with(names), &[]);
        let shown = labels(&text, "obleth_mcp_requests_total", "server");
        shown.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(shown(AT, &[]), [""], "the nameless one stands in");
    (0..SERVERS).for_each(|number| worker.mcp_request(&number.to_string().into(), 200));
    worker.mcp_request(&"late".into(), 200);
    let all = shown(AT, &["0"]);
    assert_eq!((all.len(), all.contains(&OTHER.to_owned())), (SERVERS + 1, true));
    assert_eq!(shown(later(299), &["0"]).len(), SERVERS + 1, "the last of them can be seen");
    assert_eq!(shown(later(300), &["0"]), ["0", OTHER]);
    worker.mcp_request(&"late".into(), 200);
    assert_eq!(shown(later(310), &["0", "late"]), ["0", "late", OTHER], "there is room again");
    Ok(())
}
