//! When a schedule ticks: a cron expression in a time zone.
//!
//! Where clocks are changed, times of day can be missing or come twice. As Vixie's cron does it, that depends on
//! whether the expression names times of day or intervals (a `*` or a step in minute or hour):
//!
//! | expression | the time is missing | the time comes twice |
//! |---|---|---|
//! | times of day (`30 2 * * *`) | ticks once, at the first moment after the gap | ticks once, the first time |
//! | intervals (`*/15 * * * *`) | doesn't tick then | ticks each time |
//!
//! So a daily schedule ticks once every day, and one of every quarter of an hour each quarter of an hour.

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use gristmill_protocol::Timestamp;
use gristmill_protocol::limits::CRON_CHARS_MAX;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Zoned};

/// Why it can't be said when a schedule ticks.
#[derive(Debug, thiserror::Error)]
pub enum TicksError {
    #[error(
        "`{}` isn't a cron expression: {why}; write minute, hour, day of month, month and day of week, such as \
         `0 3 * * *`, or one of `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly`",
        start_of(cron)
    )]
    Cron { cron: String, why: CronError },
    #[error("a cron expression has at most {CRON_CHARS_MAX} characters; this one has {chars}")]
    Long { chars: usize },
    #[error("`{0}` isn't a time zone; write its name in the IANA's list, such as `Europe/Berlin` or `UTC`")]
    Zone(String),
    #[error("`{cron}` never ticks: there is no such day in the next ten years")]
    Never { cron: String },
}

/// As much of a text as an error shows.
fn start_of(text: &str) -> &str {
    &text[..text.floor_char_boundary(80)]
}

/// When a schedule ticks.
#[derive(Debug, Clone)]
pub struct Ticks {
    cron: Cron,
    zone: TimeZone,
}

impl Ticks {
    /// The ticks of a cron expression in a time zone.
    ///
    /// # Errors
    /// When one of them isn't what it should be.
    pub fn new(cron: &str, timezone: &str) -> Result<Ticks, TicksError> {
        let chars = cron.chars().count();
        if chars > CRON_CHARS_MAX {
            return Err(TicksError::Long { chars });
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let parsed = parser.parse(cron).map_err(|why| TicksError::Cron { cron: cron.to_owned(), why })?;
        let zone = TimeZone::get(timezone).map_err(|_| TicksError::Zone(start_of(timezone).to_owned()))?;
        Ok(Ticks { cron: parsed, zone })
    }

    /// The first tick after a time; nothing when it never ticks again.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        let found = self.cron.find_next_occurrence(&self.zoned(time)?, false).ok()?;
        timestamp(&found)
    }

    /// The last tick up to a time; nothing when there was none.
    pub fn until(&self, time: Timestamp) -> Option<Timestamp> {
        let found = self.cron.find_previous_occurrence(&self.zoned(time)?, true).ok()?;
        timestamp(&found)
    }

    /// A time in the zone, in whole seconds as the ticks are.
    fn zoned(&self, time: Timestamp) -> Option<Zoned> {
        let seconds = SignedDuration::from_secs(i64::try_from(time.0 / 1_000).ok()?);
        Some(jiff::Timestamp::from_duration(seconds).ok()?.to_zoned(self.zone.clone()))
    }
}

fn timestamp(time: &Zoned) -> Option<Timestamp> {
    u64::try_from(time.timestamp().as_millisecond()).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn at(text: &str) -> Timestamp {
        timestamp(&text.parse().expect("a time")).expect("after 1970")
    }

    /// The ticks in a time, in the zone's own words.
    fn check(cron: &str, from: &str, until: &str, expected: Expect) {
        let from: Zoned = from.parse().expect("a time");
        let zone = from.time_zone().iana_name().expect("a name").to_owned();
        let ticks = Ticks::new(cron, &zone).expect("it is right");
        let until = at(until);
        let (mut told, mut time) = (String::new(), timestamp(&from).expect("after 1970"));
        while let Some(tick) = ticks.after(time).filter(|tick| *tick <= until) {
            told += &format!("{}\n", ticks.zoned(tick).expect("a time").strftime("%a %d %b %H:%M %z"));
            time = tick;
        }
        expected.assert_eq(&told);
    }

    #[test]
    fn a_daily_tick_in_a_gap_comes_after_it_and_in_an_overlap_once() {
        // In Berlin it was 3:00 after 1:59 on March 29, 2026, and 2:00 after 2:59 on October 25.
        check(
            "30 2 * * *",
            "2026-03-28T00:00[Europe/Berlin]",
            "2026-03-31T00:00[Europe/Berlin]",
            expect![[r#"
                Sat 28 Mar 02:30 +0100
                Sun 29 Mar 03:00 +0200
                Mon 30 Mar 02:30 +0200
            "#]],
        );
        check(
            "30 2 * * *",
            "2026-10-24T00:00[Europe/Berlin]",
            "2026-10-27T00:00[Europe/Berlin]",
            expect![[r#"
                Sat 24 Oct 02:30 +0200
                Sun 25 Oct 02:30 +0200
                Mon 26 Oct 02:30 +0100
            "#]],
        );
    }

    #[test]
    fn an_interval_goes_on_through_a_gap_and_an_overlap() {
        check(
            "*/30 * * * *",
            "2026-03-29T01:00[Europe/Berlin]",
            "2026-03-29T04:00[Europe/Berlin]",
            expect![[r#"
                Sun 29 Mar 01:30 +0100
                Sun 29 Mar 03:00 +0200
                Sun 29 Mar 03:30 +0200
                Sun 29 Mar 04:00 +0200
            "#]],
        );
        check(
            "*/30 * * * *",
            "2026-10-25T01:30[Europe/Berlin]",
            "2026-10-25T03:00[Europe/Berlin]",
            expect![[r#"
                Sun 25 Oct 02:00 +0200
                Sun 25 Oct 02:30 +0200
                Sun 25 Oct 02:00 +0100
                Sun 25 Oct 02:30 +0100
                Sun 25 Oct 03:00 +0100
            "#]],
        );
    }

    #[test]
    fn days_and_names_are_understood() {
        check(
            "0 9 * * MON-FRI",
            "2026-11-20T10:00[America/New_York]",
            "2026-11-25T00:00[America/New_York]",
            expect![[r#"
                Mon 23 Nov 09:00 -0500
                Tue 24 Nov 09:00 -0500
            "#]],
        );
        check(
            "@monthly",
            "2026-11-20T10:00[Asia/Kathmandu]",
            "2027-01-02T00:00[Asia/Kathmandu]",
            expect![[r#"
                Tue 01 Dec 00:00 +0545
                Fri 01 Jan 00:00 +0545
            "#]],
        );
    }

    /// What passed is found from its end, what comes from its start: both must be the same ticks.
    #[test]
    fn the_ticks_are_the_same_backwards_and_forwards() {
        let crons = [
            "30 2 * * *",
            "0 * * * *",
            "*/17 1-3 * * *",
            "15,45 2 25 10 *",
            "0 0 * * SUN",
            "59 1 * 3,10 *",
            "0 3 L * *",
        ];
        for zone in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "UTC"] {
            for cron in crons {
                let ticks = Ticks::new(cron, zone).expect("it is right");
                for around in
                    ["2026-03-08", "2026-03-29", "2026-04-05", "2026-09-06", "2026-10-04", "2026-10-25", "2026-11-01"]
                {
                    let (start, end) = (
                        at(&format!("{around}T00:00[{zone}]")).0 - 86_400_000,
                        at(&format!("{around}T00:00[{zone}]")).0 + 2 * 86_400_000,
                    );
                    let mut forwards = Vec::new();
                    let mut time = Timestamp(start);
                    while let Some(tick) = ticks.after(time).filter(|tick| tick.0 <= end) {
                        assert!(tick > time, "`{cron}` in {zone}");
                        forwards.push(tick);
                        time = tick;
                    }
                    let mut backwards = Vec::new();
                    let mut time = Timestamp(end);
                    while let Some(tick) = ticks.until(time).filter(|tick| tick.0 > start) {
                        backwards.push(tick);
                        time = Timestamp(tick.0 - 1);
                    }
                    backwards.reverse();
                    assert_eq!(forwards, backwards, "`{cron}` in {zone} around {around}");
                }
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_write() {
        for (cron, zone, expected) in [
            ("0 3 * *", "UTC", "isn't a cron expression"),
            ("0 0 3 * * *", "UTC", "5 fields"),
            ("61 * * * *", "UTC", "isn't a cron expression"),
            ("@often", "UTC", "`@hourly`"),
            ("", "UTC", "isn't a cron expression"),
            ("@daily", "Europe/Atlantis", "isn't a time zone"),
            (&"1,".repeat(1_000), "UTC", "at most 255"),
        ] {
            let error = Ticks::new(cron, zone).expect_err(cron).to_string();
            assert!(error.contains(expected), "{error}");
        }
        let never = Ticks::new("0 0 30 2 *", "UTC").expect("it is read");
        assert_eq!(never.after(Timestamp(0)), None);
    }
}
