//! When a budget's time begins and ends, in UTC.

use gristmill_pools::costs::Period;
use gristmill_protocol::Timestamp;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan};

/// The first millisecond of the period in which `now` lies, and the first one after it; nothing where each run has its
/// own, or where the clock says what is no date.
pub(super) fn around(period: Period, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let now = jiff::Timestamp::from_millisecond(i64::try_from(now.0).ok()?).ok()?;
    let date = now.to_zoned(TimeZone::UTC).date();
    let (first, length): (Date, Span) = match period {
        Period::Day => (date, 1.day()),
        Period::Week => {
            let days = i64::from(date.weekday().since(Weekday::Monday));
            (date.checked_sub(days.days()).ok()?, 1.week())
        }
        Period::Month => (date.first_of_month(), 1.month()),
        Period::Run => return None,
    };
    let at = |date: Date| -> Option<Timestamp> {
        let at = date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond();
        u64::try_from(at).ok().map(Timestamp)
    };
    Some((at(first)?, at(first.checked_add(length).ok()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(period: Period, now: &str) -> Option<(String, String)> {
        let ms = |text: &str| text.parse::<jiff::Timestamp>().expect("a time").as_millisecond() as u64;
        let text = |at: Timestamp| jiff::Timestamp::from_millisecond(at.0 as i64).expect("a time").to_string();
        around(period, Timestamp(ms(now))).map(|(from, until)| (text(from), text(until)))
    }

    #[test]
    fn periods_begin_at_midnight_utc() {
        for (period, now, from, until) in [
            (Period::Day, "2026-11-23T00:00:00Z", "2026-11-23", "2026-11-24"),
            (Period::Day, "2026-11-23T23:59:59.999Z", "2026-11-23", "2026-11-24"),
            (Period::Week, "2026-11-22T23:59:59Z", "2026-11-16", "2026-11-23"),
            (Period::Week, "2026-11-23T00:00:00Z", "2026-11-23", "2026-11-30"),
            (Period::Week, "2027-01-01T12:00:00Z", "2026-12-28", "2027-01-04"),
            (Period::Month, "2028-02-29T12:00:00Z", "2028-02-01", "2028-03-01"),
            (Period::Month, "2026-12-31T23:59:59Z", "2026-12-01", "2027-01-01"),
        ] {
            let expected = (format!("{from}T00:00:00Z"), format!("{until}T00:00:00Z"));
            assert_eq!(told(period, now), Some(expected), "{period:?} {now}");
        }
        assert_eq!(told(Period::Run, "2026-11-23T00:00:00Z"), None);
        assert_eq!(around(Period::Day, Timestamp(u64::MAX)), None);
    }
}
