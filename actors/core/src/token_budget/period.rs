//! Periods in UTC: which one a point of time is in, and when it ends. Proleptic Gregorian, whole numbers.

use serde::{Deserialize, Serialize};

const MICROS_A_DAY: i64 = 86_400_000_000;

/// The period of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    Day,
    Month,
    Total,
}

impl Period {
    /// All of them, the shortest first.
    pub const ALL: [Self; 3] = [Self::Day, Self::Month, Self::Total];

    /// The word in documents and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
            Self::Total => "total",
        }
    }

    /// The number of the period that this Unix time, in microseconds, is in.
    pub const fn index(self, unix_micros: i64) -> i64 {
        let day = unix_micros.div_euclid(MICROS_A_DAY);
        match self {
            Self::Day => day,
            Self::Month => month_of(day),
            Self::Total => 0,
        }
    }

    /// When the period of this number begins, in Unix microseconds. `None`: it has no beginning, or none that fits.
    pub const fn start(self, index: i64) -> Option<i64> {
        let day = match self {
            Self::Day => index,
            // Beyond, no Unix time in microseconds fits.
            Self::Month if index.unsigned_abs() > 12 * 300_000 => return None,
            Self::Month => first_day(index),
            Self::Total => return None,
        };
        day.checked_mul(MICROS_A_DAY)
    }

    /// When it ends, which is when the next one begins.
    pub const fn end(self, index: i64) -> Option<i64> {
        self.start(index.saturating_add(1))
    }
}

/// Days in 400 years, which is when the calendar repeats, and from March of the year 0 to 1970.
const DAYS_400: i64 = 146_097;
const DAYS_TO_1970: i64 = 719_468;

/// The number of the month, 12 a year from the year 0 on, that a day since 1970 is in. Years are counted from March, so
/// that a leap day is the last day of its year, and the lengths of months follow one line.
const fn month_of(day: i64) -> i64 {
    let day = day + DAYS_TO_1970;
    let era = day.div_euclid(DAYS_400);
    let of_era = day.rem_euclid(DAYS_400);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    // Month 0 is March, the third of the calendar's year.
    (era * 400 + year) * 12 + month + 2
}

/// The first day, since 1970, of the month of this number.
const fn first_day(month: i64) -> i64 {
    let from_march = month - 2;
    let year = from_march.div_euclid(12);
    let month = from_march.rem_euclid(12);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5;
    era * DAYS_400 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - DAYS_TO_1970
}
