//! `obleth serve`.

use super::signals::{Signal, Signals};
use super::{Failure, announce};
use crate::config::Config;
use crate::server::{Patience, Running};
use crate::telemetry;

pub(super) fn run() -> Result<(), Failure> {
    let config = Config::from_process()?;
    telemetry::start_logging("info");
    actix::System::new().block_on(async {
        announce(&config);
        let mut signals = Signals::listen().map_err(Failure::of)?;
        let running = Running::start(config).await.map_err(Failure::of)?;
        tracing::info!(
            proxy = %running.proxy,
            admin = %running.admin,
            metrics = %running.metrics,
            version = env!("CARGO_PKG_VERSION"),
            "obleth is listening"
        );
        let patience = match signals.next().await {
            Signal::Terminate => Patience::LoadBalancer,
            Signal::Interrupt => Patience::Terminal,
        };
        // Rows that did not reach the database wait in the journal, and the log says so.
        running.stop(patience, async { _ = signals.next().await }).await;
        tracing::info!("stopped");
        Ok(())
    })
}
