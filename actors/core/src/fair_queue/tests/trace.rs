//! What each flow was given and what it was charged, and the bound on how far two flows may drift apart.
//!
//! A flow is a tenant among those of its group, or a group among the groups. Its service x is the true
//! cost of what it was granted, per weight; e is what it is charged beyond that for what still runs. The
//! queue chooses by x + e, so while two flows f and g compete without a break, x_f - x_g rises only from
//! at most E = D_f·ε_f/w_f + D_g·ε_g/w_g and by at most c_f/w_f, and falls likewise. Hence it stays in an
//! interval of length c_f/w_f + c_g/w_g + 2E once it is in there, and only comes nearer as long as it is
//! not. c, D and ε are recorded, not assumed.

use super::*;
use account::{Tag, span};
use std::collections::BTreeMap;

/// What happened, in order.
#[derive(Clone, Copy, Debug)]
enum Event {
    Grant {
        flow: usize,
        ticket: TicketId,
        charged: u64,
    },
    Charge {
        flow: usize,
        ticket: TicketId,
        charged: u64,
    },
    End {
        flow: usize,
        ticket: TicketId,
    },
    /// From here on the flow competes, and its tag changes by charges only. `base` is its tag without
    /// what is charged for running requests.
    Steady {
        flow: usize,
        base: Tag,
        weight: Share,
    },
    /// It does no longer.
    Break {
        flow: usize,
    },
    /// The end of one call of the queue.
    Settled,
}

/// What the trace itself must know to see breaks.
#[derive(Clone, Debug)]
struct Flow {
    weight: Share,
    /// While steady: its tag without the charges since then.
    base: Option<Tag>,
    /// Spans of what ended since then.
    ended: Tag,
    out: BTreeMap<TicketId, u64>,
}

/// See the module head.
#[derive(Debug, Default)]
pub struct Trace {
    flows: Vec<Flow>,
    events: Vec<Event>,
    /// True cost of every ticket that was granted.
    costs: BTreeMap<TicketId, u64>,
}

/// How a stretch in which two flows competed went. Gap and bound in the unit of tags.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    pub gap: Tag,
    pub bound: Tag,
    /// Grants to either of them.
    pub grants: u32,
}

impl Trace {
    pub fn of(flows: usize) -> Self {
        let flow = Flow { weight: Share::DEFAULT, base: None, ended: 0, out: BTreeMap::new() };
        Self { flows: vec![flow; flows], ..Self::default() }
    }

    pub fn grant(&mut self, flow: usize, ticket: TicketId, charged: u64, cost: u64) {
        self.costs.insert(ticket, cost);
        self.flows[flow].out.insert(ticket, charged);
        self.events.push(Event::Grant { flow, ticket, charged });
    }

    pub fn charge(&mut self, flow: usize, ticket: TicketId, charged: u64) {
        self.flows[flow].out.insert(ticket, charged);
        self.events.push(Event::Charge { flow, ticket, charged });
    }

    pub fn end(&mut self, flow: usize, ticket: TicketId) {
        let f = &mut self.flows[flow];
        f.out.remove(&ticket).unwrap();
        f.ended += span(self.costs[&ticket], f.weight);
        self.events.push(Event::End { flow, ticket });
    }

    /// How a flow stands after a call of the queue. By how much its tag was moved other than by charges
    /// while it competed.
    pub fn observe(&mut self, flow: usize, weight: Share, tag: Tag, competes: bool) -> Tag {
        let f = &mut self.flows[flow];
        let charged: Tag = f.out.values().map(|charged| span(*charged, f.weight)).sum();
        let expected = f.base.map(|base| base + f.ended + charged);
        let reweighed = f.weight != weight;
        if competes && expected == Some(tag) && !reweighed {
            return 0;
        }
        if f.base.take().is_some() {
            self.events.push(Event::Break { flow });
        }
        if !competes {
            return 0;
        }
        let charged: Tag = f.out.values().map(|charged| span(*charged, weight)).sum();
        *f = Flow { weight, base: Some(tag - charged), ended: 0, out: std::mem::take(&mut f.out) };
        self.events.push(Event::Steady { flow, base: tag - charged, weight });
        expected.filter(|_| !reweighed).map_or(0, |expected| tag - expected)
    }

    pub fn settled(&mut self) {
        self.events.push(Event::Settled);
    }

    /// How often flows began to compete.
    pub fn beginnings(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Steady { .. })).count()
    }

    /// Service of a flow per weight, all in all.
    pub fn service(&self, flow: usize) -> Tag {
        let weight = self.flows[flow].weight;
        let grants = self.events.iter().filter_map(|event| match event {
            Event::Grant { flow: of, ticket, .. } if *of == flow => Some(span(self.costs[ticket], weight)),
            _ => None,
        });
        grants.sum()
    }

    /// Every stretch in which both competed. Panics where the bound does not hold.
    pub fn compare(&self, f: usize, g: usize) -> Vec<Stretch> {
        let mut pair = Pair {
            trace: self,
            names: [f, g],
            sides: [Side::default(), Side::default()],
            gaps: vec![],
            fresh: vec![],
            grants: 0,
            stretches: vec![],
        };
        self.events.iter().for_each(|event| pair.follow(event));
        pair.close();
        pair.stretches
    }
}

/// One of two flows that are compared.
#[derive(Default)]
struct Side {
    weight: Option<Share>,
    steady: bool,
    service: Tag,
    out: BTreeMap<TicketId, u64>,
    /// c, ε and D since both compete, in cost units and requests.
    cost: u64,
    error: u64,
    running: usize,
}

impl Side {
    fn note(&mut self, costs: &BTreeMap<TicketId, u64>) {
        let errors = self.out.iter().map(|(ticket, charged)| charged.abs_diff(costs[ticket]));
        self.error = self.error.max(errors.max().unwrap_or(0));
        self.running = self.running.max(self.out.len());
    }

    /// D·ε/w, and what rounding may add.
    fn most_error(&self) -> Tag {
        let running = Tag::try_from(self.running).unwrap();
        running * (self.weight.map_or(0, |weight| span(self.error, weight)) + 2)
    }

    fn most_cost(&self) -> Tag {
        self.weight.map_or(0, |weight| span(self.cost, weight)) + 1
    }
}

struct Pair<'a> {
    trace: &'a Trace,
    names: [usize; 2],
    sides: [Side; 2],
    /// x_f - x_g at the beginning and after each grant, up to where the queue had settled last.
    gaps: Vec<Tag>,
    /// The same since then. Void if one of them stops before it settles: the other may have been alone.
    fresh: Vec<Tag>,
    grants: u32,
    stretches: Vec<Stretch>,
}

impl Pair<'_> {
    fn follow(&mut self, event: &Event) {
        let both = self.sides[0].steady && self.sides[1].steady;
        let side = |flow: usize| self.names.iter().position(|name| *name == flow);
        match *event {
            Event::Grant { flow, ticket, charged } => {
                let Some(side) = side(flow) else { return };
                let cost = self.trace.costs[&ticket];
                let s = &mut self.sides[side];
                s.out.insert(ticket, charged);
                s.service += s.weight.map_or(0, |weight| span(cost, weight));
                s.cost = s.cost.max(cost);
                s.note(&self.trace.costs);
                self.grants += 1;
                if both {
                    self.fresh.push(self.gap());
                }
            }
            Event::Charge { flow, ticket, charged } => {
                let Some(side) = side(flow) else { return };
                self.sides[side].out.insert(ticket, charged);
                self.sides[side].note(&self.trace.costs);
            }
            Event::End { flow, ticket } => {
                let Some(side) = side(flow) else { return };
                self.sides[side].out.remove(&ticket).unwrap();
            }
            Event::Steady { flow, base, weight } => {
                let Some(side) = side(flow) else { return };
                let s = &mut self.sides[side];
                let running: Tag = s.out.keys().map(|t| span(self.trace.costs[t], weight)).sum();
                (s.weight, s.steady, s.service) = (Some(weight), true, base + running);
                if self.sides[0].steady && self.sides[1].steady {
                    self.begin();
                }
            }
            Event::Break { flow } => {
                let Some(side) = side(flow) else { return };
                self.close();
                self.sides[side].steady = false;
            }
            Event::Settled => {
                if both {
                    self.gaps.append(&mut self.fresh);
                }
                self.fresh.clear();
            }
        }
    }

    fn gap(&self) -> Tag {
        self.sides[0].service - self.sides[1].service
    }

    fn begin(&mut self) {
        for side in &mut self.sides {
            (side.cost, side.error, side.running) = (0, 0, 0);
            side.note(&self.trace.costs);
        }
        self.gaps = vec![self.gap()];
        self.grants = 0;
    }

    /// Judges the stretch that ends here, up to where the queue had settled last.
    fn close(&mut self) {
        self.fresh.clear();
        let gaps = std::mem::take(&mut self.gaps);
        if gaps.len() < 2 {
            return;
        }
        let [f, g] = &self.sides;
        let error = f.most_error() + g.most_error();
        let (low, high) = (-error - g.most_cost(), error + f.most_cost());
        for pair in gaps.windows(2) {
            let fine = (pair[1] <= high || pair[1] <= pair[0]) && (pair[1] >= low || pair[1] >= pair[0]);
            assert!(fine, "flows {:?}: the gap goes from {pair:?} out of {low}..{high}", self.names);
        }
        let gap = gaps.iter().max().unwrap() - gaps.iter().min().unwrap();
        self.stretches.push(Stretch { gap, bound: high - low, grants: self.grants });
    }
}
