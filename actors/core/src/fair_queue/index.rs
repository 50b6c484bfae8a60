//! Who stands in which line, and who is next.
//!
//! `refresh` is the only writer of derived state: places in lines, sums of active weights. Every operation changes plain facts (tags, counters, queues) and then refreshes the
//! tenant, so that no wake-up can be forgotten in one of them. Invariant: a tenant stands in the line of
//! (its group, model) exactly while a ticket is ready in that lane and the tenant is not at its cap.

use super::account::Tag;
use super::plan::TicketId;
use super::planted::{Fault, planted};
use super::state::Model;
use super::{Counts, FairQueue, Place};
use std::collections::BTreeSet;

impl FairQueue {
    /// Brings the lines and sums of a tenant and of its group in line with the facts.
    pub(super) fn refresh(&mut self, tenant: Place) {
        self.list_tenant(tenant, true);
        if let Some(group) = self.tenants.at(tenant).map(|tenant| tenant.group) {
            self.refresh_group(group);
        }
    }

    /// Takes a tenant out of every line and sum of its group, before it moves or goes.
    pub(super) fn withdraw(&mut self, tenant: Place) {
        self.list_tenant(tenant, false);
        if let Some(group) = self.tenants.at(tenant).map(|tenant| tenant.group) {
            self.refresh_group(group);
        }
    }

    fn list_tenant(&mut self, place: Place, present: bool) {
        let Self { tenants, groups, counts, watch, shared, .. } = self;
        let Some(tenant) = tenants.at_mut(place) else { return };
        let Some(group) = groups.at_mut(tenant.group) else { return };
        let mut contends = false;
        let eligible = present && !tenant.blocked();
        let next = if planted(Fault::FinishTagDecides) { tenant.span_of_next() } else { 0 };
        let stand = (tenant.account.tag.saturating_add(next), tenant.activation);
        let weight = tenant.plan.weight.get();
        for lane in &mut tenant.lanes {
            let listed = (eligible && !lane.ready.is_empty()).then_some(stand);
            contends |= listed.is_some();
            let active = lane.is_active() || (planted(Fault::StaysActive) && lane.counted > 0);
            let counted = if present && active { weight } else { 0 };
            if lane.listed == listed && lane.counted == counted {
                continue;
            }
            let Some(cell) = group.cell_mut(lane.model) else { continue };
            relist(&mut cell.line, &mut lane.listed, listed, place, counts);
            resum(&mut cell.active_weight, &mut lane.counted, counted);
        }
        if let Some(shared) = shared {
            shared.records.note_tenant(place);
            let elsewhere = tenant.lease < tenant.plan.max_in_flight;
            let starved = present && tenant.blocked() && tenant.queued.count > 0 && elsewhere;
            let starved = starved.then_some(tenant.account.tag);
            if tenant.starved != starved {
                if let Some(tag) = tenant.starved {
                    shared.starved.remove(&(tag, place));
                }
                shared.starved.extend(starved.map(|tag| (tag, place)));
                tenant.starved = starved;
            }
        }
        tenant.contends_since = contends.then(|| tenant.contends_since.unwrap_or(watch.now));
        let counted = if present && !tenant.is_idle() { weight } else { 0 };
        resum(&mut group.active_weight, &mut tenant.counted, counted);
    }

    /// The same for a group among the groups of each model.
    pub(super) fn refresh_group(&mut self, place: Place) {
        let Self { groups, models, counts, shared, .. } = self;
        let Some(group) = groups.at_mut(place) else { return };
        if let Some(shared) = shared {
            shared.records.note_group(place);
        }
        let stand = (group.account.tag, group.activation);
        let weight = group.plan.weight.get();
        for (model, cell) in group.cells.iter_mut().enumerate() {
            let Some(cell) = cell else { continue };
            let listed = (!cell.line.is_empty()).then_some(stand);
            let counted = if cell.active_weight > 0 { weight } else { 0 };
            if cell.listed == listed && cell.counted == counted {
                continue;
            }
            let Some(model) = models.at_mut(model) else { continue };
            relist(&mut model.groups, &mut cell.listed, listed, place, counts);
            resum(&mut model.active_weight, &mut cell.counted, counted);
        }
        let counted = if group.active_weight > 0 { weight } else { 0 };
        resum(&mut counts.active_weight, &mut group.counted, counted);
    }

    /// The ticket that is next, if any may go: among the groups with a line at an open model the one
    /// with the smallest tag, in it the tenant with the smallest tag, of it the oldest ticket. Pools `left` to others count as closed.
    pub(super) fn pick(&mut self, left: &[Place]) -> Option<TicketId> {
        self.counts.operations = self.counts.operations.wrapping_add(1);
        self.first(left)
    }

    /// [`Self::pick`] without counting.
    pub(super) fn first(&self, left: &[Place]) -> Option<TicketId> {
        let open = |place: Place, model: &Model| {
            (model.open() || planted(Fault::FullPoolBlocks)) && !left.contains(&place)
        };
        let open = || self.models.iter().filter(|(place, model)| open(*place, model));
        let (_, _, group) = open().filter_map(|(_, model)| model.groups.first()).min()?;
        let group = self.groups.at(*group)?;
        let lines = open().filter_map(|(place, _)| group.cell(place));
        let (_, _, tenant) = lines.filter_map(|cell| cell.line.first()).min()?;
        let lanes = self.tenants.at(*tenant)?.lanes.iter();
        let ready = lanes.filter(|lane| {
            self.models.at(lane.model).is_some_and(Model::open) && !left.contains(&lane.model)
        });
        if planted(Fault::NewestFirst) {
            return ready.filter_map(|lane| lane.ready.last()).max().copied();
        }
        ready.filter_map(|lane| lane.ready.first()).min().copied()
    }
}

/// Moves one member of an ordered line from where it stands to where it should.
fn relist(
    line: &mut BTreeSet<(Tag, u64, Place)>,
    stands: &mut Option<(Tag, u64)>,
    should: Option<(Tag, u64)>,
    place: Place,
    counts: &mut Counts,
) {
    if *stands == should {
        return;
    }
    if let Some((tag, activation)) = *stands {
        counts.step(line.len());
        line.remove(&(tag, activation, place));
    }
    if let Some((tag, activation)) = should {
        counts.step(line.len());
        line.insert((tag, activation, place));
    }
    *stands = should;
}

/// Replaces one member's part of a sum of weights.
fn resum(sum: &mut u64, counted: &mut u32, should: u32) {
    *sum = sum.saturating_sub(u64::from(*counted)).saturating_add(u64::from(should));
    *counted = should;
}
