//! Spans of time as people write them: `90s`, `30m`, `2h`.
//!
//! One number and one unit; a sum such as `1h30m` is `90m`. Milliseconds are the finest that anything
//! here measures.

use thiserror::Error;

/// The form as a regular expression, for the JSON Schema. [`parse`] also refuses zero and what is too long.
pub const DURATION_PATTERN: &str = "^[0-9]+(ms|s|m|h|d)$";

/// The longest span: past a year it is a mistake in the unit.
const DURATION_MS_MAX: u64 = 366 * 86_400_000;

/// Units from the largest, with their milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Why a text is no span of time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DurationError {
    #[error("expected a span of time such as `90s`, `30m` or `2h`, found `{0}`")]
    Form(String),
    #[error("expected a span of time over zero, found `{0}`")]
    Zero(String),
    #[error("expected a span of time of a year at the most, found `{0}`")]
    Long(String),
}

/// Reads a span of time; the result is in milliseconds, over zero and at most 366 days.
pub fn parse(text: &str) -> Result<u64, DurationError> {
    let form = || DurationError::Form(text.to_owned());
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(form)?;
    if number.is_empty() {
        return Err(form());
    }
    // A number that doesn't fit 64 bits is certainly too long.
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*unit_ms)).unwrap_or(u64::MAX);
    match ms {
        0 => Err(DurationError::Zero(text.to_owned())),
        1..=DURATION_MS_MAX => Ok(ms),
        _ => Err(DurationError::Long(text.to_owned())),
    }
}

/// Writes milliseconds in the largest unit that holds them as a whole number; [`parse`] reads it back.
pub fn format(ms: u64) -> String {
    let (unit, unit_ms) = UNITS.iter().find(|(_, unit_ms)| ms > 0 && ms.is_multiple_of(*unit_ms)).unwrap_or(&("ms", 1));
    format!("{}{unit}", ms / unit_ms)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_five_units_are_read() {
        let cases = [("500ms", 500), ("90s", 90_000), ("30m", 1_800_000), ("2h", 7_200_000), ("1d", 86_400_000)];
        for (text, ms) in cases {
            assert_eq!(parse(text), Ok(ms));
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for text in ["", "90", "s", "1.5h", "-1s", "1h30m", " 1s", "1 s", "1w", "１s"] {
            assert_eq!(parse(text), Err(DurationError::Form(text.to_owned())));
        }
        assert_eq!(parse("0s"), Err(DurationError::Zero("0s".to_owned())));
        for text in ["99999999999999999999s", "367d", "18446744073709551615d"] {
            assert_eq!(parse(text), Err(DurationError::Long(text.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ms in 1..=DURATION_MS_MAX) {
            prop_assert_eq!(parse(&format(ms)), Ok(ms));
        }
    }
}
