use super::*;
use crate::ids::{KeyId, RowId, TenantId};
use crate::registry::Prices;
use crate::units::{Price, Usd};
use proptest::prelude::*;
use std::sync::Arc;
use uuid::Uuid;

fn row(n: u128) -> Arc<LedgerRow> {
    Arc::new(LedgerRow {
        id: RowId(Uuid::from_u128(n)),
        request_id: "r".into(),
        ts: 0,
        tenant: TenantId(Uuid::nil()),
        key: KeyId(Uuid::nil()),
        model: "m".into(),
        upstream_model: "m".into(),
        route: "/v1/chat/completions",
        stream: false,
        admission: Admission::Fast,
        status: 200,
        error_code: None,
        cache: CacheState::Off,
        estimated_tokens: 0,
        usage: Usage::default(),
        cost: Usd::ZERO,
        queue_ms: 0,
        ttft_ms: None,
        total_ms: 0,
        target_pod: None,
        session_id: None,
        bytes_in: 0,
        bytes_out: 0,
    })
}

fn prices() -> Prices {
    Prices {
        input: Price::parse("0.0000025").ok(),
        cached_input: Price::parse("0.00000125").ok(),
        output: Price::parse("1e-5").ok(),
    }
}

#[test]
fn cached_tokens_are_priced_apart_and_fall_back_to_the_input_price() {
    let usage =
        Usage { input: 1000, cached_input: 400, output: 100, reasoning: 50, source: UsageSource::Upstream };
    assert_eq!(cost(&prices(), &usage).to_string(), "0.003");
    let without = Prices { cached_input: None, ..prices() };
    assert_eq!(cost(&without, &usage).to_string(), "0.0035");
    assert_eq!(cost(&Prices::default(), &usage), Usd::ZERO);
}

#[test]
fn an_absurd_count_from_an_upstream_stays_within_what_a_row_can_hold() {
    let usage = Usage { input: u64::MAX, cached_input: u64::MAX, output: u64::MAX, ..Usage::default() };
    let top = Prices {
        input: Price::from_pico(Price::MAX_PICO),
        cached_input: None,
        output: Price::from_pico(Price::MAX_PICO),
    };
    assert_eq!(cost(&top, &usage).row_pico(), i64::MAX);
}

#[test]
fn a_failed_batch_comes_again_in_the_same_order() {
    let mut spool = Spool::new(10);
    for n in 0..5 {
        spool.push(row(n));
    }
    let first = spool.lend(3).unwrap();
    assert!(spool.lend(3).is_none(), "one batch at a time");
    spool.take_back();
    let again = spool.lend(3).unwrap();
    assert!(first.iter().zip(&again).all(|(a, b)| a.id == b.id) && again.len() == 3);
    spool.confirm();
    assert_eq!(spool.counts(), Counts { received: 5, recorded: 3, waiting: 2 });
}

proptest! {
    /// Any interleaving of rows, batches, failures and restarts records each row exactly once, in order.
    #[test]
    fn every_row_is_recorded_once(steps in prop::collection::vec(0_u8..5, 1..200)) {
        let mut spool = Spool::new(8);
        let (mut sent, mut done, mut out) = (0_u128, Vec::new(), None);
        for step in steps {
            match step {
                0 | 1 => { spool.push(row(sent)); sent += 1; }
                2 => if out.is_none() { out = spool.lend(3) },
                3 => if let Some(batch) = out.take() { spool.confirm(); done.extend(batch); },
                _ => { if out.take().is_some() { spool.take_back(); } else { spool = spool.resume(); } }
            }
            let counts = spool.counts();
            prop_assert_eq!(counts.received, counts.recorded + counts.waiting);
            prop_assert_eq!(spool.has_room(), counts.waiting < 8);
        }
        while let Some(batch) = out.take().or_else(|| spool.lend(3)) { spool.confirm(); done.extend(batch); }
        let ids: Vec<_> = done.iter().map(|row| row.id.0.as_u128()).collect();
        prop_assert_eq!(ids, (0..sent).collect::<Vec<_>>());
    }
}
