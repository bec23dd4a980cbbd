//! Numbers and names as people read them.

/// A number with the digits that matter: `0.9114`, `12.35`, `9,120`; a dash for none.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e15).contains(&size) {
        return format!("{value:.2e}");
    }
    let digits = match size {
        _ if value.fract() == 0.0 => 0,
        size if size < 1.0 => 4,
        size if size < 10.0 => 3,
        size if size < 100.0 => 2,
        size if size < 1_000.0 => 1,
        _ => 0,
    };
    let text = format!("{size:.digits$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let fraction = fraction.trim_end_matches('0');
    let sign = if value < 0.0 { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{}{point}{fraction}", grouped(whole))
}

/// A value with its unit: `9,120/s`, `12.35 ms`, `64.0 MiB`.
pub fn with_unit(value: f64, unit: &str) -> String {
    match unit {
        "" => number(value),
        "bytes" => bytes(value),
        "1/s" => format!("{}/s", number(value)),
        "%" => format!("{} %", number(value)),
        _ => format!("{} {unit}", number(value)),
    }
}

/// A size in bytes.
pub fn bytes(value: f64) -> String {
    let (mut value, mut unit) = (value, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value.abs() < 1_024.0 {
            break;
        }
        (value, unit) = (value / 1_024.0, next);
    }
    if unit == "B" { format!("{} B", number(value)) } else { format!("{value:.1} {unit}") }
}

/// A name for people: `tasks_per_second` as `tasks per second`.
pub fn spoken(name: &str) -> String {
    name.replace('_', " ")
}

/// A count of whole seconds as `7 s`, `2:05 min`, `1:02:05 h`.
pub fn clock(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3_600 => format!("{}:{:02} min", whole / 60, whole % 60),
        _ => format!("{}:{:02}:{:02} h", whole / 3_600, whole / 60 % 60, whole % 60),
    }
}

/// Milliseconds since the epoch as a date and a time of UTC. Days to a date: Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`.
pub fn date(ms: u64) -> String {
    let (days, second) = ((ms / 86_400_000) as i64, ms / 1_000 % 86_400);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", second / 3_600, second / 60 % 60)
}

fn grouped(digits: &str) -> String {
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_matter() {
        let told: Vec<String> = [0.0, 0.9114, -12.346, 9120.4, 1e6, 1e-7, f64::NAN].map(number).to_vec();
        assert_eq!(told, ["0", "0.9114", "-12.35", "9,120", "1,000,000", "1.00e-7", "–"]);
        assert_eq!((bytes(512.0), bytes(67_108_864.0)), ("512 B".to_owned(), "64.0 MiB".to_owned()));
        assert_eq!((clock(7.9), clock(125.0), clock(3_725.0)), ("7 s".into(), "2:05 min".into(), "1:02:05 h".into()));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400_000), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_795_392_000_000), "2026-11-23 00:00 UTC");
    }
}
