use super::*;
use obleth_actors::admin::brownout::BrownoutDefaults;
use obleth_core::brownout::{Policy, Step};

const TOKEN: (&str, &str) = ("OBLETH_ADMIN_TOKEN", "a-token-of-enough-length");

fn read(values: &[(&str, &str)]) -> Result<Config, Faults> {
    Config::read(Env::of(values.iter().copied()))
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = read(&[TOKEN]).unwrap();
    let effective: std::collections::BTreeMap<_, _> = config.effective().into_iter().collect();
    for (name, value) in [
        ("OBLETH_PROXY_LISTEN", "0.0.0.0:8080"),
        ("OBLETH_ADMIN_LISTEN", "127.0.0.1:9090"),
        ("OBLETH_METRICS_LISTEN", "127.0.0.1:9091"),
        ("OBLETH_UPSTREAM_BASE_URL", "http://127.0.0.1:8081/v1"),
        ("OBLETH_DATABASE_URL", "sqlite://obleth.db"),
        ("OBLETH_REDIS_URL", "(none)"),
        ("OBLETH_FAIL_OPEN", "true"),
        ("OBLETH_GLOBAL_MAX_IN_FLIGHT", "256"),
        ("OBLETH_DEFAULT_MODEL_MAX_IN_FLIGHT", "(none)"),
        ("OBLETH_ADMISSION_TIMEOUT_SECS", "60"),
        ("OBLETH_TENANT_MAX_QUEUED", "1024"),
        ("OBLETH_MAX_QUEUED", "16384"),
        ("OBLETH_SSE_PING_SECS", "0"),
        ("OBLETH_BROWNOUT_WAIT_MS", "750"),
        ("OBLETH_BROWNOUT_DEFAULT", "(off)"),
        ("OBLETH_FORWARD_AUTHORIZATION", "true"),
        ("OBLETH_UPSTREAM_TIMEOUT_SECS", "300"),
        ("OBLETH_UPSTREAM_IDLE_TIMEOUT_SECS", "120"),
        ("OBLETH_BREAKER_FAILURES", "5"),
        ("OBLETH_BREAKER_PROBE_SECS", "5"),
        ("OBLETH_BLOCK_PRIVATE_NETWORKS", "false"),
        ("OBLETH_ALLOWED_NETWORKS", "(none)"),
        ("OBLETH_SHUTDOWN_DELAY_SECS", "5"),
        ("OBLETH_SHUTDOWN_GRACE_SECS", "30"),
        ("OBLETH_MAX_BODY_BYTES", "67108864"),
        ("OBLETH_MAX_BUFFERED_BYTES", "536870912"),
        ("OBLETH_USAGE_RETENTION_DAYS", "180"),
        ("OBLETH_OTEL_ENDPOINT", "(none)"),
        ("OBLETH_OTEL_SAMPLE_RATIO", "1"),
    ] {
        assert_eq!(effective.get(name).map(String::as_str), Some(value), "{name}");
    }
}

#[test]
fn all_faults_are_reported_together() {
    let Faults(faults) = read(&[
        ("OBLETH_ADMIN_TOKEN", "short"),
        ("OBLETH_PROXY_LISTEN", "nowhere"),
        ("OBLETH_ADMIN_LISTEN", "127.0.0.1:9000"),
        ("OBLETH_METRICS_LISTEN", "0.0.0.0:9000"),
        ("OBLETH_UPSTREAM_BASE_URL", "ftp://x"),
        ("OBLETH_GLOBAL_MAX_IN_FLIGHT", "0"),
        ("OBLETH_FORWARD_AUTHORIZATION", "maybe"),
        ("OBLETH_DATABASE_URL", "mysql://root:hunter2@db/x"),
        ("OBLETH_ENCRYPTION_KEY", "c2hvcnQ="),
        ("OBLETH_OTEL_ENDPOINT", "https://user:hunter2@collector"),
        ("OBLETH_OTEL_SAMPLE_RATIO", "NaN"),
        ("OBLETH_REDIS_URL", "redis://user:hunter2@/x"),
        ("OBLETH_FAIL_OPEN", "open"),
    ])
    .unwrap_err();
    for name in [
        "OBLETH_ADMIN_TOKEN",
        "OBLETH_PROXY_LISTEN",
        "two listeners",
        "OBLETH_UPSTREAM_BASE_URL",
        "OBLETH_GLOBAL_MAX_IN_FLIGHT",
        "OBLETH_FORWARD_AUTHORIZATION",
        "OBLETH_DATABASE_URL",
        "OBLETH_ENCRYPTION_KEY",
        "OBLETH_OTEL_ENDPOINT",
        "OBLETH_OTEL_SAMPLE_RATIO",
        "OBLETH_REDIS_URL",
        "OBLETH_FAIL_OPEN",
    ] {
        assert!(faults.iter().any(|fault| fault.starts_with(name)), "{name} in {faults:?}");
    }
    assert_eq!(faults.len(), 12, "{faults:?}");
    assert!(!faults.iter().any(|fault| fault.contains("hunter2")), "a fault must not show a password");
}

#[test]
fn postgres_needs_an_encryption_key() {
    let url = ("OBLETH_DATABASE_URL", "postgres://u:hunter2@db/obleth");
    let Faults(faults) = read(&[TOKEN, url]).unwrap_err();
    assert_eq!(faults, ["OBLETH_ENCRYPTION_KEY is required with a PostgreSQL database"]);
    let key = ("OBLETH_ENCRYPTION_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let config = read(&[TOKEN, url, key]).unwrap();
    let shown = format!("{:?} {config:?}", config.effective());
    assert!(!shown.contains("hunter2") && !shown.contains("a-token-of-enough-length"), "{shown}");
}

#[test]
fn where_connections_may_go_is_read_strictly() {
    let strict = ("OBLETH_BLOCK_PRIVATE_NETWORKS", "true");
    let base = |url| ("OBLETH_UPSTREAM_BASE_URL", url);
    for (values, fault) in [
        (vec![base("http://169.254.169.254/v1")], Some("OBLETH_UPSTREAM_BASE_URL is an unspecified")),
        (vec![strict, base("http://10.0.0.1/v1")], Some("OBLETH_UPSTREAM_BASE_URL is a private address")),
        (vec![("OBLETH_ALLOWED_NETWORKS", "10.0.0.0/8")], Some("OBLETH_ALLOWED_NETWORKS means nothing")),
        (vec![strict, ("OBLETH_ALLOWED_NETWORKS", "10.0.0.0/8, x")], Some("OBLETH_ALLOWED_NETWORKS must be")),
        (vec![strict, ("OBLETH_ALLOWED_NETWORKS", "10.0.0.0/8, ::1"), base("http://10.0.0.1/v1")], None),
        (vec![strict], None),
        (vec![base("http://127.0.0.1:1/v1")], None),
    ] {
        let read = read(&[&[TOKEN], values.as_slice()].concat());
        let found = read.err().map(|Faults(faults)| faults);
        match fault {
            Some(fault) => assert!(found.clone().unwrap()[0].starts_with(fault), "{found:?}"),
            None => assert_eq!(found, None),
        }
    }
}

#[test]
fn all_bodies_together_have_room_for_one_at_least() {
    let body = ("OBLETH_MAX_BODY_BYTES", "1073741824");
    assert_eq!(read(&[TOKEN, body]).unwrap().listen.max_buffered_bytes, 1 << 30);
    let Faults(faults) = read(&[TOKEN, body, ("OBLETH_MAX_BUFFERED_BYTES", "1048576")]).unwrap_err();
    assert_eq!(faults, ["OBLETH_MAX_BUFFERED_BYTES must not be less than OBLETH_MAX_BODY_BYTES"]);
}

#[test]
fn a_misspelt_variable_is_noticed() {
    let config = read(&[TOKEN, ("OBLETH_PROXY_LISTN", "x"), ("OBLETH_TEST_POSTGRES_URL", "x")]).unwrap();
    assert_eq!(config.unknown, ["OBLETH_PROXY_LISTN"]);
}

#[test]
fn the_journal_is_beside_the_database_and_its_faults_are_named() {
    let token = ("OBLETH_ADMIN_TOKEN", "a-long-enough-admin-token");
    let own = Config::read(Env::of([token, ("OBLETH_DATABASE_URL", "sqlite:///data/o.db")])).unwrap();
    assert_eq!(own.ledger.journal.folder.to_str(), Some("/data/o.db.journal"));
    let bad = [
        token,
        ("OBLETH_JOURNAL_MAX_BYTES", "1000"),
        ("OBLETH_LEDGER_SYNC", "sometimes"),
        ("OBLETH_LEDGER_FULL", "wait"),
        ("OBLETH_USAGE_RETENTION_DAYS", "-1"),
    ];
    let faults = Config::read(Env::of(bad)).unwrap_err().to_string();
    for fault in [
        "OBLETH_JOURNAL_MAX_BYTES must be a whole number from 1048576 to 1099511627776",
        "OBLETH_LEDGER_SYNC must be interval, always or never",
        "OBLETH_LEDGER_FULL must be refuse or drop",
        "OBLETH_USAGE_RETENTION_DAYS must be a whole number from 0 to 36500",
    ] {
        assert!(faults.contains(fault), "{faults}");
    }
}

#[test]
fn a_default_brownout_policy_is_checked_as_a_tenants_is() {
    let defaults = |values: &[(&str, &str)]| {
        let values: Vec<_> = [TOKEN].iter().chain(values).copied().collect();
        read(&values).map(|config| config.admission.brownout())
    };
    let own = r#"{"enabled":true,"wait_ms":90,"max_tokens":16,"steps":["shed"]}"#;
    for (values, wait_ms, policy) in [
        (&[][..], 750, None),
        (&[("OBLETH_BROWNOUT_WAIT_MS", "20")], 20, None),
        (&[("OBLETH_BROWNOUT_DEFAULT", r#"{"wait_ms":90}"#)], 750, None),
        (&[("OBLETH_BROWNOUT_DEFAULT", r#"{"enabled":true}"#)], 750, Policy::new(750, 256, Step::ALL)),
        (
            &[("OBLETH_BROWNOUT_WAIT_MS", "20"), ("OBLETH_BROWNOUT_DEFAULT", own)],
            20,
            Policy::new(90, 16, [Step::Shed]),
        ),
    ] {
        assert_eq!(defaults(values), Ok(BrownoutDefaults { wait_ms, policy }), "{values:?}");
    }
    for (name, value) in [
        ("OBLETH_BROWNOUT_WAIT_MS", "0"),
        ("OBLETH_BROWNOUT_WAIT_MS", "soon"),
        ("OBLETH_BROWNOUT_DEFAULT", "true"),
        ("OBLETH_BROWNOUT_DEFAULT", r#"{"enabled":true,"max_token":5}"#),
        ("OBLETH_BROWNOUT_DEFAULT", r#"{"steps":["doze"]}"#),
    ] {
        let Faults(faults) = defaults(&[(name, value)]).unwrap_err();
        assert!(faults.len() == 1 && faults[0].starts_with(name), "{value}: {faults:?}");
    }
}
