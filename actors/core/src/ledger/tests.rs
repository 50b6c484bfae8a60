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
}
