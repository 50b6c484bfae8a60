use super::*;
use crate::registry::Prices;
use crate::units::{Price, Usd};

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
    // Cached input alone is more than a row can hold: the parts are still those of the total.
    assert_eq!(Cost::of(&top, &usage).row_pico(), [0, i64::MAX, 0]);
}

#[test]
fn the_parts_of_a_cost_are_told_apart_and_tokens_without_a_price_are_seen() {
    let usage =
        Usage { input: 1000, cached_input: 400, output: 100, reasoning: 50, source: UsageSource::Upstream };
    let cost = Cost::of(&prices(), &usage);
    let parts = [cost.input, cost.cached_input, cost.output].map(|part| part.to_string());
    assert_eq!(parts, ["0.0015", "0.0005", "0.001"]);
    assert_eq!((cost.total().to_string().as_str(), cost.unpriced), ("0.003", false));
    let unpriced = |prices: Prices, usage: Usage| Cost::of(&prices, &usage).unpriced;
    let (input, output) = (prices().input, prices().output);
    assert!(unpriced(Prices::default(), usage));
    assert!(!unpriced(Prices::default(), Usage::default()), "nothing was used");
    assert!(unpriced(Prices { output: None, ..prices() }, usage));
    assert!(!unpriced(Prices { output: None, ..prices() }, Usage { output: 0, ..usage }), "embeddings");
    assert!(unpriced(Prices { input: None, cached_input: None, output }, usage));
    let all_cached = Usage { cached_input: 1000, ..usage };
    assert!(!unpriced(Prices { input: None, ..prices() }, all_cached));
    assert!(!unpriced(Prices { input, cached_input: None, output }, all_cached));
    let free = Price::parse("0").ok();
    assert!(!unpriced(Prices { input: free, cached_input: None, output: free }, usage), "free is a price");
}
