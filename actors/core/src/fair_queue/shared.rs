//! Slots that are shared with other replicas: what this one has of them, and what the others wait for.
//!
//! Is: the queue's side of [`crate::fleet`]. With it the queue has as many slots of the whole, of each capped model and of
//! each capped tenant as were leased to it, and leaves a slot to another replica whose head is before its own by more
//! than one request. Is not: the leases themselves. Alone, the queue knows nothing of it.

use super::account::{Tag, span};
use super::merge::Records;
use super::plan::{Refusal, TicketId};
use super::state::{Tenant, Ticket, Waiting};
use super::{FairQueue, Place};
use crate::fleet::{Pool, Rival, Want, fixed, unfixed};
use crate::ids::{GroupId, TenantId};
use crate::moment::Moment;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Wants named at most: of models, and of capped tenants.
const MODELS: usize = 16;
const TENANTS: usize = 16;
/// Tenants of a line that are counted.
const COUNTED: usize = 16;
/// Of one tenant's requests at two replicas the older goes first, if it has waited twice as long and this. Less would
/// move slots to and fro.
const OLDER: Duration = Duration::from_millis(250);
/// Beyond so many of one kind another one that waits is no news.
const KNOWN: u32 = 8;

/// What the queue has of the fleet's slots.
#[derive(Debug, Default)]
pub(super) struct Shared {
    slots: u32,
    pub(super) records: Records,
    rivals: Vec<Rivalry>,
    /// Tenants with a cap of their own that have requests waiting and a slot of it elsewhere, the smallest tag first.
    pub(super) starved: BTreeSet<(Tag, Place)>,
    /// Tenants whose cap something is leased of.
    leasing: BTreeSet<Place>,
    /// The others cannot be heard of: what is not here is nowhere.
    cut_off: bool,
    /// Wants as last told.
    told: Vec<Wanted>,
}

/// A want as it was told: need, group, tag, count.
type Wanted = (SmallVec<[Pool; 3]>, GroupId, Tag, u32);

/// What another replica waits for.
#[derive(Clone, Debug)]
struct Rivalry {
    need: Vec<Pool>,
    group: GroupId,
    group_tag: Tag,
    tenant: TenantId,
    tag: Tag,
    since: Moment,
}

/// Where a request stands among others: its group's tag, its tenant's within the group, and what one such request moves
/// them by.
struct Stand {
    group: GroupId,
    group_tag: Tag,
    tenant: TenantId,
    tag: Tag,
    since: Moment,
    group_step: Tag,
    step: Tag,
}

impl Stand {
    /// Whether a rival is before it by more than one request; of the same tenant, whether it has waited much longer.
    fn is_behind(&self, now: Moment, rival: &Rivalry) -> bool {
        if rival.tenant == self.tenant {
            now.since(rival.since) > now.since(self.since) * 2 + OLDER
        } else if rival.group == self.group {
            rival.tag.saturating_add(self.step) < self.tag
        } else {
            rival.group_tag.saturating_add(self.group_step) < self.group_tag
        }
    }
}

/// A head that lacks slots.
struct Head {
    need: SmallVec<[Pool; 3]>,
    stand: Stand,
    count: u32,
    /// Weights that share what is granted, of groups and of tenants.
    weights: (u64, u64),
    cost: u64,
}

impl FairQueue {
    /// From now on slots are those that are leased, none at first. `era`: 0, or for a queue that follows one whose totals
    /// are lost, later than any of that one.
    pub fn join_fleet(&mut self, era: u64) {
        self.shared = Some(Box::new(Shared { records: Records::beginning_with(era), ..Shared::default() }));
        for (_, model) in self.models.iter_mut() {
            model.lease = Some(0);
        }
        for (_, tenant) in self.tenants.iter_mut() {
            tenant.lease = Some(0);
        }
    }

    /// Whether slots are shared.
    pub fn is_in_fleet(&self) -> bool {
        self.shared.is_some()
    }

    /// What a new model or tenant has of its cap.
    pub(super) fn first_lease(&self) -> Option<u32> {
        self.shared.is_some().then_some(0)
    }

    /// The era that a new account begins with.
    pub(super) fn first_era(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| shared.records.first_era())
    }

    /// Slots that requests may hold here.
    pub(super) fn slots(&self) -> u32 {
        let slots = self.settings.slots;
        self.shared.as_ref().map_or(slots, |shared| shared.slots.min(slots))
    }

    /// Slots leased to this replica; `None`: they are not shared.
    pub fn leased_slots(&self) -> Option<u32> {
        self.shared.as_ref().map(|shared| shared.slots)
    }

    /// Slots of a pool that requests hold here.
    pub fn in_use(&self, pool: Pool) -> u32 {
        match pool {
            Pool::Slots => self.counts.in_flight,
            Pool::Model(id) => {
                let model = self.models.find(&id).filter(|model| model.plan.max_in_flight.is_some());
                model.map_or(0, |model| model.in_flight)
            }
            Pool::Tenant(id) => {
                let tenant = self.tenants.find(&id).filter(|tenant| tenant.plan.max_in_flight.is_some());
                tenant.map_or(0, |tenant| tenant.in_flight)
            }
        }
    }

    /// The sizes of the pools that are known here. Of tenants those that want something, as far as they are heard, or
    /// have something.
    pub fn caps(&self) -> impl Iterator<Item = (Pool, u32)> {
        let models = self.models.iter().filter(|(_, model)| !model.removed);
        let models =
            models.filter_map(|(_, model)| Some((Pool::Model(model.plan.id), model.plan.max_in_flight?)));
        let starved = self.shared.iter().flat_map(|shared| shared.starved.iter().take(TENANTS));
        let leasing = self.shared.iter().flat_map(|shared| &shared.leasing);
        let tenants = starved.map(|(_, place)| place).chain(leasing).filter_map(|place| {
            let plan = self.tenants.at(*place)?.plan;
            Some((Pool::Tenant(plan.id), plan.max_in_flight?))
        });
        std::iter::once((Pool::Slots, self.settings.slots)).chain(models).chain(tenants)
    }

    /// Virtual time that a fleet may count from.
    pub fn base_for_a_fleet(&self) -> i128 {
        let clocks = self.groups.iter().flat_map(|(_, group)| group.cells.iter().flatten());
        clocks.map(|cell| cell.clock.now()).max().unwrap_or_default()
    }

    /// What is leased now; nothing of pools that are not named, but `floor` of the whole. [`Self::go_on`] afterwards.
    pub fn set_leases(&mut self, held: &BTreeMap<Pool, u32>, floor: u32) {
        let lease = |pool: Pool| held.get(&pool).copied().unwrap_or_default();
        let Some(shared) = self.shared.as_mut() else { return };
        shared.slots = lease(Pool::Slots).max(floor);
        for (_, model) in self.models.iter_mut() {
            model.lease = Some(lease(Pool::Model(model.plan.id)));
        }
        let named = held.iter().filter_map(|(pool, held)| match pool {
            Pool::Tenant(id) if *held > 0 => self.tenants.place(id),
            Pool::Tenant(_) | Pool::Slots | Pool::Model(_) => None,
        });
        let named: BTreeSet<Place> = named.collect();
        let before = std::mem::replace(&mut shared.leasing, named.clone());
        for place in before.union(&named).copied() {
            let Some(tenant) = self.tenants.at_mut(place) else { continue };
            let leased = Some(lease(Pool::Tenant(tenant.plan.id)));
            if tenant.lease != leased {
                tenant.lease = leased;
                self.refresh(place);
            }
        }
    }

    /// Whether the others cannot be heard of. Then who waits for slots of which nothing is here, and nothing can come, is
    /// refused.
    pub fn set_cut_off(&mut self, cut_off: bool) {
        let Some(shared) = self.shared.as_mut() else { return };
        shared.cut_off = cut_off;
        if cut_off && self.counts.queued > 0 {
            let waiting = self.tickets.iter().filter_map(|(id, ticket)| match ticket {
                Ticket::Waiting(waiting) if self.is_nowhere(waiting) => Some((*id, *waiting)),
                Ticket::Waiting(_) | Ticket::Seated(_) => None,
            });
            let mut waiting: Vec<_> = waiting.collect();
            waiting.sort_unstable_by_key(|(id, _)| *id);
            for (id, waiting) in waiting {
                self.dismiss(id, &waiting, Refusal::StoreAway { queued: true });
            }
        }
    }

    /// Whether it needs a slot of a pool that nothing is here of, and nothing can come of.
    pub(super) fn is_nowhere(&self, waiting: &Waiting) -> bool {
        if !self.shared.as_ref().is_some_and(|shared| shared.cut_off) {
            return false;
        }
        let Some(tenant) = self.tenants.at(waiting.tenant) else { return false };
        let lacks = self.lacks(tenant, waiting.model);
        lacks.iter().any(|pool| self.leased(tenant, waiting.model, *pool) == 0 && self.in_use(*pool) == 0)
    }

    /// What others wait for, as it was `at` that time, tags counted from `base`.
    pub fn set_rivals(&mut self, base: i128, at: Moment, rivals: &[Rival]) {
        let Some(shared) = self.shared.as_mut() else { return };
        let rivalry = |rival: &Rival| Rivalry {
            need: rival.need.clone(),
            group: rival.group,
            group_tag: unfixed(base, rival.group_tag),
            tenant: rival.tenant,
            tag: unfixed(base, rival.tag),
            since: Moment::from_micros(at.as_micros().saturating_sub(rival.age.saturating_mul(1000))),
        };
        shared.rivals = rivals.iter().map(rivalry).collect();
    }

    /// Grants what may be granted, after leases or rivals have changed.
    pub fn go_on(&mut self, now: Moment) {
        self.note_time(now);
        self.dispatch(now);
    }

    /// Whether others wait.
    pub(super) fn has_rivals(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| !shared.rivals.is_empty())
    }

    /// Whether a request must leave its slots to another replica, whose head is before it by more than one request.
    pub(super) fn yields(&self, waiting: &Waiting, arrives: bool) -> bool {
        if !self.has_rivals() {
            return false;
        }
        let Some(shared) = &self.shared else { return false };
        let Some(tenant) = self.tenants.at(waiting.tenant) else { return false };
        let Some(mut stand) = self.stand(tenant, waiting) else { return false };
        if arrives {
            self.lift(tenant, waiting, &mut stand);
        }
        let pools = self.pools_of(tenant, waiting.model);
        let same = |rival: &&Rivalry| rival.need.iter().all(|pool| pools.contains(pool));
        shared.rivals.iter().filter(same).any(|rival| stand.is_behind(self.watch.now, rival))
    }

    /// As it would stand after its arrival.
    fn lift(&self, tenant: &Tenant, waiting: &Waiting, stand: &mut Stand) {
        let Some(group) = self.groups.at(tenant.group) else { return };
        let Some(model) = self.models.at(waiting.model) else { return };
        if tenant.queued.count == 0 {
            stand.tag = stand.tag.max(group.clock(waiting.model));
        }
        if group.queued == 0 {
            stand.group_tag = stand.group_tag.max(model.clock.now());
        }
    }

    fn stand(&self, tenant: &Tenant, waiting: &Waiting) -> Option<Stand> {
        let group = self.groups.at(tenant.group)?;
        Some(Stand {
            group: group.plan.id,
            group_tag: group.account.tag,
            tenant: tenant.plan.id,
            since: waiting.since,
            tag: tenant.account.tag,
            group_step: span(waiting.cost, group.plan.weight),
            step: span(waiting.cost, tenant.plan.weight),
        })
    }

    /// What a request of this tenant on this model takes a slot of.
    fn pools_of(&self, tenant: &Tenant, model: Place) -> SmallVec<[Pool; 3]> {
        let mut pools: SmallVec<[Pool; 3]> = SmallVec::new();
        pools.push(Pool::Slots);
        let model = self.models.at(model).filter(|model| model.plan.max_in_flight.is_some());
        pools.extend(model.map(|model| Pool::Model(model.plan.id)));
        pools.extend(tenant.plan.max_in_flight.map(|_| Pool::Tenant(tenant.plan.id)));
        pools
    }

    /// What is here of a pool of [`Self::pools_of`].
    fn leased(&self, tenant: &Tenant, model: Place, pool: Pool) -> u32 {
        match pool {
            Pool::Slots => self.slots(),
            Pool::Model(_) => self.models.at(model).and_then(|model| model.lease).unwrap_or(u32::MAX),
            Pool::Tenant(_) => tenant.lease.unwrap_or(u32::MAX),
        }
    }

    /// The slots that a request lacks.
    fn lacks(&self, tenant: &Tenant, model: Place) -> SmallVec<[Pool; 3]> {
        let lacking = |pool: &Pool| self.in_use(*pool) >= self.leased(tenant, model, *pool);
        self.pools_of(tenant, model).into_iter().filter(lacking).collect()
    }

    /// Whether all there is of a pool is here already.
    fn is_all_here(&self, tenant: &Tenant, model: Place, pool: Pool) -> bool {
        let cap = match pool {
            Pool::Slots => Some(self.settings.slots),
            Pool::Model(_) => self.models.at(model).and_then(|model| model.plan.max_in_flight),
            Pool::Tenant(_) => tenant.plan.max_in_flight,
        };
        cap.is_some_and(|cap| self.leased(tenant, model, pool) >= cap)
    }

    fn head(&self, ticket: TicketId, count: u32) -> Option<Head> {
        let Some(Ticket::Waiting(waiting)) = self.tickets.get(&ticket) else { return None };
        let tenant = self.tenants.at(waiting.tenant)?;
        let cell = self.groups.at(tenant.group)?.cell(waiting.model)?;
        let need = self.lacks(tenant, waiting.model);
        if need.is_empty() || need.iter().any(|pool| self.is_all_here(tenant, waiting.model, *pool)) {
            // It waits for what is here.
            return None;
        }
        Some(Head {
            need,
            stand: self.stand(tenant, waiting)?,
            count: count.max(1),
            weights: (self.models.at(waiting.model)?.active_weight.max(1), cell.active_weight.max(1)),
            cost: waiting.cost,
        })
    }

    /// The head of each line that slots of other replicas are lacking for; of many those with the smallest tags.
    fn heads(&self) -> Vec<Head> {
        let Some(shared) = &self.shared else { return Vec::new() };
        let of_model = |(place, model): (Place, &super::state::Model)| {
            let (_, _, group) = model.groups.first()?;
            let line = &self.groups.at(*group)?.cell(place)?.line;
            let ready = |tenant: &Place| self.tenants.at(*tenant)?.lane(place).map(|lane| &lane.ready);
            let ticket = ready(&line.first()?.2)?.first()?;
            let counts =
                line.iter().take(COUNTED).filter_map(|(_, _, tenant)| ready(tenant)).map(BTreeSet::len);
            self.head(*ticket, u32::try_from(counts.sum::<usize>()).unwrap_or(u32::MAX))
        };
        let mut heads: Vec<Head> = self.models.iter().filter_map(of_model).collect();
        if heads.len() > MODELS {
            heads.sort_by_key(|head| (head.stand.group_tag, head.stand.tag));
            heads.truncate(MODELS);
        }
        let of_tenant = |(_, place): &(Tag, Place)| {
            let tenant = self.tenants.at(*place)?;
            let oldest = tenant.lanes.iter().filter_map(|lane| lane.ready.first()).min()?;
            let ready = tenant.lanes.iter().map(|lane| lane.ready.len()).sum::<usize>();
            let room = tenant.plan.max_in_flight?.saturating_sub(tenant.in_flight);
            self.head(*oldest, u32::try_from(ready).unwrap_or(u32::MAX).min(room.max(1)))
        };
        heads.extend(shared.starved.iter().take(TENANTS).filter_map(of_tenant));
        heads
    }

    /// What is wanted of the fleet, tags counted from `base`. Notes it as told.
    pub fn wants(&mut self, now: Moment, base: i128) -> Vec<Want> {
        let heads = self.heads();
        let Some(shared) = self.shared.as_mut() else { return Vec::new() };
        shared.told = heads
            .iter()
            .map(|head| (head.need.clone(), head.stand.group, head.stand.tag, head.count))
            .collect();
        let most = self.settings.slots;
        let want = |head: Head| {
            let per = |weight: u64| {
                let cost = i128::from(head.cost).saturating_mul(1 << 32) / i128::from(weight);
                fixed(0, cost)
            };
            Want {
                group: head.stand.group,
                tenant: head.stand.tenant,
                age: u64::try_from(now.since(head.stand.since).as_millis()).unwrap_or(u64::MAX),
                group_tag: fixed(base, head.stand.group_tag),
                tag: fixed(base, head.stand.tag),
                group_step: per(head.weights.0),
                step: per(head.weights.1),
                count: head.count.min(most.max(1)),
                need: head.need.into_vec(),
            }
        };
        heads.into_iter().map(want).collect()
    }

    /// Whether something is wanted that was not told: of another kind, earlier, or more of what were few.
    pub fn wants_more(&self) -> bool {
        let Some(shared) = &self.shared else { return false };
        if self.counts.queued == 0 {
            return false;
        }
        self.heads().iter().any(|head| {
            // Several models may lack the same.
            let kind = |(need, group, ..): &&Wanted| *need == head.need && *group == head.stand.group;
            let known = || shared.told.iter().filter(kind);
            let earlier = known().all(|(_, _, tag, _)| head.stand.tag < *tag);
            earlier || known().all(|(_, _, _, count)| head.count > *count && *count < KNOWN)
        })
    }
}
