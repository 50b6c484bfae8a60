//! Numbers of JSON by value: `1`, `1.0` and `1e0` are the same, and so is a number of a thousand digits however
//! it is written. Never through a float.

/// Digits of an exponent that is computed with; a longer one stands for itself as it was written.
const EXPONENT: usize = 17;

/// Writes the number at the beginning of `text` and returns how many bytes it has.
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let negative = text.first() == Some(&b'-');
    let mut at = usize::from(negative);
    let whole = digits(text, at);
    at += whole.len();
    let mut fraction: &[u8] = &[];
    if text.get(at) == Some(&b'.') {
        fraction = digits(text, at + 1);
        at += 1 + fraction.len();
        if fraction.is_empty() {
            return None;
        }
    }
    let mut exponent: i64 = 0;
    if let Some(b'e' | b'E') = text.get(at) {
        let sign = text.get(at + 1).filter(|byte| matches!(byte, b'+' | b'-'));
        let power = digits(text, at + 1 + usize::from(sign.is_some()));
        at += 1 + usize::from(sign.is_some()) + power.len();
        let significant = trim_start(power);
        if power.is_empty() {
            return None;
        }
        if significant.len() > EXPONENT {
            return literal(text.get(..at)?, out);
        }
        exponent = significant.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        if sign == Some(&b'-') {
            exponent = -exponent;
        }
    }
    if whole.is_empty() {
        return None;
    }
    write(negative, whole, fraction, exponent, out)?;
    Some(at)
}

fn digits(text: &[u8], from: usize) -> &[u8] {
    let rest = text.get(from..).unwrap_or_default();
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    rest.get(..count).unwrap_or_default()
}

fn trim_start(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    digits.get(zeros..).unwrap_or_default()
}

/// Digits without leading or trailing zeros, and the power of ten of the last one. Zero has no sign.
fn write(negative: bool, whole: &[u8], fraction: &[u8], exponent: i64, out: &mut Vec<u8>) -> Option<()> {
    let all = [whole, fraction].concat();
    let digits = trim_start(&all);
    let zeros = digits.iter().rev().take_while(|digit| **digit == b'0').count();
    let digits = digits.get(..digits.len() - zeros)?;
    let power =
        exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(i64::try_from(zeros).ok()?)?;
    let (negative, power) = if digits.is_empty() { (false, 0) } else { (negative, power) };
    out.push(if negative { b'-' } else { b'+' });
    out.extend_from_slice(&power.to_le_bytes());
    out.extend_from_slice(&u64::try_from(digits.len()).ok()?.to_le_bytes());
    out.extend_from_slice(digits);
    Some(())
}

fn literal(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    out.push(b'l');
    out.extend_from_slice(&u64::try_from(text.len()).ok()?.to_le_bytes());
    out.extend_from_slice(text);
    Some(text.len())
}
