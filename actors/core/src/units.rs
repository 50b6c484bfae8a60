//! Units: money in pico-dollars, weights, cost factors. Integers and decimals from text; never a float.

use serde::{Deserialize, Serialize};
use std::fmt;

mod decimal;

pub use decimal::DecimalError;

/// Decimals of a dollar that are kept: a pico-dollar is 10⁻¹² USD.
pub const USD_DECIMALS: u32 = 12;

/// A price of one token in pico-dollars, 0 ..= 1000 USD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(i64);

impl Price {
    /// The highest price accepted: 1000 USD a token. Keeps every product below within 128 bits.
    pub const MAX_PICO: i64 = 1_000_000_000_000_000;

    /// A price from pico-dollars; `None` outside 0 ..= [`Self::MAX_PICO`].
    pub fn from_pico(pico: i64) -> Option<Self> {
        (0..=Self::MAX_PICO).contains(&pico).then_some(Self(pico))
    }

    /// Pico-dollars a token.
    pub const fn pico(self) -> i64 {
        self.0
    }

    /// Reads a decimal number as written in JSON (`0.0000005`, `5e-7`, `1`), at most 12 decimals.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        let pico = decimal::parse_scaled(text, USD_DECIMALS)?;
        i64::try_from(pico).ok().and_then(Self::from_pico).ok_or(DecimalError::OutOfRange)
    }

    /// What `tokens` cost.
    pub fn times(self, tokens: u64) -> Usd {
        Usd(i128::from(self.0) * i128::from(tokens))
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Usd(i128::from(self.0)).fmt(f)
    }
}

/// An amount of money in pico-dollars. Sums of rows are 128 bits wide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(i128);

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// An amount from pico-dollars.
    pub const fn from_pico(pico: i128) -> Self {
        Self(pico)
    }

    /// Pico-dollars.
    pub const fn pico(self) -> i128 {
        self.0
    }

    /// Pico-dollars as one row stores them; saturates at 9.2 million USD, beyond what one request can cost.
    pub fn row_pico(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// Reads a decimal number as written in JSON, at most 12 decimals, up to 10²⁴ pico-dollars.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        decimal::parse_scaled(text, USD_DECIMALS).map(Self)
    }
}

impl std::ops::Add for Usd {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Usd {
    /// The shortest exact decimal: `0.0000005`, `12`, `0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        decimal::write_scaled(f, self.0, USD_DECIMALS)
    }
}

/// A weight of a tenant or a group: more is more service. 1 ..= 1 000 000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Share(u32);

impl Share {
    /// The weight of a tenant or group that names none.
    pub const DEFAULT: Self = Self(100);
    /// The largest weight.
    pub const MAX: u32 = 1_000_000;

    /// A weight; `None` outside 1 ..= 1 000 000.
    pub fn new(weight: u32) -> Option<Self> {
        (1..=Self::MAX).contains(&weight).then_some(Self(weight))
    }

    /// The weight as a number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Share {
    type Error = &'static str;
    fn try_from(weight: u32) -> Result<Self, Self::Error> {
        Self::new(weight).ok_or("must be a whole number from 1 to 1000000")
    }
}

impl From<Share> for u32 {
    fn from(share: Share) -> Self {
        share.0
    }
}

/// `admission_weight` of a model in hundredths: more is dearer. 0.01 ..= 100, at most two decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CostFactor(u32);

impl CostFactor {
    /// Factor 1.
    pub const ONE: Self = Self(100);

    /// A factor from hundredths; `None` outside 1 ..= 10 000.
    pub fn from_hundredths(hundredths: u32) -> Option<Self> {
        (1..=10_000).contains(&hundredths).then_some(Self(hundredths))
    }

    /// The factor in hundredths.
    pub const fn hundredths(self) -> u32 {
        self.0
    }

    /// Reads a decimal number as written in JSON, at most 2 decimals.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        let hundredths = decimal::parse_scaled(text, 2)?;
        u32::try_from(hundredths).ok().and_then(Self::from_hundredths).ok_or(DecimalError::OutOfRange)
    }
}

impl CostFactor {
    /// `weight × factor`, as it is reported; never a divisor (fairness specification §1).
    pub fn effective_weight(self, weight: Share) -> Decimal<2> {
        Decimal(i128::from(weight.get()) * i128::from(self.0))
    }
}

/// A number in units of 10^-`DECIMALS`, for views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal<const DECIMALS: u32>(pub i128);

impl<const DECIMALS: u32> fmt::Display for Decimal<DECIMALS> {
    /// The shortest exact decimal: `100`, `2.25`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        decimal::write_scaled(f, self.0, DECIMALS)
    }
}

/// A part of a whole, 0 ..= 1, in billionths rounded down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Portion(u32);

impl Portion {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// The whole.
    pub const WHOLE: Self = Self(1_000_000_000);

    /// `part` of `whole`; nothing of a whole that is zero, and never more than the whole.
    pub fn of(part: u128, whole: u128) -> Self {
        // Of numbers that are too long for the product only the leading digits count.
        let spare = 31_u32.saturating_sub(whole.leading_zeros());
        let (part, whole) = (part >> spare, whole >> spare);
        let billionths = part.min(whole).saturating_mul(1_000_000_000).checked_div(whole).unwrap_or(0);
        Self(u32::try_from(billionths).unwrap_or(Self::WHOLE.0))
    }

    /// The part in billionths.
    pub const fn billionths(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Portion {
    /// The shortest exact decimal: `0.333333333`, `0.5`, `1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        decimal::write_scaled(f, i128::from(self.0), 9)
    }
}

impl fmt::Display for CostFactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        decimal::write_scaled(f, i128::from(self.0), 2)
    }
}

#[cfg(test)]
mod tests;
