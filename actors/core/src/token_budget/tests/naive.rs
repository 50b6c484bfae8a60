//! The same rules, told another way: a list of all requests ever, summed anew for each question, and buckets that keep
//! what is in them.

use super::*;

const DAY: i64 = 86_400_000_000;

/// Year and month by counting days from 1970 on.
fn month(unix_micros: i64) -> (i64, i64) {
    let mut left = unix_micros.div_euclid(DAY);
    for year in 1970.. {
        for month in 1..=12 {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let days = match month {
                2 => 28 + i64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            if left < days {
                return (year, month);
            }
            left -= days;
        }
    }
    unreachable!()
}

/// Day and month of a point of time.
fn date(unix_micros: i64) -> (i64, (i64, i64)) {
    (unix_micros.div_euclid(DAY), month(unix_micros))
}

/// A request that was granted, for one of its two owners.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    owner: Owner,
    date: (i64, (i64, i64)),
    hold: u64,
    pub held: Option<Amount>,
    used: Amount,
    tokens: Option<i128>,
    request: bool,
}

/// What is in a bucket, in 1/60 000 000.
#[derive(Clone, Copy, Debug)]
struct Level {
    limit: i128,
    level: i128,
    at: Moment,
}

const UNITS: i128 = 60_000_000;

impl Level {
    fn flow(&mut self, now: Moment) {
        let micros = i128::try_from(now.since(self.at).as_micros()).unwrap();
        self.level = (self.level + micros * self.limit).min(self.limit * UNITS);
        self.at = now;
    }
}

#[derive(Default)]
pub(super) struct Naive {
    pub entries: Vec<Entry>,
    levels: HashMap<(Owner, bool), Level>,
}

impl Naive {
    pub fn sum(&self, owner: Owner, period: Period, arrival: i64) -> (Amount, Amount) {
        let (day, month) = date(arrival);
        let same = |entry: &Entry| match period {
            Period::Day => entry.date.0 == day,
            Period::Month => entry.date.1 == month,
            Period::Total => true,
        };
        let mut sums = (Amount::ZERO, Amount::ZERO);
        for entry in self.entries.iter().filter(|entry| entry.owner == owner && same(entry)) {
            sums.0 = sums.0.plus(entry.used);
            sums.1 = sums.1.plus(entry.held.unwrap_or_default());
        }
        sums
    }

    pub fn level(&self, owner: Owner, tokens: bool) -> Option<u64> {
        self.levels.get(&(owner, tokens)).map(|level| u64::try_from(level.level.max(0) / UNITS).unwrap())
    }

    pub fn limit(&self, owner: Owner) -> Option<u64> {
        self.levels.get(&(owner, true)).and_then(|level| u64::try_from(level.limit).ok())
    }

    fn fit(&mut self, now: Moment, owner: Owner, tokens: bool, limit: Option<u64>) {
        let Some(limit) = limit.map(i128::from) else {
            self.levels.remove(&(owner, tokens));
            return;
        };
        let full = Level { limit, level: limit * UNITS, at: now };
        let level = self.levels.entry((owner, tokens)).or_insert(full);
        level.flow(now);
        level.level += (limit - level.limit) * UNITS;
        level.limit = limit;
    }

    /// What a request of this size has to wait for; the core is asked for the rest.
    pub fn reserve(&mut self, now: Moment, demand: &Demand<'_>, told: &Result<Granted, Refusal>) {
        let sides = [
            (Owner::Tenant(demand.tenant), demand.tenant_limits, Scope::Tenant),
            (Owner::Key(demand.tenant, demand.key), demand.key_limits, Scope::Key),
        ];
        let too_large = |limits: &Limits| limits.tokens_per_minute.is_some_and(|limit| demand.prompt > limit);
        if sides.iter().any(|(_, limits, _)| too_large(limits)) {
            assert!(matches!(told, Err(Refusal::TooLarge { .. })), "{told:?}");
            return;
        }
        for (owner, limits, _) in sides {
            self.fit(now, owner, true, limits.tokens_per_minute);
            self.fit(now, owner, false, limits.requests_per_minute);
        }
        let own = self.own(demand, &sides);
        let (mut over, mut blocked) = (Vec::new(), false);
        for (owner, limits, scope) in sides {
            for budget in limits.budgets.iter().filter(|budget| budget.hard) {
                let (used, held) = self.sum(owner, budget.period, demand.arrival);
                for (what, limit) in budget.limits() {
                    if used.of(what) + own.of(what) > limit {
                        over.push((budget.period, scope, what, limit, used.of(what)));
                    }
                    blocked |= used.of(what) + held.of(what) + own.of(what) > limit;
                }
            }
        }
        if let Some(last) = over.iter().map(|(period, ..)| *period).max() {
            let Err(Refusal::Exhausted(told)) = told else { panic!("{told:?} instead of {over:?}") };
            assert_eq!(told.period, last);
            assert!(over.contains(&(told.period, told.scope, told.what, told.limit, told.used)), "{told:?}");
            assert_eq!(told.needed, own.of(told.what));
            return;
        }
        if blocked {
            assert!(matches!(told, Err(Refusal::Reserved { .. })), "{told:?}");
            return;
        }
        let mut longest = 0;
        for (owner, ..) in sides {
            for (tokens, count) in [(true, demand.forecast), (false, 1)] {
                if let Some(level) = self.levels.get(&(owner, tokens)) {
                    let missing = i128::from(count).min(level.limit) * UNITS - level.level;
                    longest = longest.max((missing + level.limit - 1).div_euclid(level.limit));
                }
            }
        }
        if longest > 0 {
            let Err(Refusal::Minute { retry_after, .. }) = told else {
                panic!("{told:?} instead of {longest} µs")
            };
            assert_eq!(i128::try_from(retry_after.as_micros()), Ok(longest));
            return;
        }
        let Ok(granted) = told else { panic!("{told:?}: refused without a reason") };
        assert_eq!(granted.held, own);
        for (owner, ..) in sides {
            let tokens = self.levels.get_mut(&(owner, true)).map(|level| {
                let taken = i128::from(demand.forecast).min(level.limit);
                level.level -= taken * UNITS;
                taken
            });
            let request = self.levels.get_mut(&(owner, false)).map(|level| level.level -= UNITS).is_some();
            let date = date(demand.arrival);
            let (hold, held, used) = (granted.id.0, Some(own), Amount::ZERO);
            self.entries.push(Entry { owner, date, hold, held, used, tokens, request });
        }
    }

    fn own(&self, demand: &Demand<'_>, sides: &[(Owner, &Limits, Scope); 2]) -> Amount {
        if !sides.iter().any(|(_, limits, _)| limits.budgets.iter().any(|budget| budget.hard)) {
            return demand.prices.amount(demand.prompt, demand.forecast.saturating_sub(demand.prompt));
        }
        let most = demand.most;
        let amount = |each: u64| demand.prices.amount(most.prompt, each * most.answers);
        let at_most = match most.output {
            Output::Given(bound) => return amount(bound),
            Output::Open { at_most } => at_most,
        };
        // The largest that fits, tried one after the other.
        let mut rooms = Vec::new();
        for (owner, limits, _) in sides {
            for budget in limits.budgets.iter().filter(|budget| budget.hard) {
                let (used, _) = self.sum(*owner, budget.period, demand.arrival);
                rooms.extend(budget.limits().map(|(what, limit)| (what, limit, used.of(what))));
            }
        }
        let fits =
            |each: u64| rooms.iter().all(|(what, limit, used)| used + amount(each).of(*what) <= *limit);
        amount((0..=at_most).rev().find(|each| fits(*each)).unwrap_or(0).max(16))
    }

    pub fn settle(&mut self, now: Moment, id: HoldId, with: Settlement) {
        for entry in self.entries.iter_mut().filter(|entry| entry.hold == id.0) {
            entry.held = None;
            entry.used = with.used;
            if let (Some(level), Some(taken)) = (self.levels.get_mut(&(entry.owner, true)), entry.tokens) {
                level.flow(now);
                level.level =
                    (level.level + (taken - i128::from(with.used.tokens)) * UNITS).min(level.limit * UNITS);
            }
            if let (Some(level), true, false) =
                (self.levels.get_mut(&(entry.owner, false)), entry.request, with.counts)
            {
                level.flow(now);
                level.level = (level.level + UNITS).min(level.limit * UNITS);
            }
        }
    }

    /// Forgets an owner that holds nothing.
    pub fn forget(&mut self, owner: Owner) {
        if !self.entries.iter().any(|entry| entry.owner == owner && entry.held.is_some()) {
            self.entries.retain(|entry| entry.owner != owner);
            self.levels.remove(&(owner, true));
            self.levels.remove(&(owner, false));
        }
    }

    pub fn flow(&mut self, now: Moment) {
        self.levels.values_mut().for_each(|level| level.flow(now));
    }
}
