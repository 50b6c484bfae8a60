//! Decimal text to a scaled integer and back, exactly. The grammar is that of a JSON number (RFC 8259 §6).

use std::fmt;

/// Why a decimal was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Not a JSON number.
    #[error("must be a decimal number")]
    Malformed,
    /// More decimals than are kept.
    #[error("has more decimals than are kept")]
    TooPrecise,
    /// Too large, or below the smallest allowed value.
    #[error("is out of range")]
    OutOfRange,
}

/// Largest magnitude read, in scaled units.
const LIMIT: i128 = 1_000_000_000_000_000_000_000_000;

/// Reads `text` as a number of units of 10^-`decimals`.
pub(super) fn parse_scaled(text: &str, decimals: u32) -> Result<i128, DecimalError> {
    let (mantissa, exponent) = split_exponent(text)?;
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((_, "")) => return Err(DecimalError::Malformed),
        Some(parts) => parts,
        None => (mantissa, ""),
    };
    if !is_whole(whole) || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DecimalError::Malformed);
    }
    let fraction_len = i32::try_from(fraction.len()).map_err(|_| DecimalError::TooPrecise)?;
    let places = i32::try_from(decimals).map_err(|_| DecimalError::OutOfRange)?;
    let shift = exponent
        .checked_add(places)
        .and_then(|sum| sum.checked_sub(fraction_len))
        .ok_or(DecimalError::OutOfRange)?;
    let magnitude = shifted(whole.bytes().chain(fraction.bytes()), shift)?;
    Ok(if negative { -magnitude } else { magnitude })
}

/// A JSON integer part: digits without a leading zero.
fn is_whole(text: &str) -> bool {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits && !text.is_empty() && (text.len() == 1 || !text.starts_with('0'))
}

fn split_exponent(text: &str) -> Result<(&str, i32), DecimalError> {
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else {
        return Ok((text, 0));
    };
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DecimalError::Malformed);
    }
    let exponent = exponent.parse().map_err(|_| DecimalError::OutOfRange)?;
    Ok((mantissa, exponent))
}

/// The digits as a number, times 10^`shift`; digits that a negative shift would drop must be zero.
fn shifted(digits: impl Iterator<Item = u8>, shift: i32) -> Result<i128, DecimalError> {
    let digits: Vec<u8> = digits.map(|byte| byte - b'0').collect();
    let dropped = usize::try_from(-i64::from(shift.min(0))).unwrap_or(usize::MAX);
    let kept = digits.len().saturating_sub(dropped);
    let (head, tail) = digits.split_at(kept);
    if tail.iter().any(|digit| *digit != 0) {
        return Err(DecimalError::TooPrecise);
    }
    let mut value: i128 = 0;
    let zeros = std::iter::repeat_n(&0, usize::try_from(shift.max(0)).unwrap_or(0));
    for digit in head.iter().chain(zeros) {
        value = value * 10 + i128::from(*digit);
        if value > LIMIT {
            return Err(DecimalError::OutOfRange);
        }
        if value == 0 && shift > 64 {
            // `0e999999999` is zero; do not walk a billion zeros to learn it.
            if head.iter().all(|digit| *digit == 0) {
                return Ok(0);
            }
        }
    }
    Ok(value)
}

/// Writes `value` units of 10^-`decimals` as the shortest exact decimal.
pub(super) fn write_scaled(f: &mut fmt::Formatter<'_>, value: i128, decimals: u32) -> fmt::Result {
    let scale = 10_u128.pow(decimals);
    let magnitude = value.unsigned_abs();
    let sign = if value < 0 { "-" } else { "" };
    let (whole, fraction) = (magnitude / scale, magnitude % scale);
    if fraction == 0 {
        return write!(f, "{sign}{whole}");
    }
    let width = usize::try_from(decimals).unwrap_or(0);
    let digits = format!("{fraction:0width$}");
    write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
}
