//! Time zones: where days begin, and what a zone is ahead of UTC.

use crate::admin::fields::FieldError;
use chrono::{
    DateTime, Datelike, Days, Duration, NaiveDate, NaiveTime, Offset as _, SecondsFormat, TimeZone, Utc,
};
use chrono_tz::Tz;
use obleth_schema::ledger::{Offset, Span, Steps};

pub(super) const HOUR: i64 = 3_600_000_000;
pub(super) const DAY: i64 = 24 * HOUR;
const MINUTE: i64 = 60_000_000;

/// An IANA time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone(Tz);

impl Zone {
    pub const UTC: Self = Self(Tz::UTC);

    /// Reads `time_zone`; without it UTC.
    pub fn read(text: Option<&str>) -> Result<Self, FieldError> {
        let wrong =
            |_| FieldError::new("time_zone", "must be a name of the IANA database such as Europe/Berlin");
        text.map_or(Ok(Tz::UTC), |text| text.parse().map_err(wrong)).map(Self)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// What it is ahead of UTC at a moment, in microseconds.
    fn ahead(self, at: i64) -> i64 {
        let utc = utc(at).naive_utc();
        i64::from(self.0.offset_from_utc_datetime(&utc).fix().local_minus_utc()) * 1_000_000
    }

    /// The date at a moment.
    pub fn date(self, at: i64) -> NaiveDate {
        utc(at).with_timezone(&self.0).date_naive()
    }

    /// A moment as it is written there.
    pub fn stamp(self, at: i64) -> String {
        utc(at).with_timezone(&self.0).to_rfc3339_opts(SecondsFormat::AutoSi, true)
    }

    /// When a day begins. Not always at midnight: a change of the clock may leave that out.
    pub fn begin(self, date: NaiveDate) -> Option<i64> {
        let quarter = |number: i64| {
            let local = date.and_time(NaiveTime::MIN).checked_add_signed(Duration::minutes(15 * number))?;
            Some(self.0.from_local_datetime(&local).earliest()?.timestamp_micros())
        };
        (0..96).find_map(quarter)
    }

    /// The beginnings of the days in `span`, the one that it begins in included.
    pub fn days(self, span: Span) -> impl Iterator<Item = (NaiveDate, i64)> {
        let first = self.date(span.since);
        (0..).map_while(move |number| {
            let date = first.checked_add_days(Days::new(number))?;
            let begin = self.begin(date)?;
            (begin < span.until).then_some((date, begin))
        })
    }

    /// How its days cut `span`.
    pub fn steps(self, span: Span) -> Steps {
        let offsets = self.offsets(span);
        if offsets.iter().all(|offset| offset.ahead == 0) {
            return Steps::Days;
        }
        let divided = |begin: i64| begin > span.since && begin.rem_euclid(HOUR) != 0;
        let cut = self
            .days(span)
            .filter(|(_, begin)| divided(*begin))
            .map(|(_, begin)| begin - begin.rem_euclid(HOUR));
        Steps::DaysOf { offsets, cut: cut.collect() }
    }

    /// Its offsets within `span`. A change that is taken back within a day is not looked for.
    fn offsets(self, span: Span) -> Vec<Offset> {
        let mut offsets = vec![Offset { since: span.since, ahead: self.ahead(span.since) }];
        let (mut at, mut ahead) = (span.since, self.ahead(span.since));
        while at < span.until {
            let next = at.saturating_add(DAY);
            let then = self.ahead(next);
            if then != ahead {
                offsets.push(Offset { since: self.change(at, next), ahead: then });
            }
            (at, ahead) = (next, then);
        }
        offsets
    }

    /// The minute in which the offset of `before` ends.
    fn change(self, mut before: i64, mut after: i64) -> i64 {
        let old = self.ahead(before);
        after -= after.rem_euclid(MINUTE);
        while after - before > MINUTE {
            let middle = before + (after - before) / 2;
            let middle = middle - middle.rem_euclid(MINUTE);
            if middle <= before {
                break;
            }
            if self.ahead(middle) == old { before = middle } else { after = middle }
        }
        after
    }
}

fn utc(at: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at).unwrap_or_default()
}

/// The date of the day with this number since 1970.
pub(super) fn date_of(day: i64) -> NaiveDate {
    utc(day.saturating_mul(DAY)).date_naive()
}

/// The first days of the month written as `2026-11` and of the next one, which must be a date of four digits, too.
pub(super) fn month(text: &str) -> Option<(NaiveDate, NaiveDate)> {
    let (year, month) = text.split_once('-')?;
    let digits =
        |part: &str, count: usize| part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(year, 4) || !digits(month, 2) {
        return None;
    }
    let first = NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, 1)?;
    let next = first.checked_add_months(chrono::Months::new(1))?;
    (next.year() <= 9999).then_some((first, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> Zone {
        Zone::read(Some(name)).unwrap()
    }

    fn at(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    fn span(since: &str, until: &str) -> Span {
        Span { since: at(since), until: at(until) }
    }

    #[test]
    fn days_have_23_and_25_hours_where_the_clock_changes() {
        let berlin = zone("Europe/Berlin");
        let hours = |date: &str| {
            let date: NaiveDate = date.parse().unwrap();
            (berlin.begin(date.succ_opt().unwrap()).unwrap() - berlin.begin(date).unwrap()) / HOUR
        };
        assert_eq!([hours("2026-03-29"), hours("2026-10-25"), hours("2026-10-26")], [23, 25, 24]);
        let Steps::DaysOf { offsets, cut } =
            berlin.steps(span("2026-01-01T00:00:07Z", "2027-01-01T00:00:00Z"))
        else {
            panic!("it is not UTC");
        };
        let expected = [
            Offset { since: at("2026-01-01T00:00:07Z"), ahead: HOUR },
            Offset { since: at("2026-03-29T01:00:00Z"), ahead: 2 * HOUR },
            Offset { since: at("2026-10-25T01:00:00Z"), ahead: HOUR },
        ];
        assert_eq!((offsets, cut), (expected.to_vec(), vec![]));
    }

    #[test]
    fn a_day_that_has_no_midnight_begins_after_it() {
        // Clocks go from 00:00 to 01:00 there.
        let begin = zone("Africa/Cairo").begin("2026-04-24".parse().unwrap()).unwrap();
        assert_eq!(zone("Africa/Cairo").stamp(begin), "2026-04-24T01:00:00+03:00");
    }

    #[test]
    fn hours_in_which_a_day_begins_are_cut() {
        let cut = |name: &str| match zone(name).steps(span("2026-11-01T00:00:00Z", "2026-11-03T00:00:00Z")) {
            Steps::DaysOf { cut, .. } => cut,
            steps => panic!("{steps:?}"),
        };
        assert_eq!(cut("Asia/Kolkata"), [at("2026-11-01T18:00:00Z"), at("2026-11-02T18:00:00Z")]);
        assert_eq!(cut("Asia/Kathmandu"), [at("2026-11-01T18:00:00Z"), at("2026-11-02T18:00:00Z")]);
        assert_eq!(cut("Asia/Tokyo"), Vec::<i64>::new());
        let utc = Zone::read(None).unwrap();
        assert_eq!(utc.steps(span("2026-11-01T00:00:00Z", "2026-11-03T00:00:00Z")), Steps::Days);
        assert!(Zone::read(Some("Mars/Olympus")).is_err());
    }

    #[test]
    fn a_month_is_written_in_seven_characters() {
        let days = |text| month(text).map(|(first, next)| (first.to_string(), next.to_string()));
        assert_eq!(days("2026-12"), Some(("2026-12-01".to_owned(), "2027-01-01".to_owned())));
        for wrong in ["2026", "2026-13", "2026-00", "2026-1", "26-01", "2026-01-01", "+026-01", ""] {
            assert_eq!(days(wrong), None, "{wrong}");
        }
    }
}
