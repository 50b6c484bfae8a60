use super::*;
use obleth_core::breaker::State;
use obleth_core::registry::Prices;
use obleth_core::response_cache::MarkOf;
use obleth_core::units::CostFactor;
use uuid::Uuid;

fn model(number: u128) -> Model {
    Model {
        id: ModelId(Uuid::from_u128(number)),
        name: format!("m{number}").into(),
        upstream_model: "up".into(),
        api_base: Some("http://a".into()),
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
        cache_ttl: None,
        upstream_mark: MarkOf::default().mark(),
        created_unix: 0,
    }
}

fn health(models: impl IntoIterator<Item = Model>) -> Health {
    let health = Health::new(Rules::default(), Clock::start(), Arc::default());
    models.into_iter().for_each(|model| put(&health, model));
    health
}

fn put(health: &Health, model: Model) {
    let mut registry = Registry::clone(&health.registry.load());
    registry.put_model(model);
    health.registry.store(Arc::new(registry));
}

fn fail(health: &Health, model: &Model, times: usize) {
    (0..times).for_each(|_| health.attempt(model).unwrap().failed());
}

fn state(health: &Health, model: &Model) -> Option<State> {
    health.view(model).map(|view| view.state)
}

#[tokio::test(start_paused = true)]
async fn one_models_failures_open_its_own_breaker_alone() {
    let (a, b) = (model(1), model(2));
    let health = health([a.clone(), b.clone()]);
    assert_eq!((state(&health, &a), health.look(&a)), (None, Ok(())));
    fail(&health, &a, 5);
    assert_eq!(
        (health.look(&a), health.attempt(&a).err()),
        (Err(Duration::from_secs(5)), Some(Duration::from_secs(5)))
    );
    assert_eq!(health.look(&b), Ok(()));
    health.attempt(&b).unwrap().answered();
    assert_eq!((state(&health, &a), state(&health, &b)), (Some(State::Open), Some(State::Closed)));
    tokio::time::advance(Duration::from_secs(5)).await;
    let mut probe = health.attempt(&a).unwrap();
    assert!(health.attempt(&a).is_err());
    probe.answered();
    assert_eq!(state(&health, &a), Some(State::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_is_dropped_makes_room_for_the_next_probe() {
    let a = model(1);
    let health = health([a.clone()]);
    fail(&health, &a, 5);
    tokio::time::advance(Duration::from_secs(5)).await;
    drop(health.attempt(&a).unwrap());
    assert_eq!(state(&health, &a), Some(State::Open));
    let mut next = health.attempt(&a).unwrap();
    next.answered();
    drop(next);
    assert_eq!(state(&health, &a), Some(State::Closed));
}

#[test]
fn a_changed_upstream_begins_anew_and_a_changed_price_does_not() {
    let a = model(1);
    let health = health([a.clone()]);
    fail(&health, &a, 5);
    let dearer = Model { max_output_tokens: Some(7), ..a.clone() };
    put(&health, dearer.clone());
    assert!(health.look(&dearer).is_err());
    let moved = Model { api_base: Some("http://b".into()), ..a.clone() };
    put(&health, moved.clone());
    assert_eq!(health.look(&moved), Ok(()));
    fail(&health, &moved, 5);
    let keyed = Model { api_key: Some("secret".to_owned().into()), ..moved.clone() };
    put(&health, keyed.clone());
    assert!(health.attempt(&keyed).is_ok());
    // A request that is still on its way to the old upstream neither waits nor counts.
    fail(&health, &moved, 9);
    assert_eq!((state(&health, &moved), health.view(&keyed).unwrap().failures), (None, 0));
    assert!(!format!("{health:?}").contains("secret"));
}

#[test]
fn breakers_of_deleted_models_go() {
    let health = health((0..50).map(model));
    (0..50).for_each(|number| fail(&health, &model(number), 1));
    assert_eq!(health.lines.load().len(), 50);
    let mut registry = Registry::clone(&health.registry.load());
    (0..49).for_each(|number| registry.remove_model(model(number).id));
    registry.put_model(model(50));
    health.registry.store(Arc::new(registry));
    fail(&health, &model(99), 9);
    assert_eq!(health.lines.load().len(), 50, "a deleted model gets none");
    fail(&health, &model(50), 1);
    assert_eq!(health.lines.load().len(), 2);
}

#[test]
fn somebody_elses_good_word_closes_a_breaker() {
    let a = model(1);
    let health = health([a.clone()]);
    health.found_well(&a);
    assert_eq!(state(&health, &a), None);
    fail(&health, &a, 5);
    health.found_well(&a);
    assert_eq!((state(&health, &a), health.look(&a)), (Some(State::Closed), Ok(())));
}
