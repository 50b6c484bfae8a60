//! The text of an answer: token `k` is always the same word.

const WORDS: [&str; 16] = [
    " a", " fair", " queue", " serves", " every", " tenant", " in", " turn", " and", " counts", " each",
    " token", " exactly", " once", " per", " request",
];

/// The text of token `k`; the first one of an answer has no leading space.
pub(super) fn word(k: u32) -> &'static str {
    if k == 0 {
        return "A";
    }
    usize::try_from(k).ok().and_then(|k| WORDS.get(k % WORDS.len())).copied().unwrap_or(" a")
}

/// An answer of `tokens` words. The words need no escaping in JSON.
pub(super) fn text(tokens: u32) -> String {
    (0..tokens).map(word).collect()
}
