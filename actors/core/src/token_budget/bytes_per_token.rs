//! How many bytes of text a model's tokenizer puts into one token, learned from what upstreams say.
//!
//! The ratio of two sums that forget: bytes and tokens of the last prompts, long ones weighing more. Whole numbers; both
//! fit into one word, so that threads may share it without a lock.

/// The sums are halved when they pass this many bytes.
const MEMORY: u64 = 1 << 20;
/// What one prompt may add, so that none decides alone.
const MOST_BYTES: u64 = 1 << 18;
/// Shorter ones say more about the template than about the text.
const FEWEST_BYTES: u64 = 64;
/// The ratio before anything is known, as if so many tokens had been seen.
const COLD_BYTES: u64 = 4;
const COLD_TOKENS: u64 = 256;
/// Bounds of the ratio.
const LEAST: u64 = 1;
const MOST: u64 = 32;

/// What is known of one tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BytesPerToken {
    bytes: u64,
    tokens: u64,
}

impl Default for BytesPerToken {
    fn default() -> Self {
        Self { bytes: COLD_BYTES * COLD_TOKENS, tokens: COLD_TOKENS }
    }
}

impl BytesPerToken {
    /// Tokens of so many bytes of text, rounded up.
    pub fn tokens(self, bytes: u64) -> u64 {
        let tokens = u128::from(bytes) * u128::from(self.tokens);
        let tokens = tokens.div_ceil(u128::from(self.bytes.max(1)));
        u64::try_from(tokens).unwrap_or(u64::MAX).clamp(bytes.div_ceil(MOST), bytes / LEAST)
    }

    /// What is known after a prompt of so many bytes that had so many tokens.
    #[must_use]
    pub fn learn(self, bytes: u64, tokens: u64) -> Self {
        if bytes < FEWEST_BYTES || tokens == 0 {
            return self;
        }
        let tokens = tokens.clamp(bytes.div_ceil(MOST), bytes / LEAST);
        let counted = bytes.min(MOST_BYTES);
        let share = u128::from(tokens) * u128::from(counted) / u128::from(bytes);
        let tokens = u64::try_from(share).unwrap_or(MOST_BYTES).max(1);
        let (bytes, tokens) = (self.bytes + counted, self.tokens + tokens);
        if bytes > MEMORY {
            Self { bytes: bytes / 2, tokens: (tokens / 2).max(1) }
        } else {
            Self { bytes, tokens }
        }
    }

    /// Both sums in one word.
    pub const fn packed(self) -> u64 {
        (self.bytes << 32) | self.tokens
    }

    /// The same, unpacked; a zero is what nothing is known of.
    pub fn unpacked(word: u64) -> Self {
        if word == 0 {
            Self::default()
        } else {
            Self { bytes: word >> 32, tokens: word & u64::from(u32::MAX) }
        }
    }
}
