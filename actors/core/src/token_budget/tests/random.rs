//! Random driving: reservations, endings of every kind and twice, ends of days, months and years, changes of every
//! limit, keys under another tenant, forgetting and healing, each step compared with the naive model.

use super::naive::Naive;
use super::*;
use std::collections::{BTreeMap, BTreeSet};

const HOUR: i64 = 3_600_000_000;

/// What a run must have met, or it shows little.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Met {
    Granted,
    OutputSet,
    TooLarge,
    Exhausted,
    Reserved,
    Tokens,
    Requests,
    Warned,
    EndOfDay,
    EndOfMonth,
    HoldOverTheEnd,
    Debt,
    Lowered,
    Forgotten,
}

struct Driver {
    core: TokenBudget,
    naive: Naive,
    dice: Dice,
    /// No limit changes, and nothing uses more than it holds: then no hard limit is ever passed.
    strict: bool,
    now: Moment,
    unix: i64,
    limits: BTreeMap<Owner, Limits>,
    holds: Vec<(HoldId, Granted, i64)>,
    /// Used and held under each hard limit, after the last step.
    before: BTreeMap<(Owner, usize, bool), u128>,
    met: BTreeSet<Met>,
}

fn owners() -> impl Iterator<Item = Owner> {
    (0..3).flat_map(|t| {
        let keys = (0..2).map(move |k| Owner::Key(tenant(t), key(k)));
        keys.chain([Owner::Tenant(tenant(t))])
    })
}

impl Driver {
    fn new(seed: u64, strict: bool) -> Self {
        let mut driver = Self {
            core: TokenBudget::default(),
            naive: Naive::default(),
            dice: Dice(seed),
            strict,
            now: at(0),
            // Shortly before the end of a February, of a leap year or not, or of a year.
            unix: [1_709_164_000, 1_677_600_000, 1_798_750_000][usize::try_from(seed % 3).unwrap()]
                * 1_000_000,
            limits: BTreeMap::new(),
            holds: Vec::new(),
            before: BTreeMap::new(),
            met: BTreeSet::new(),
        };
        for owner in owners() {
            let limits = driver.some_limits();
            driver.limits.insert(owner, limits);
        }
        driver
    }

    fn some_limits(&mut self) -> Limits {
        let dice = &mut self.dice;
        let mut budgets = Vec::new();
        for period in Period::ALL {
            if dice.one_in(3) {
                let scale = [400, 4_000, 40_000][usize::try_from(dice.below(3)).unwrap()];
                let max_tokens = dice.one_in(2).then(|| dice.below(scale));
                let max_cost =
                    (max_tokens.is_none() || dice.one_in(2)).then(|| u128::from(dice.below(4 * scale)));
                budgets.push(PeriodBudget { period, max_tokens, max_cost, hard: !dice.one_in(3) });
            }
        }
        Limits {
            tokens_per_minute: dice.one_in(3).then(|| 1 + dice.below(2_000)),
            requests_per_minute: dice.one_in(4).then(|| 1 + dice.below(20)),
            budgets,
        }
    }

    fn step(&mut self) {
        let millis = match self.dice.below(100) {
            0..90 => self.dice.below(3_000),
            90..97 => self.dice.below(3_600_000),
            _ => self.dice.below(40 * 3_600_000),
        };
        let (day, month) = (Period::Day.index(self.unix), Period::Month.index(self.unix));
        self.now = self.now + Duration::from_millis(millis);
        self.unix += i64::try_from(millis).unwrap() * 1_000;
        if Period::Day.index(self.unix) != day {
            self.met.insert(Met::EndOfDay);
        }
        if Period::Month.index(self.unix) != month {
            self.met.insert(Met::EndOfMonth);
        }
        self.naive.flow(self.now);
        match self.dice.below(100) {
            0..55 => self.reserve(),
            55..88 => self.end(),
            88..92 if !self.strict => self.change(),
            92..96 => self.expire(),
            96..98 => self.core.resume(),
            _ => self.end_again(),
        }
        self.verify();
    }

    fn reserve(&mut self) {
        let t = tenant(self.dice.below(3).into());
        let k = key(self.dice.below(2).into());
        let late =
            if self.dice.one_in(4) { i64::try_from(self.dice.below(3_600)).unwrap() * 1_000_000 } else { 0 };
        let prompt = self.dice.below(150);
        let prices =
            [UnitPrices::default(), UnitPrices { prompt: 2, output: 6 }, UnitPrices { prompt: 1, output: 0 }];
        let output = if self.dice.one_in(2) {
            Output::Given(self.dice.below(200))
        } else {
            Output::Open { at_most: self.dice.below(300) }
        };
        let (tenant_limits, key_limits) =
            (self.limits[&Owner::Tenant(t)].clone(), self.limits[&Owner::Key(t, k)].clone());
        let demand = Demand {
            tenant: t,
            tenant_limits: &tenant_limits,
            key: k,
            key_limits: &key_limits,
            arrival: self.unix - late,
            prompt,
            forecast: prompt + self.dice.below(250),
            most: Most { prompt: prompt + self.dice.below(30), output, answers: 1 + self.dice.below(2) },
            prices: prices[usize::try_from(self.dice.below(3)).unwrap()],
            asked: false,
        };
        let told = self.core.reserve(self.now, &demand);
        self.naive.reserve(self.now, &demand, &told);
        self.met.insert(match &told {
            Ok(granted) if granted.set_output.is_some() => Met::OutputSet,
            Ok(granted) if !granted.warnings.is_empty() => Met::Warned,
            Ok(_) => Met::Granted,
            Err(Refusal::TooLarge { .. }) => Met::TooLarge,
            Err(Refusal::Exhausted(_)) => Met::Exhausted,
            Err(Refusal::Reserved { .. }) => Met::Reserved,
            Err(Refusal::Minute { minute: Minute::Tokens, .. }) => Met::Tokens,
            Err(Refusal::Minute { .. }) => Met::Requests,
            Err(Refusal::Short) => unreachable!("nothing is shared"),
        });
        if let Ok(granted) = told {
            // From here on this is the level that must not be passed.
            self.note();
            self.holds.push((granted.id, granted, demand.arrival));
        }
    }

    fn any(&mut self) -> Option<(HoldId, Granted, i64)> {
        let count = u64::try_from(self.holds.len()).unwrap();
        (count > 0).then(|| self.holds.swap_remove(usize::try_from(self.dice.below(count)).unwrap()))
    }

    fn end(&mut self) {
        let Some((id, granted, arrival)) = self.any() else { return };
        if Period::Day.index(arrival) != Period::Day.index(self.unix) {
            self.met.insert(Met::HoldOverTheEnd);
        }
        let with = match self.dice.below(5) {
            0 => Settlement::NOTHING,
            // No more than it holds, as the bound of a hard budget has it.
            _ if granted.hard => self.part_of(granted.held),
            1 if !self.strict => {
                self.met.insert(Met::Debt);
                self.part_of(Amount { tokens: 3_000, pico: 9_000 })
            }
            _ => self.part_of(granted.held),
        };
        assert!(self.core.settle(self.now, id, with));
        self.naive.settle(self.now, id, with);
    }

    fn part_of(&mut self, held: Amount) -> Settlement {
        let tokens = self.dice.below(held.tokens + 1);
        let pico = u128::from(self.dice.next()) % (held.pico + 1);
        Settlement { used: Amount { tokens, pico }, counts: true }
    }

    fn end_again(&mut self) {
        let Some((id, ..)) = self.any() else { return };
        assert!(self.core.release(self.now, id));
        self.naive.settle(self.now, id, Settlement::NOTHING);
        assert!(!self.core.settle(self.now, id, used(1_000_000)));
    }

    fn change(&mut self) {
        let owner = owners().nth(usize::try_from(self.dice.below(9)).unwrap()).unwrap();
        let limits = self.some_limits();
        self.limits.insert(owner, limits);
        self.met.insert(Met::Lowered);
        self.before.retain(|(of, ..), _| *of != owner);
    }

    fn expire(&mut self) {
        let gone = self.dice.one_in(4).then(|| tenant(self.dice.below(3).into()));
        let is_gone = |owner: Owner| match owner {
            Owner::Tenant(id) | Owner::Key(id, _) => Some(id) == gone,
        };
        self.core.expire(self.now, self.unix, is_gone);
        if gone.is_some() {
            self.met.insert(Met::Forgotten);
            owners().filter(|owner| is_gone(*owner)).for_each(|owner| self.naive.forget(owner));
        }
    }

    /// Levels of all hard limits, in the period of now.
    fn levels(&self) -> BTreeMap<(Owner, usize, bool), u128> {
        let mut levels = BTreeMap::new();
        for (owner, limits) in &self.limits {
            let standing = self.core.standing(self.now, self.unix, *owner, limits);
            for (position, left) in standing.budgets.iter().enumerate().filter(|(_, left)| left.budget.hard) {
                for (what, _) in left.budget.limits() {
                    let level = left.used.of(what) + left.reserved.of(what);
                    levels.insert((*owner, position, what == What::Tokens), level);
                }
            }
        }
        levels
    }

    fn note(&mut self) {
        let levels = self.levels();
        for ((owner, position, tokens), level) in &levels {
            let budget = self.limits[owner].budgets[*position];
            let limit = if *tokens { budget.max_tokens.map(u128::from) } else { budget.max_cost };
            let before = self.before.get(&(*owner, *position, *tokens)).copied().unwrap_or(0);
            // Beyond the limit only where it was before, because the limit was not there or higher.
            assert!(*level <= limit.unwrap().max(before), "{owner:?} {budget:?}: {level}, before {before}");
        }
        self.before = levels;
    }

    fn verify(&mut self) {
        for (owner, limits) in &self.limits {
            for when in [self.unix, self.unix - HOUR] {
                let standing = self.core.standing(self.now, when, *owner, limits);
                for (period, used, held) in standing.usage {
                    assert_eq!((used, held), self.naive.sum(*owner, period, when), "{owner:?} {period:?}");
                }
            }
        }
        let levels = self.levels();
        for ((owner, position, tokens), level) in levels.iter().filter(|_| self.strict) {
            let budget = self.limits[owner].budgets[*position];
            let limit = if *tokens { budget.max_tokens.map(u128::from) } else { budget.max_cost };
            assert!(*level <= limit.unwrap(), "{owner:?} {budget:?}: {level}");
        }
        self.before = levels;
        assert_eq!(self.core.holds(), self.holds.len());
        if self.holds.is_empty() {
            assert!(self.naive.entries.iter().all(|entry| entry.held.is_none()));
        }
    }
}

fn drive(seed: u64, strict: bool, steps: usize) -> BTreeSet<Met> {
    let mut driver = Driver::new(seed, strict);
    for _ in 0..steps {
        driver.step();
    }
    while let Some((id, ..)) = driver.any() {
        driver.core.release(driver.now, id);
    }
    for owner in owners() {
        let standing = driver.core.standing(driver.now, driver.unix, owner, &NONE);
        assert!(standing.usage.iter().all(|(_, _, held)| *held == Amount::ZERO), "{owner:?}");
    }
    driver.met
}

#[test]
fn any_interleaving_does_what_the_naive_model_does() {
    let mut met = BTreeSet::new();
    for seed in 0..24 {
        println!("seed {seed}");
        met.extend(drive(seed, seed % 2 == 1, 600));
    }
    assert_eq!(met.len(), 14, "{met:?}");
}

#[test]
fn levels_are_those_of_the_naive_model() {
    for seed in 100..104 {
        let mut driver = Driver::new(seed, false);
        for _ in 0..600 {
            driver.step();
            for (owner, limits) in &driver.limits {
                let rates = driver.core.rates(driver.now, *owner, limits);
                let known = limits.tokens_per_minute.and(driver.naive.level(*owner, true));
                if let (Some(rate), Some(level)) = (rates.tokens, known)
                    && driver.naive_has_limit(*owner, rate.limit)
                {
                    assert_eq!(rate.remaining, level, "seed {seed} {owner:?}");
                }
            }
        }
    }
}

impl Driver {
    /// The naive model hears of a limit with the first request that meets it.
    fn naive_has_limit(&self, owner: Owner, limit: u64) -> bool {
        self.naive.limit(owner) == Some(limit)
    }
}
