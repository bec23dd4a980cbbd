//! Times and counts as people read them, wherever a sentence is made of them.

/// A time span: `870 µs`, `12 ms`, `1.2 s`, `3 min 4 s`, `2 h 5 min`, `1 d 3 h`.
pub fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() || seconds <= 0.0 {
        return "0 s".to_owned();
    }
    // Each unit ends where its last printed digit would round up to the next one.
    if seconds < 0.000_999_5 {
        return format!("{:.0} µs", seconds * 1e6);
    }
    if seconds < 0.999_5 {
        return format!("{:.0} ms", seconds * 1e3);
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..3_600 => format!("{} min {} s", whole / 60, whole % 60),
        3_600..86_400 => format!("{} h {} min", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

/// A count with separators between thousands: `336,776`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and what is counted, in the plural where it isn't one: `1 row`, `12 rows`.
pub fn counted(number: u64, noun: &str) -> String {
    let plural = match (number, noun.strip_suffix('y')) {
        (1, _) => noun.to_owned(),
        (_, Some(stem)) => format!("{stem}ies"),
        (_, None) => format!("{noun}s"),
    };
    format!("{} {plural}", count(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_in_the_unit_that_fits() {
        let spans = [0.0, 0.000_02, 0.012, 0.999_7, 1.24, 59.96, 184.0, 3_599.7, 7_500.0, 97_200.0, f64::NAN];
        let read: Vec<String> = spans.into_iter().map(seconds).collect();
        let expected = [
            "0 s",
            "20 µs",
            "12 ms",
            "1.0 s",
            "1.2 s",
            "1 min 0 s",
            "3 min 4 s",
            "1 h 0 min",
            "2 h 5 min",
            "1 d 3 h",
            "0 s",
        ];
        assert_eq!(read, expected);
    }
}
