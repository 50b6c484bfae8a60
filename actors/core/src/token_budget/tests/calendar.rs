//! Days and months against a calendar that counts on its fingers.

use super::*;

const DAY: i64 = 86_400_000_000;

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[test]
fn every_month_of_four_centuries_begins_and_ends_when_it_does() {
    let mut first = 0;
    for year in 1970..2400 {
        for month in 1..=12 {
            let index = year * 12 + month - 1;
            let next = first + days_in(year, month);
            for micros in [first * DAY, first * DAY + 1, next * DAY - 1] {
                assert_eq!(Period::Month.index(micros), index, "{year}-{month}");
            }
            assert_eq!(Period::Month.start(index), Some(first * DAY), "{year}-{month}");
            assert_eq!(Period::Month.end(index), Some(next * DAY), "{year}-{month}");
            first = next;
        }
    }
}

#[test]
fn a_day_ends_at_midnight_and_a_total_never() {
    assert_eq!((Period::Day.index(-1), Period::Day.index(0), Period::Day.index(DAY - 1)), (-1, 0, 0));
    assert_eq!((Period::Day.start(1), Period::Day.end(1)), (Some(DAY), Some(2 * DAY)));
    // 1969-12.
    assert_eq!(Period::Month.index(-1), 1969 * 12 + 11);
    assert_eq!((Period::Total.index(i64::MAX), Period::Total.end(0)), (0, None));
    for absurd in [i64::MIN, i64::MAX] {
        for period in Period::ALL {
            period.end(period.index(absurd));
            period.end(absurd);
        }
    }
}
