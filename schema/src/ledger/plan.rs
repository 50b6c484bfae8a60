//! Where a sum over a span of time is read from: whole days and hours from the roll-ups, what is left at the edges
//! from the rows themselves, so that any span is summed exactly.

use super::rollup::{DAY, HOUR};

/// A span of arrivals, Unix microseconds: from `since` on, before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub since: i64,
    pub until: i64,
}

impl Span {
    const fn is_empty(self) -> bool {
        self.since >= self.until
    }

    fn within(self, other: Self) -> Self {
        Self { since: self.since.max(other.since), until: self.until.min(other.until) }
    }
}

/// What a time zone is ahead of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// Since this moment, Unix microseconds.
    pub since: i64,
    /// Microseconds; negative in the west.
    pub ahead: i64,
}

/// How time is cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Steps {
    /// Not at all.
    #[default]
    Whole,
    /// By hours of UTC.
    Hours,
    /// By days of UTC.
    Days,
    /// By days of a time zone.
    DaysOf {
        /// The zone's offsets within the span, oldest first. The first one holds before, too.
        offsets: Vec<Offset>,
        /// Beginnings of the hours of UTC in which a day begins, but not with the hour itself. An hour's roll-up
        /// cannot be divided among two days: these hours are read from the rows.
        cut: Vec<i64>,
    },
}

/// The pieces of a span: no moment is in two of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub rows: Vec<Span>,
    pub hourly: Vec<Span>,
    pub daily: Option<Span>,
}

const fn floor(at: i64, unit: i64) -> i64 {
    at - at.rem_euclid(unit)
}

const fn ceil(at: i64, unit: i64) -> i64 {
    let floor = floor(at, unit);
    if floor == at { at } else { floor.saturating_add(unit) }
}

impl Plan {
    /// The pieces of `span`.
    pub fn of(span: Span, steps: &Steps) -> Self {
        if span.is_empty() {
            return Self::default();
        }
        let whole = Span { since: ceil(span.since, HOUR), until: floor(span.until, HOUR) };
        let mut divided: Vec<i64> = [span.since, span.until]
            .into_iter()
            .filter(|at| at.rem_euclid(HOUR) != 0)
            .map(|at| floor(at, HOUR))
            .collect();
        if let Steps::DaysOf { cut, .. } = steps {
            divided.extend(cut);
        }
        divided.sort_unstable();
        divided.dedup();
        let (hourly, daily) = match steps {
            Steps::Whole | Steps::Days => hours_and_days(whole),
            Steps::Hours => (vec![whole], None),
            Steps::DaysOf { .. } => (without(whole, &divided), None),
        };
        let row = |hour: i64| Span { since: hour, until: hour.saturating_add(HOUR) }.within(span);
        Self {
            rows: divided.into_iter().map(row).filter(|piece| !piece.is_empty()).collect(),
            hourly: hourly.into_iter().filter(|piece| !piece.is_empty()).collect(),
            daily,
        }
    }
}

/// Whole days, and the hours before and behind them.
fn hours_and_days(whole: Span) -> (Vec<Span>, Option<Span>) {
    let days = Span { since: ceil(whole.since, DAY), until: floor(whole.until, DAY) };
    if days.is_empty() {
        return (vec![whole], None);
    }
    let before = Span { until: days.since, ..whole };
    let behind = Span { since: days.until, ..whole };
    (vec![before, behind], Some(days))
}

/// `whole` but for the hours that begin at `gaps`, which are in order.
fn without(whole: Span, gaps: &[i64]) -> Vec<Span> {
    let mut pieces = Vec::new();
    let mut since = whole.since;
    for gap in gaps {
        pieces.push(Span { since, until: (*gap).min(whole.until) });
        since = since.max(gap.saturating_add(HOUR));
    }
    pieces.push(Span { since, ..whole });
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn span(since: i64, until: i64) -> Span {
        Span { since, until }
    }

    #[test]
    fn days_hours_and_rows_meet_at_their_borders() {
        let asked = span(DAY - HOUR - 5, 3 * DAY + HOUR + 7);
        let plan = Plan::of(asked, &Steps::Whole);
        let rows = vec![span(DAY - HOUR - 5, DAY - HOUR), span(3 * DAY + HOUR, 3 * DAY + HOUR + 7)];
        let hourly = vec![span(DAY - HOUR, DAY), span(3 * DAY, 3 * DAY + HOUR)];
        assert_eq!(plan, Plan { rows, hourly, daily: Some(span(DAY, 3 * DAY)) });
        assert_eq!(Plan::of(asked, &Steps::Hours).hourly, [span(DAY - HOUR, 3 * DAY + HOUR)]);
        assert_eq!(Plan::of(span(5, 9), &Steps::Whole).rows, [span(5, 9)]);
        assert_eq!(Plan::of(span(9, 9), &Steps::Whole), Plan::default());
        let ever = Plan::of(span(0, 4 * DAY), &Steps::Whole);
        assert_eq!((ever.rows, ever.hourly, ever.daily), (vec![], vec![], Some(span(0, 4 * DAY))));
    }

    /// Every moment of the span is in one piece, and none outside it.
    fn covers(asked: Span, steps: &Steps) {
        let plan = Plan::of(asked, steps);
        let mut pieces: Vec<_> = plan.rows.iter().chain(&plan.hourly).chain(&plan.daily).copied().collect();
        pieces.sort_by_key(|piece| piece.since);
        let mut at = asked.since;
        for piece in &pieces {
            assert_eq!(piece.since, at, "{asked:?} {pieces:?}");
            at = piece.until;
        }
        assert_eq!(at, asked.until, "{asked:?} {pieces:?}");
    }

    #[test]
    fn every_moment_is_in_one_piece() {
        let cut = vec![HOUR * 5, HOUR * 29, HOUR * 30];
        let zone = Steps::DaysOf { offsets: vec![], cut: cut.clone() };
        let edges =
            [0, 1, HOUR, HOUR * 5, HOUR * 5 + 9, HOUR * 6, HOUR * 23 - 1, DAY, HOUR * 29 + 4, DAY * 2];
        for since in edges {
            for until in edges.into_iter().filter(|until| *until > since) {
                let asked = span(since, until);
                // The caller gives the cuts within the span.
                let within = |hour: &i64| *hour < until && hour + HOUR > since;
                let cut = cut.iter().copied().filter(within).collect();
                let zone = Steps::DaysOf { offsets: vec![], cut };
                for steps in [&Steps::Whole, &Steps::Hours, &Steps::Days, &zone] {
                    covers(asked, steps);
                }
            }
        }
        let plan = Plan::of(span(0, 2 * DAY), &zone);
        assert_eq!(plan.rows.first().copied().unwrap(), span(HOUR * 5, HOUR * 6));
        assert_eq!(plan.rows.len(), 3);
    }
}
