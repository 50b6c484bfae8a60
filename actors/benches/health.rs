//! What the breaker costs a request: asked before the queue and before the connect, told of the answer.
//!
//! With several threads all of them ask for the same model, as workers do under load.

use arc_swap::ArcSwap;
use divan::Bencher;
use obleth_actors::clock::Clock;
use obleth_actors::health::Health;
use obleth_core::breaker::Rules;
use obleth_core::ids::ModelId;
use obleth_core::registry::{Model, Prices, Registry};
use obleth_core::response_cache::MarkOf;
use obleth_core::units::CostFactor;
use std::sync::Arc;
use uuid::Uuid;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// All of it, on a closed breaker.
#[divan::bench(threads = [1, 2], sample_count = 200, sample_size = 10_000)]
fn a_request_that_is_answered(bencher: Bencher<'_, '_>) {
    let (health, model) = start();
    bencher.bench(|| {
        if health.look(&model).is_ok()
            && let Ok(mut trial) = health.attempt(&model)
        {
            trial.answered();
        }
    });
}

/// On an open one.
#[divan::bench(threads = [1, 2], sample_count = 200, sample_size = 10_000)]
fn a_request_that_is_refused(bencher: Bencher<'_, '_>) {
    let (health, model) = start();
    while let Ok(mut trial) = health.attempt(&model) {
        trial.failed();
    }
    bencher.bench(|| health.look(&model));
}

fn start() -> (Health, Model) {
    let model = Model {
        id: ModelId(Uuid::from_u128(1)),
        name: "org/a-model-of-some-size".into(),
        upstream_model: "org/a-model-of-some-size".into(),
        api_base: Some("http://aibrix-gateway.serving.svc.cluster.local:8080".into()),
        api_key: Some("sk-0123456789abcdef0123456789abcdef".to_owned().into()),
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
        cache_ttl: None,
        upstream_mark: MarkOf::default().mark(),
        created_unix: 0,
    };
    let mut registry = Registry::default();
    registry.put_model(model.clone());
    let registry = Arc::new(ArcSwap::from_pointee(registry));
    (Health::new(Rules::default(), Clock::start(), registry), model)
}
