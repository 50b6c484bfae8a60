//! Tags and clocks of several replicas, merged.
//!
//! Is: what a replica tells of each tenant and group that has changed ([`FairQueue::tell`]), and how it takes in what
//! others tell ([`FairQueue::hear`]). Is not: the way in between.
//!
//! A tag is an offset and what was charged since, of all replicas: `tag = O + span(own + others)`. Each replica tells its
//! own total, not what was added to it, and the offset; totals replace each other and offsets meet in their maximum, so
//! telling twice, late or in another order ends in the same tag. Whatever lifts a tag raises its offset. Where a tag must
//! fall (another weight, another group, an outage that is over) an *era* begins with an offset and totals of its own, and
//! the later era counts. It is told with its *measure*, by which weight and among which group's tenants the tag was set anew,
//! so that one that hears of the era before it hears of the change does not do it a second time. Clocks meet in their
//! maximum.

use super::account::{Account, Tag};
use super::plan::{GroupPlan, TenantPlan};
use super::state::Ticket;
use super::{FairQueue, Place};
use crate::ids::{GroupId, ModelId, TenantId};
use crate::moment::Moment;
use crate::units::Share;
use smallvec::SmallVec;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What has not changed anywhere for so long may be forgotten.
const KEPT: Duration = Duration::from_secs(600);
/// A replica that said that a tenant waits there, and nothing since, is believed for so long.
const BELIEVED: Duration = Duration::from_secs(5);
/// Eras of a generation.
const ERAS: u64 = 1 << 20;
/// Replicas whose totals are told apart; of those before only the sum is kept.
const REPLICAS: usize = 64;

/// What is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    Tenant(TenantId),
    Group(GroupId),
    /// The clock of a group's tenants on a model.
    Tenants(ModelId, GroupId),
    /// The clock of the groups on a model.
    Groups(ModelId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(id) => write!(f, "t{}", id.0.simple()),
            Self::Group(id) => write!(f, "g{}", id.0.simple()),
            Self::Tenants(model, group) => write!(f, "c{}.{}", model.0.simple(), group.0.simple()),
            Self::Groups(model) => write!(f, "c{}", model.0.simple()),
        }
    }
}

/// A text that tells of nothing known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither a subject nor what is told of one")]
pub struct NotTold;

impl FromStr for Subject {
    type Err = NotTold;

    fn from_str(text: &str) -> Result<Self, NotTold> {
        let (kind, rest) = text.split_at_checked(1).ok_or(NotTold)?;
        let id = |text: &str| uuid::Uuid::parse_str(text).map_err(|_| NotTold);
        match (kind, rest.split_once('.')) {
            ("t", None) => Ok(Self::Tenant(TenantId(id(rest)?))),
            ("g", None) => Ok(Self::Group(GroupId(id(rest)?))),
            ("c", None) => Ok(Self::Groups(ModelId(id(rest)?))),
            ("c", Some((model, group))) => Ok(Self::Tenants(ModelId(id(model)?), GroupId(id(group)?))),
            _ => Err(NotTold),
        }
    }
}

/// What a tag is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    pub weight: Share,
    /// The group whose clock a tenant is among; of a group none.
    pub group: Option<GroupId>,
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = self.weight.get();
        match self.group {
            Some(group) => write!(f, "{weight}.{}", group.0.simple()),
            None => write!(f, "{weight}"),
        }
    }
}

impl FromStr for Measure {
    type Err = NotTold;

    fn from_str(text: &str) -> Result<Self, NotTold> {
        let (weight, group) = match text.split_once('.') {
            Some((weight, group)) => {
                (weight, Some(GroupId(uuid::Uuid::parse_str(group).map_err(|_| NotTold)?)))
            }
            None => (text, None),
        };
        let weight = weight.parse().ok().and_then(Share::new).ok_or(NotTold)?;
        Ok(Self { weight, group })
    }
}

/// What a replica tells of a subject. Of a clock only the offset counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub era: u64,
    pub offset: i128,
    /// Charged by this replica in this era, in cost units.
    pub total: i128,
    /// Something of it waits there.
    pub waiting: bool,
    /// That of the era; of a clock none.
    pub measure: Option<Measure>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { era, offset, total, waiting, measure } = self;
        write!(f, "{era} {offset} {total} {}", u8::from(*waiting))?;
        measure.map_or(Ok(()), |measure| write!(f, " {measure}"))
    }
}

impl FromStr for Told {
    type Err = NotTold;

    fn from_str(text: &str) -> Result<Self, NotTold> {
        let parts: SmallVec<[&str; 5]> = text.split(' ').collect();
        let [era, offset, total, waiting, measure @ ..] = parts.as_slice() else { return Err(NotTold) };
        let measure = match measure {
            [] => None,
            [measure] => Some(measure.parse()?),
            _ => return Err(NotTold),
        };
        Ok(Self {
            era: era.parse().map_err(|_| NotTold)?,
            offset: offset.parse().map_err(|_| NotTold)?,
            total: total.parse().map_err(|_| NotTold)?,
            waiting: *waiting == "1",
            measure,
        })
    }
}

/// The plan of a subject, for one that the queue has not met.
#[derive(Clone, Copy, Debug)]
pub enum SubjectPlan {
    Tenant(TenantPlan),
    Group(GroupPlan),
    Clock,
}

/// What is known from others about one tenant or group, and what was told of it.
#[derive(Debug, Default)]
struct Record {
    remotes: Vec<Remote>,
    /// The era of their totals.
    era: u64,
    /// The measure of this era, when it is not that of the plan that is known here.
    measure: Option<Measure>,
    told: Option<Told>,
    /// When anything of it changed last.
    at: Moment,
}

#[derive(Debug)]
struct Remote {
    from: u64,
    total: i128,
    waiting: bool,
    at: Moment,
}

/// Which list a record is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Whose {
    Tenant(Place),
    Group(Place),
}

/// The records of a queue that shares its slots.
#[derive(Debug, Default)]
pub(super) struct Records {
    records: HashMap<Whose, Record>,
    /// Those that may have something to tell.
    dirty: BTreeSet<Whose>,
    clocks: HashMap<Subject, Tag>,
    /// The era that what is new begins with: later than any that was forgotten.
    first_era: u64,
}

impl Records {
    pub(super) fn beginning_with(first_era: u64) -> Self {
        Self { first_era, ..Self::default() }
    }

    pub(super) fn note_tenant(&mut self, place: Place) {
        self.dirty.insert(Whose::Tenant(place));
    }

    pub(super) fn note_group(&mut self, place: Place) {
        self.dirty.insert(Whose::Group(place));
    }

    fn forget(&mut self, whose: Whose, era: u64) {
        self.records.remove(&whose);
        self.dirty.remove(&whose);
        self.first_era = self.first_era.max(era.saturating_add(1));
    }

    /// It is to be told to those who do not know it, if anything of it happened lately.
    fn note_anew(&mut self, whose: Whose, now: Moment) {
        let Some(record) = self.records.get_mut(&whose) else { return };
        record.told = None;
        record.remotes.retain(|remote| now.since(remote.at) <= KEPT);
        if now.since(record.at) <= KEPT {
            self.dirty.insert(whose);
        }
    }

    pub(super) fn forget_tenant(&mut self, place: Place, era: u64) {
        self.forget(Whose::Tenant(place), era);
    }

    pub(super) fn forget_group(&mut self, place: Place, era: u64) {
        self.forget(Whose::Group(place), era);
    }

    /// Whether nothing has happened to it for long.
    fn is_old(&self, whose: Whose, now: Moment) -> bool {
        self.records.get(&whose).is_none_or(|record| now.since(record.at) > KEPT)
    }

    pub(super) fn is_old_tenant(&self, place: Place, now: Moment) -> bool {
        self.is_old(Whose::Tenant(place), now)
    }

    pub(super) fn is_old_group(&self, place: Place, now: Moment) -> bool {
        self.is_old(Whose::Group(place), now)
    }

    fn waits(&self, whose: Whose, now: Moment) -> bool {
        let waits = |remote: &Remote| remote.waiting && now.since(remote.at) < BELIEVED;
        self.records.get(&whose).is_some_and(|record| record.remotes.iter().any(waits))
    }

    /// Whether a tenant waits at another replica: it comes back from nowhere when something of it waits here too.
    pub(super) fn tenant_waits(&self, place: Place, now: Moment) -> bool {
        self.waits(Whose::Tenant(place), now)
    }

    pub(super) fn group_waits(&self, place: Place, now: Moment) -> bool {
        self.waits(Whose::Group(place), now)
    }

    /// What a tenant's tag is measured by, where the plan says `own`.
    pub(super) fn measure_of_tenant(&self, place: Place, own: Measure) -> Measure {
        self.measure(Whose::Tenant(place)).unwrap_or(own)
    }

    /// The same of a group.
    pub(super) fn measure_of_group(&self, place: Place, own: Measure) -> Measure {
        self.measure(Whose::Group(place)).unwrap_or(own)
    }

    fn measure(&self, whose: Whose) -> Option<Measure> {
        self.records.get(&whose)?.measure
    }

    /// From here on a tenant's tag is measured by its plan.
    pub(super) fn own_measure_of_tenant(&mut self, place: Place) {
        if let Some(record) = self.records.get_mut(&Whose::Tenant(place)) {
            record.measure = None;
        }
    }

    /// The same of a group.
    pub(super) fn own_measure_of_group(&mut self, place: Place) {
        if let Some(record) = self.records.get_mut(&Whose::Group(place)) {
            record.measure = None;
        }
    }

    pub(super) const fn first_era(&self) -> u64 {
        self.first_era
    }
}

impl Account {
    /// What the tag was before anything was charged in this era.
    fn offset(&self, weight: Share) -> Tag {
        self.tag.saturating_sub(Self::charged(self.own.saturating_add(self.others), weight))
    }

    /// The plan has become what the tag is measured by already.
    pub(super) fn remeasure(&mut self, old: Share, new: Share) {
        let offset = self.offset(old);
        self.tag = offset.saturating_add(Self::charged(self.own.saturating_add(self.others), new));
        self.floor = self.floor.min(self.tag);
    }

    /// Takes in what another replica tells, of whom `known` was the total.
    fn merge(&mut self, weight: Share, known: i128, told: Told) {
        let offset = self.offset(weight).max(told.offset);
        self.others = self.others.saturating_add(told.total).saturating_sub(known);
        self.tag = offset.saturating_add(Self::charged(self.own.saturating_add(self.others), weight));
        self.floor = self.floor.min(self.tag);
    }
}

impl FairQueue {
    /// What has changed since it was told last, `most` subjects at most and all clocks.
    pub fn tell(&mut self, most: usize) -> Vec<(Subject, Told)> {
        let Some(shared) = self.shared.as_mut() else { return Vec::new() };
        let mut all = Vec::new();
        while all.len() < most
            && let Some(whose) = shared.records.dirty.pop_first()
        {
            let found = match whose {
                Whose::Tenant(place) => self.tenants.at(place).map(|tenant| {
                    let subject = Subject::Tenant(tenant.plan.id);
                    (subject, tenant.account, tenant.plan.measure(), tenant.queued.count > 0)
                }),
                Whose::Group(place) => self.groups.at(place).map(|group| {
                    (Subject::Group(group.plan.id), group.account, group.plan.measure(), group.queued > 0)
                }),
            };
            let Some((subject, account, measure, waiting)) = found else { continue };
            let offset = account.offset(measure.weight);
            let record = shared.records.records.entry(whose).or_default();
            let measure = Some(record.measure.unwrap_or(measure));
            let told = Told { era: account.era, offset, total: account.own, waiting, measure };
            if record.told != Some(told) {
                record.told = Some(told);
                record.at = self.watch.now;
                all.push((subject, told));
            }
        }
        for (place, model) in self.models.iter() {
            let clocks = self.groups.iter().filter_map(|(_, group)| {
                Some((Subject::Tenants(model.plan.id, group.plan.id), group.cell(place)?.clock.now()))
            });
            for (subject, now) in clocks.chain([(Subject::Groups(model.plan.id), model.clock.now())]) {
                if now != 0 && shared.records.clocks.insert(subject, now) != Some(now) {
                    all.push((subject, Told { offset: now, ..Told::default() }));
                }
            }
        }
        let known = |model: &ModelId| self.models.place(model).is_some();
        shared.records.clocks.retain(|subject, _| match subject {
            Subject::Tenants(model, group) => known(model) && self.groups.place(group).is_some(),
            Subject::Groups(model) => known(model),
            Subject::Tenant(_) | Subject::Group(_) => false,
        });
        all
    }

    /// An era that nothing here has reached.
    pub fn next_era(&self) -> u64 {
        let tenants = self.tenants.iter().map(|(_, tenant)| tenant.account.era);
        let groups = self.groups.iter().map(|(_, group)| group.account.era);
        tenants.chain(groups).fold(self.first_era(), u64::max).saturating_add(1)
    }

    /// Somebody joined, or the store has lost everything: totals of before would not be known to all. Each tag becomes the
    /// offset of an era of this generation; generations rise, by one in a millisecond at most.
    pub fn begin_generation(&mut self, now: Moment, generation: u64) {
        let Some(shared) = self.shared.as_mut() else { return };
        let first = generation.saturating_mul(ERAS);
        let records = &mut shared.records;
        records.first_era = records.first_era.max(first);
        for (place, tenant) in self.tenants.iter_mut() {
            let account = &mut tenant.account;
            account.begin_era(first.max(account.era.saturating_add(1)), account.tag);
            records.note_anew(Whose::Tenant(place), now);
        }
        for (place, group) in self.groups.iter_mut() {
            let account = &mut group.account;
            account.begin_era(first.max(account.era.saturating_add(1)), account.tag);
            records.note_anew(Whose::Group(place), now);
        }
        records.clocks.clear();
    }

    /// Everything is to be told again: to a store that has lost what it knew.
    pub fn tell_anew(&mut self) {
        let Some(shared) = self.shared.as_mut() else { return };
        let records = &mut shared.records;
        records.clocks.clear();
        records.records.values_mut().for_each(|record| record.told = None);
        records.dirty.extend(records.records.keys());
    }

    /// Takes in what the replica `from` tells.
    pub fn hear(&mut self, now: Moment, from: u64, subject: Subject, plan: SubjectPlan, told: Told) {
        if self.shared.is_none() {
            return;
        }
        self.note_time(now);
        match (subject, plan) {
            (Subject::Tenant(id), SubjectPlan::Tenant(plan)) if plan.id == id => {
                let (place, _) = self.meet_tenant(plan);
                self.hear_of(Whose::Tenant(place), from, told);
                self.refresh(place);
                self.leave_idle(place, None);
            }
            (Subject::Group(id), SubjectPlan::Group(plan)) if plan.id == id => {
                let place = self.meet_group(plan);
                self.hear_of(Whose::Group(place), from, told);
                self.refresh_group(place);
            }
            (Subject::Tenants(model, group), SubjectPlan::Clock) => {
                let cell = self.models.place(&model).zip(self.groups.place(&group));
                if let Some((model, group)) = cell
                    && let Some(cell) = self.groups.at_mut(group).and_then(|group| group.cell_mut(model))
                {
                    cell.clock.raise(told.offset);
                }
            }
            (Subject::Groups(model), SubjectPlan::Clock) => {
                let place = self.models.place(&model);
                if let Some(model) = place.and_then(|place| self.models.at_mut(place)) {
                    model.clock.raise(told.offset);
                }
            }
            _ => {}
        }
    }

    fn hear_of(&mut self, whose: Whose, from: u64, told: Told) {
        let Self { tenants, groups, shared, watch, .. } = self;
        let found = match whose {
            Whose::Tenant(place) => {
                tenants.at_mut(place).map(|tenant| (&mut tenant.account, tenant.plan.measure()))
            }
            Whose::Group(place) => {
                groups.at_mut(place).map(|group| (&mut group.account, group.plan.measure()))
            }
        };
        let (Some((account, own)), Some(shared)) = (found, shared.as_mut()) else { return };
        let record = shared.records.records.entry(whose).or_default();
        record.at = watch.now;
        if told.era < account.era {
            // It has not heard of this era.
            record.told = None;
            shared.records.dirty.insert(whose);
            return;
        }
        if told.era > account.era {
            account.begin_era(told.era, told.offset);
            record.measure = told.measure.filter(|measure| *measure != own);
        }
        // Both have begun this era, by different measures: the one that hears of its plan later will begin another one.
        let agreed = told.measure.is_none_or(|measure| measure == record.measure.unwrap_or(own));
        let told = Told { offset: if agreed { told.offset } else { Tag::MIN }, ..told };
        if record.era != account.era {
            // It began here or there: nothing of it was heard before.
            record.era = account.era;
            record.remotes.iter_mut().for_each(|remote| remote.total = 0);
        }
        let place = record.remotes.iter().position(|remote| remote.from == from);
        let remote = match place.and_then(|place| record.remotes.get_mut(place)) {
            Some(remote) => remote,
            None => {
                if record.remotes.len() >= REPLICAS {
                    // The one that was silent for longest; what it told stays in the sum.
                    let oldest = record.remotes.iter().enumerate().min_by_key(|(_, remote)| remote.at);
                    let oldest = oldest.map(|(place, _)| place);
                    oldest.into_iter().for_each(|place| _ = record.remotes.swap_remove(place));
                }
                record.remotes.push(Remote { from, total: 0, waiting: false, at: watch.now });
                let Some(remote) = record.remotes.last_mut() else { return };
                remote
            }
        };
        account.merge(own.weight, remote.total, told);
        *remote = Remote { from, total: told.total, waiting: told.waiting, at: watch.now };
    }

    /// After an outage in which replicas could not hear of each other: nobody's debt is larger than what it has running,
    /// or LAG. Otherwise what one took alone would keep it waiting for as long again.
    pub fn bound_debts(&mut self, now: Moment) {
        self.note_time(now);
        let (mut outstanding, mut of_groups): (HashMap<Place, u64>, HashMap<Place, u64>) = Default::default();
        for ticket in self.tickets.values() {
            if let Ticket::Seated(seat) = ticket {
                for (sums, place) in [(&mut outstanding, seat.tenant), (&mut of_groups, seat.group.0)] {
                    let sum = sums.entry(place).or_default();
                    *sum = sum.saturating_add(seat.charged);
                }
            }
        }
        let lag = self.settings.lag();
        let clock = self.models.iter().map(|(_, model)| model.clock.now()).max();
        let groups: Vec<Place> = self.groups.iter().map(|(place, _)| place).collect();
        for place in groups {
            let (Some(clock), Some(group)) = (clock, self.groups.at_mut(place)) else { continue };
            let most = of_groups.get(&place).copied().unwrap_or_default().max(lag);
            let highest = clock.saturating_add(super::account::span(most, group.plan.weight));
            if group.account.tag > highest {
                group.account.begin_era(group.account.era.saturating_add(1), highest);
                self.refresh_group(place);
            }
        }
        let places: Vec<Place> = self.tenants.iter().map(|(place, _)| place).collect();
        for place in places {
            let Some(clock) = self.clock_of(place) else { continue };
            let Some(tenant) = self.tenants.at_mut(place) else { continue };
            let most = outstanding.get(&place).copied().unwrap_or_default().max(lag);
            let highest = clock.saturating_add(super::account::span(most, tenant.plan.weight));
            if tenant.account.tag > highest {
                let era = tenant.account.era.saturating_add(1);
                tenant.account.begin_era(era, highest);
                self.refresh(place);
            }
        }
    }
}
