//! `obleth demo`: the whole path on one machine, with nothing to set up.

use super::signals::Signals;
use super::{Failure, say};
use crate::config::{Config, Env};
use crate::mock::{self, MockOptions};
use crate::server::{Patience, Running};
use crate::telemetry;
use clap::Args;
use obleth_actors::admin::{AdminError, Origin, Write, Written};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

/// Gateway, mock upstream, tenant, key and models.
#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// Keep the database in this directory; without it nothing is left behind.
    #[arg(long)]
    directory: Option<PathBuf>,
}

const CHAT_MODEL: &str = "demo-model";
const EMBEDDING_MODEL: &str = "demo-embedding";

/// The listeners may be set; everything else is the demo's own.
const HONOURED: [&str; 3] = ["OBLETH_PROXY_LISTEN", "OBLETH_ADMIN_LISTEN", "OBLETH_METRICS_LISTEN"];

pub(super) fn run(arguments: &DemoArguments) -> Result<(), Failure> {
    telemetry::start_logging("warn");
    let temporary = match &arguments.directory {
        Some(directory) => {
            std::fs::create_dir_all(directory)
                .map_err(|error| Failure::of(format_args!("cannot use {}: {error}", directory.display())))?;
            None
        }
        None => Some(tempfile::Builder::new().prefix("obleth-demo-").tempdir().map_err(Failure::of)?),
    };
    let directory = match (&arguments.directory, &temporary) {
        (Some(directory), _) => directory.as_path(),
        (None, Some(temporary)) => temporary.path(),
        (None, None) => return Err(Failure::of("no directory for the demo's database")),
    };
    actix::System::new().block_on(demo(directory))
}

async fn demo(directory: &Path) -> Result<(), Failure> {
    let mut signals = Signals::listen_at_terminal().map_err(Failure::of)?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(Failure::of)?;
    let options = MockOptions {
        ttft: Duration::from_millis(100),
        token: Duration::from_millis(10),
        tokens: 40,
        ..MockOptions::default()
    };
    let upstream = mock::start(listener, options).map_err(Failure::of)?;
    let (mock_address, mock_handle) = (upstream.addr(), upstream.handle());
    let mocking = actix_rt::spawn(upstream.run());
    let token = format!("demo_{}", Uuid::new_v4().simple());
    let config = configuration(directory, &token, &format!("http://{mock_address}/v1"))?;
    let running = Running::start(config).await.map_err(Failure::of)?;
    let secret = furnish(&running).await.map_err(Failure::of)?;
    introduce(&running, &format!("http://{mock_address}"), &token, &secret);
    signals.next().await;
    running.stop(Patience::Terminal, async { _ = signals.next().await }).await;
    mock_handle.stop(false).await;
    mocking.await.map_err(Failure::of)?.map_err(Failure::of)
}

fn configuration(directory: &Path, token: &str, upstream: &str) -> Result<Config, Failure> {
    let database = format!("sqlite://{}", directory.join("obleth.db").display());
    let honoured: Vec<(&str, String)> =
        HONOURED.iter().filter_map(|name| Some((*name, std::env::var(name).ok()?))).collect();
    let honoured: Vec<_> = honoured.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let own = [
        ("OBLETH_PROXY_LISTEN", "127.0.0.1:8080"),
        ("OBLETH_ADMIN_TOKEN", token),
        ("OBLETH_DATABASE_URL", &database),
        ("OBLETH_UPSTREAM_BASE_URL", upstream),
    ];
    let given = honoured.iter().map(|(name, value)| (*name, value.as_str()));
    Ok(Config::read(Env::of(own.into_iter().chain(given)))?)
}

/// Makes the models, the tenant and its key; a second demo in the same directory finds them and makes a key.
async fn furnish(running: &Running) -> Result<String, AdminError> {
    let admin = &running.gateway.handles.admin;
    let origin = Origin::internal("demo");
    for (name, output) in [(CHAT_MODEL, "0.0000015"), (EMBEDDING_MODEL, "0")] {
        let model = format!(
            r#"{{"model_name":"{name}","input_cost_per_token":"0.0000005","output_cost_per_token":"{output}"}}"#
        );
        admin.write(origin.clone(), Write::PutModel(name.to_owned(), model.into_bytes())).await?;
    }
    let tenant = match admin.write(origin.clone(), Write::CreateTenant(br#"{"name":"demo"}"#.to_vec())).await
    {
        Ok(Written::Tenant(view)) => view.id().to_owned(),
        Err(AdminError::Conflict(..)) => admin.tenant_named("demo").await?.id().to_owned(),
        Ok(_) => return Err(AdminError::Internal),
        Err(error) => return Err(error),
    };
    match admin.write(origin.clone(), Write::CreateKey(tenant, br#"{"name":"demo"}"#.to_vec())).await? {
        Written::KeyWithSecret(key) => Ok(key.secret().to_owned()),
        _ => Err(AdminError::Internal),
    }
}

fn introduce(running: &Running, mock: &str, token: &str, secret: &str) {
    let proxy = format!("http://{}", running.proxy);
    say("obleth demo: a gateway, a mock upstream, a tenant with a key. Ctrl-C ends it.");
    say("");
    say(&format!("proxy:       {proxy}"));
    say(&format!("management:  http://{}", running.admin));
    say(&format!("metrics:     http://{}", running.metrics));
    say(&format!("mock:        {mock}"));
    say(&format!("admin token: {token}"));
    say(&format!("api key:     {secret}"));
    say(&format!("model:       {CHAT_MODEL}"));
    say(&format!("embedding:   {EMBEDDING_MODEL}"));
    say("");
    say("Ask the model:");
    say(&format!(
        "curl -s {proxy}/v1/chat/completions -H 'Authorization: Bearer {secret}' \
         -H 'Content-Type: application/json' \
         -d '{{\"model\":\"{CHAT_MODEL}\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'"
    ));
    say("");
    say("See what it cost:");
    say(&format!(
        "curl -s 'http://{}/api/v1/usage/logs?limit=1' -H 'Authorization: Bearer {token}'",
        running.admin
    ));
}
