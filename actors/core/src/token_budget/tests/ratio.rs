//! Bytes per token.

use super::*;

#[test]
fn it_begins_with_four_and_learns_what_the_upstream_says() {
    let cold = BytesPerToken::default();
    assert_eq!((cold.tokens(0), cold.tokens(1), cold.tokens(4), cold.tokens(4_001)), (0, 1, 1, 1_001));
    for (bytes, tokens) in [(3_000, 1_500), (3_000, 400), (900, 900)] {
        let learned = (0..400).fold(cold, |ratio, _| ratio.learn(bytes, tokens));
        assert!(learned.tokens(bytes).abs_diff(tokens) <= tokens / 100 + 1, "{bytes} {tokens} {learned:?}");
        // Then another tokenizer: it is learned within some megabytes.
        let other = (0..4_000).fold(learned, |ratio, _| ratio.learn(2_000, 500));
        assert!(other.tokens(2_000).abs_diff(500) <= 5, "{other:?}");
    }
}

#[test]
fn it_stays_between_one_and_thirty_two_bytes_whatever_it_is_told() {
    let mut dice = Dice(7);
    let mut ratio = BytesPerToken::default();
    for _ in 0..50_000 {
        let bytes = dice.next() >> dice.below(64);
        let tokens = dice.next() >> dice.below(64);
        ratio = ratio.learn(bytes, tokens);
        assert_eq!(BytesPerToken::unpacked(ratio.packed()), ratio);
        let asked = dice.next() >> dice.below(64);
        assert!((asked.div_ceil(32)..=asked).contains(&ratio.tokens(asked)), "{ratio:?} {asked}");
    }
    let few = (0..1_000).fold(BytesPerToken::default(), |ratio, _| ratio.learn(100_000, 1));
    assert_eq!(few.tokens(32_000), 1_000);
    assert_eq!(BytesPerToken::default().learn(10, 9), BytesPerToken::default(), "a template, not a text");
    assert_eq!(BytesPerToken::unpacked(0), BytesPerToken::default());
}
