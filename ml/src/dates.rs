//! Days and instants as text: `2013-01-31` and `2013-01-31T10:00:00Z`.
//!
//! The proleptic Gregorian calendar, years 0000 to 9999. Days count from 1970-01-01, instants are
//! microseconds since then, UTC. Written here because reading a column of instants must cost tens of
//! nanoseconds a row, and because these two forms are all that tables know.

const DAY_MICROS: i64 = 86_400_000_000;

/// The day number of a date. Formula: H. Hinnant, "chrono-compatible low-level date algorithms", `days_from_civil`.
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The date of a day number: the inverse of [`days_from_civil`].
pub(crate) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[inline]
fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
}

/// The day number of `2013-01-31`; `None` for anything else, and for days that no calendar has.
#[inline]
pub fn parse_date(text: &[u8]) -> Option<i32> {
    if text.len() != 10 || text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let (year, month, day) = (digits(&text[..4])?, digits(&text[5..7])?, digits(&text[8..])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if day < 1 || day > length {
        return None;
    }
    i32::try_from(days_from_civil(year, month, day)).ok()
}

/// The microseconds of `2013-01-31T10:00:00Z` (RFC 3339). Also taken: a space for the `T`, no seconds, up to nine
/// digits of a fraction (cut to microseconds), an offset such as `+02:00`, no zone at all (UTC), and a day
/// alone (its midnight, UTC).
#[inline]
pub fn parse_timestamp(text: &[u8]) -> Option<i64> {
    let day = i64::from(parse_date(text.get(..10)?)?) * DAY_MICROS;
    let rest = &text[10..];
    if rest.is_empty() {
        return Some(day);
    }
    if rest.len() < 6 || !matches!(rest[0], b'T' | b't' | b' ') || rest[3] != b':' {
        return None;
    }
    let (hour, minute) = (digits(&rest[1..3])?, digits(&rest[4..6])?);
    let (second, rest) = match rest.get(6) {
        Some(b':') => (digits(rest.get(7..9)?)?, &rest[9..]),
        _ => (0, &rest[6..]),
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (micros, zone) = match rest.first() {
        Some(b'.') => {
            let length = rest[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            if length == 0 || length > 9 {
                return None;
            }
            let kept = length.min(6);
            (digits(&rest[1..1 + kept])? * 10_i64.pow(6 - kept as u32), &rest[1 + length..])
        }
        _ => (0, rest),
    };
    let offset_minutes = match zone {
        [] | [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), hours @ ..] => {
            let (hours, minutes) = match hours.len() {
                2 => (digits(hours)?, 0),
                4 => (digits(&hours[..2])?, digits(&hours[2..])?),
                5 if hours[2] == b':' => (digits(&hours[..2])?, digits(&hours[3..])?),
                _ => return None,
            };
            if hours > 23 || minutes > 59 {
                return None;
            }
            if *sign == b'-' { -(hours * 60 + minutes) } else { hours * 60 + minutes }
        }
        _ => return None,
    };
    Some(day + ((hour * 60 + minute - offset_minutes) * 60 + second) * 1_000_000 + micros)
}

/// The day as `2013-01-31`.
pub fn format_date(days: i32) -> String {
    let (year, month, day) = civil_from_days(i64::from(days));
    format!("{year:04}-{month:02}-{day:02}")
}

/// The instant as `2013-01-31T10:00:00Z`, with as many digits of a fraction as it needs.
pub fn format_timestamp(micros: i64) -> String {
    let (year, month, day) = civil_from_days(micros.div_euclid(DAY_MICROS));
    let of_day = micros.rem_euclid(DAY_MICROS);
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let fraction = match fraction {
        0 => String::new(),
        _ => format!(".{fraction:06}").trim_end_matches('0').to_owned(),
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_forms_of_an_instant_are_read() {
        let instant = parse_timestamp(b"2013-01-01T10:00:00Z").unwrap();
        assert_eq!(instant, 1_357_034_400_000_000);
        for text in
            ["2013-01-01 10:00", "2013-01-01T12:00:00+02:00", "2013-01-01t04:30:00.000-0530", "2013-01-01T10:00z"]
        {
            assert_eq!(parse_timestamp(text.as_bytes()), Some(instant), "{text}");
        }
        assert_eq!(parse_timestamp(b"2013-01-01T10:00:00.1234567Z"), Some(instant + 123_456));
        assert_eq!(parse_timestamp(b"2013-01-01"), Some(instant - 36_000_000_000));
    }

    #[test]
    fn what_only_looks_like_one_is_not() {
        for text in ["2013-13-01", "2013-02-29", "2013-1-1", "13-01-01", "2013/01/01", "2013-00-10", "2013-01-00", ""] {
            assert_eq!(parse_date(text.as_bytes()), None, "{text}");
        }
        for text in
            ["2013-01-01T", "2013-01-01T24:00:00Z", "2013-01-01T10:00:00.Z", "2013-01-01T10:00:00+2", "10:00:00"]
        {
            assert_eq!(parse_timestamp(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn reading_undoes_writing(days in -719_528..2_932_896_i32, micros in -62_167_219_200_000_000..253_402_300_799_999_999_i64) {
            prop_assert_eq!(parse_date(format_date(days).as_bytes()), Some(days));
            prop_assert_eq!(parse_timestamp(format_timestamp(micros).as_bytes()), Some(micros));
        }
    }
}
