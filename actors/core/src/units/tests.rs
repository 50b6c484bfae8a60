use super::*;
use proptest::prelude::*;

#[test]
fn a_price_is_read_exactly_from_its_text() {
    for (text, pico) in [
        ("0.0000005", 500_000),
        ("5e-7", 500_000),
        ("5E-07", 500_000),
        ("0.000000000001", 1),
        ("1", 1_000_000_000_000),
        ("1e0", 1_000_000_000_000),
        ("0", 0),
        ("0e999999999", 0),
        ("0.10000000000000000", 100_000_000_000),
        ("-0", 0),
    ] {
        assert_eq!(Price::parse(text), Ok(Price(pico)), "{text}");
    }
}

#[test]
fn a_price_that_cannot_be_kept_is_refused() {
    for (text, why) in [
        ("0.0000000000001", DecimalError::TooPrecise),
        ("1e-13", DecimalError::TooPrecise),
        ("-1", DecimalError::OutOfRange),
        ("1000.000000000001", DecimalError::OutOfRange),
        ("1e999999999", DecimalError::OutOfRange),
        ("1e99999999999", DecimalError::OutOfRange),
        ("", DecimalError::Malformed),
        (".5", DecimalError::Malformed),
        ("5.", DecimalError::Malformed),
        ("01", DecimalError::Malformed),
        ("+1", DecimalError::Malformed),
        ("1e", DecimalError::Malformed),
        ("NaN", DecimalError::Malformed),
        ("1 ", DecimalError::Malformed),
    ] {
        assert_eq!(Price::parse(text), Err(why), "{text}");
    }
}

#[test]
fn a_cost_factor_has_two_decimals() {
    assert_eq!(CostFactor::parse("0.01"), CostFactor::from_hundredths(1).ok_or(DecimalError::OutOfRange));
    assert_eq!(CostFactor::parse("100").map(CostFactor::hundredths), Ok(10_000));
    assert_eq!(CostFactor::parse("0.015"), Err(DecimalError::TooPrecise));
    assert_eq!(CostFactor::parse("0"), Err(DecimalError::OutOfRange));
    assert_eq!(CostFactor::parse("100.01"), Err(DecimalError::OutOfRange));
    assert_eq!(CostFactor::ONE.to_string(), "1");
}

#[test]
fn a_portion_is_cut_to_billionths_and_never_more_than_the_whole() {
    for (part, whole, text) in [
        (1, 3, "0.333333333"),
        (2, 4, "0.5"),
        (7, 7, "1"),
        (9, 7, "1"),
        (0, 7, "0"),
        (0, 0, "0"),
        (5, 0, "0"),
        (1, 3_000_000_000, "0"),
        (u128::MAX / 4, u128::MAX, "0.25"),
    ] {
        let portion = Portion::of(part, whole).to_string();
        assert!(portion == text || (text == "0.25" && portion == "0.249999999"), "{part}/{whole}: {portion}");
    }
}

#[test]
fn an_effective_weight_is_the_product_exactly() {
    let factor = |text| CostFactor::parse(text).unwrap_or(CostFactor::ONE);
    for (weight, text, product) in
        [(100, "1", "100"), (3, "0.01", "0.03"), (7, "2.25", "15.75"), (1_000_000, "100", "100000000")]
    {
        let weight = Share::new(weight).unwrap_or(Share::DEFAULT);
        assert_eq!(factor(text).effective_weight(weight).to_string(), product);
    }
}

proptest! {
    #[test]
    fn money_written_and_read_is_the_same(pico in -1_000_000_000_000_000_000_000_i128..1_000_000_000_000_000_000_000) {
        let text = Usd::from_pico(pico).to_string();
        prop_assert_eq!(Usd::parse(&text), Ok(Usd::from_pico(pico)));
    }
}
