//! The invariants, recomputed from the plain facts. For tests, and for the shell after a resume.

use super::state::{Model, Tenant, Ticket};
use super::work::Work;
use super::{FairQueue, Place};
use crate::ids::KeyId;
use std::collections::{BTreeMap, BTreeSet};

/// An invariant that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("a slot is free and an eligible request waits")]
    WorkConservation,
    #[error("the counts of running requests disagree")]
    InFlight,
    #[error("the counts of waiting requests disagree")]
    Queued,
    #[error("a lane does not hold the tickets it should")]
    Lane,
    #[error("a line does not hold the tenants or groups it should")]
    Line,
    #[error("a sum of active weights is wrong")]
    ActiveWeight,
    #[error("the list of the heaviest tenants is wrong")]
    Heaviest,
    #[error("a tag lies below the clock of its activation")]
    Floor,
    #[error("the list of idle tenants is wrong")]
    Idle,
}

/// What the tickets of a tenant add up to.
#[derive(Default)]
struct Sums {
    in_flight: BTreeMap<Place, u32>,
    queued: BTreeMap<Place, u32>,
    /// What waits, by model, and its forecast.
    work: BTreeMap<Place, Work>,
    cost: u128,
    keys: BTreeMap<KeyId, u32>,
}

impl FairQueue {
    /// Whether every invariant holds. Takes time in proportion to all that is known.
    pub fn check(&self) -> Result<(), Broken> {
        let sums = self.sums();
        let nothing = Sums::default();
        for (place, tenant) in self.tenants.iter() {
            self.check_tenant(place, tenant, sums.get(&place).unwrap_or(&nothing))?;
        }
        for (place, group) in self.groups.iter() {
            self.check_group(place, group)?;
        }
        for (place, model) in self.models.iter() {
            self.check_model(place, model, &sums)?;
        }
        self.check_totals()?;
        self.check_eligible()
    }

    fn sums(&self) -> BTreeMap<Place, Sums> {
        let mut sums: BTreeMap<Place, Sums> = BTreeMap::new();
        let add = |map: &mut BTreeMap<Place, u32>, place| *map.entry(place).or_default() += 1;
        for ticket in self.tickets.values() {
            match ticket {
                Ticket::Waiting(waiting) => {
                    let sum = sums.entry(waiting.tenant).or_default();
                    add(&mut sum.queued, waiting.model);
                    sum.work.entry(waiting.model).or_default().add(waiting);
                    sum.cost = sum.cost.saturating_add(u128::from(waiting.cost));
                }
                Ticket::Seated(seat) => {
                    let sum = sums.entry(seat.tenant).or_default();
                    add(&mut sum.in_flight, seat.model);
                    if let Some(key) = seat.key.counted() {
                        *sum.keys.entry(key).or_default() += 1;
                    }
                }
            }
        }
        sums
    }

    fn check_tenant(&self, place: Place, tenant: &Tenant, sums: &Sums) -> Result<(), Broken> {
        let group = self.groups.at(tenant.group).ok_or(Broken::Line)?;
        holds(tenant.in_flight == sums.in_flight.values().sum::<u32>(), Broken::InFlight)?;
        holds(tenant.queued.count == sums.queued.values().sum::<u32>(), Broken::Queued)?;
        holds(tenant.queued.cost == sums.cost, Broken::Queued)?;
        let active = if tenant.is_idle() { 0 } else { tenant.plan.weight.get() };
        holds(tenant.counted == active, Broken::ActiveWeight)?;
        holds(tenant.account.tag >= tenant.account.floor, Broken::Floor)?;
        holds(tenant.is_idle() == tenant.idle_mark.is_some(), Broken::Idle)?;
        for (key, line) in &tenant.keys {
            holds(line.in_flight == sums.keys.get(key).copied().unwrap_or_default(), Broken::InFlight)?;
            holds(line.in_flight > 0 || !line.queues.is_empty(), Broken::Lane)?;
        }
        for lane in &tenant.lanes {
            let count = |map: &BTreeMap<Place, u32>| map.get(&lane.model).copied().unwrap_or_default();
            holds(lane.in_flight == count(&sums.in_flight), Broken::InFlight)?;
            holds(lane.queued == count(&sums.queued), Broken::Queued)?;
            let work = sums.work.get(&lane.model).copied().unwrap_or_default();
            holds(lane.work == work, Broken::Queued)?;
            holds(lane.ready == self.ready(tenant, lane.model), Broken::Lane)?;
            let listed = (!lane.ready.is_empty() && !tenant.blocked())
                .then_some((tenant.account.tag, tenant.activation));
            let cell = group.cell(lane.model).ok_or(Broken::Line)?;
            let in_line = listed.is_none_or(|(tag, seq)| cell.line.contains(&(tag, seq, place)));
            holds(lane.listed == listed && in_line, Broken::Line)?;
            let weight = if lane.is_active() { tenant.plan.weight.get() } else { 0 };
            holds(lane.counted == weight, Broken::ActiveWeight)?;
        }
        Ok(())
    }

    /// The tickets of a lane that no key cap holds back.
    fn ready(&self, tenant: &Tenant, model: Place) -> BTreeSet<super::TicketId> {
        let mut heads: BTreeMap<KeyId, super::TicketId> = BTreeMap::new();
        let mut ready = BTreeSet::new();
        for id in tenant.waiting(Some(model)) {
            match self.tickets.get(&id) {
                Some(Ticket::Waiting(waiting)) => match waiting.key.counted() {
                    None => _ = ready.insert(id),
                    Some(key) => _ = heads.entry(key).or_insert(id),
                },
                _ => continue,
            }
        }
        let open = |key: &KeyId| tenant.keys.get(key).is_some_and(|line| line.in_flight < line.cap);
        ready.extend(heads.into_iter().filter(|(key, _)| open(key)).map(|(_, id)| id));
        ready
    }

    fn check_group(&self, place: Place, group: &super::state::Group) -> Result<(), Broken> {
        let members =
            || self.tenants.iter().filter(|(_, tenant)| tenant.group == place).map(|(_, tenant)| tenant);
        holds(group.members == members().count(), Broken::Line)?;
        holds(group.queued == members().map(|tenant| tenant.queued.count).sum::<u32>(), Broken::Queued)?;
        holds(group.account.tag >= group.account.floor, Broken::Floor)?;
        let active: u64 = members().map(|tenant| u64::from(tenant.counted)).sum();
        holds(group.active_weight == active, Broken::ActiveWeight)?;
        let counted = if active > 0 { group.plan.weight.get() } else { 0 };
        holds(group.counted == counted, Broken::ActiveWeight)?;
        for (model, cell) in group.cells.iter().enumerate() {
            let Some(cell) = cell else { continue };
            let pool = self.models.at(model).ok_or(Broken::Line)?;
            let lanes = || members().filter_map(|tenant| tenant.lane(model));
            let weight: u64 = lanes().map(|lane| u64::from(lane.counted)).sum();
            holds(cell.active_weight == weight, Broken::ActiveWeight)?;
            holds(cell.line.len() == lanes().filter(|lane| lane.listed.is_some()).count(), Broken::Line)?;
            let listed = (!cell.line.is_empty()).then_some((group.account.tag, group.activation));
            let in_list = listed.is_none_or(|(tag, seq)| pool.groups.contains(&(tag, seq, place)));
            holds(cell.listed == listed && in_list, Broken::Line)?;
            let counted = if weight > 0 { group.plan.weight.get() } else { 0 };
            holds(cell.counted == counted, Broken::ActiveWeight)?;
        }
        Ok(())
    }

    fn check_model(&self, place: Place, model: &Model, sums: &BTreeMap<Place, Sums>) -> Result<(), Broken> {
        let count = |map: &BTreeMap<Place, u32>| map.get(&place).copied().unwrap_or_default();
        holds(
            model.in_flight == sums.values().map(|sum| count(&sum.in_flight)).sum::<u32>(),
            Broken::InFlight,
        )?;
        holds(model.queued == sums.values().map(|sum| count(&sum.queued)).sum::<u32>(), Broken::Queued)?;
        let cells = || self.groups.iter().filter_map(|(_, group)| group.cell(place));
        let weight: u64 = cells().map(|cell| u64::from(cell.counted)).sum();
        holds(model.active_weight == weight, Broken::ActiveWeight)?;
        holds(model.groups.len() == cells().filter(|cell| cell.listed.is_some()).count(), Broken::Line)
    }

    fn check_totals(&self) -> Result<(), Broken> {
        let in_flight: u32 = self.tenants.iter().map(|(_, tenant)| tenant.in_flight).sum();
        let queued: u32 = self.tenants.iter().map(|(_, tenant)| tenant.queued.count).sum();
        holds(self.counts.in_flight == in_flight, Broken::InFlight)?;
        holds(self.counts.queued == queued, Broken::Queued)?;
        let active: u64 = self.groups.iter().map(|(_, group)| u64::from(group.counted)).sum();
        holds(self.counts.active_weight == active, Broken::ActiveWeight)?;
        let tickets = usize::try_from(u64::from(in_flight).saturating_add(u64::from(queued)));
        holds(tickets == Ok(self.tickets.len()), Broken::Queued)?;
        let entries: BTreeSet<(u64, Place)> = self.heaviest.iter().copied().collect();
        let bounded = |(place, tenant): (Place, &Tenant)| {
            let score = tenant.score_of(tenant.queued.cost);
            let entry = tenant.queued.bound.filter(|bound| *bound >= score);
            tenant.queued.count == 0 || entry.is_some_and(|bound| entries.contains(&(bound, place)))
        };
        holds(self.tenants.iter().all(bounded), Broken::Heaviest)?;
        let waits =
            |ticket: &Ticket| matches!(ticket, Ticket::Waiting(waiting) if waiting.deadline.is_some());
        holds(self.deadlines.len() == self.tickets.values().filter(|t| waits(t)).count(), Broken::Queued)
    }

    /// Work conservation without the lines: no lane with room on every level has a ready ticket.
    fn check_eligible(&self) -> Result<(), Broken> {
        let free = self.counts.in_flight < self.slots();
        let open = |place| self.models.at(place).is_some_and(Model::open);
        let eligible = |tenant: &Tenant| {
            !tenant.blocked()
                && tenant
                    .lanes
                    .iter()
                    .any(|lane| open(lane.model) && !self.ready(tenant, lane.model).is_empty())
        };
        let any = self.tenants.iter().any(|(_, tenant)| eligible(tenant)) || self.first(&[]).is_some();
        holds(!(free && any) || self.has_rivals(), Broken::WorkConservation)
    }
}

fn holds(fact: bool, otherwise: Broken) -> Result<(), Broken> {
    fact.then_some(()).ok_or(otherwise)
}
