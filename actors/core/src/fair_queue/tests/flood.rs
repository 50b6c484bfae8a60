//! Tenants that flood, in virtual time: a service of `prompt/5000 + output/50` seconds a slot, and
//! senders that keep a number of requests outstanding.

use super::*;
use std::collections::{BTreeMap, BTreeSet};

/// A sender that replaces each finished request by a new one.
struct Sender {
    tenant: TenantPlan,
    model: ModelPlan,
    outstanding: u32,
    /// Bounds of its output lengths.
    output: (u64, u64),
}

fn sender(tenant: TenantPlan, model: ModelPlan, outstanding: u32) -> Sender {
    Sender { tenant, model, outstanding, output: (50, 550) }
}

struct Flood<'a> {
    queue: FairQueue,
    dice: Dice,
    senders: &'a [Sender],
    /// Sender, start and output of every ticket.
    tickets: BTreeMap<TicketId, (usize, Moment, u64)>,
    ends: BTreeSet<(Moment, TicketId)>,
    /// Tokens finished by each sender since the warm-up.
    tokens: Vec<u64>,
}

impl Flood<'_> {
    fn send(&mut self, now: Moment, from: usize) {
        let sender = &self.senders[from];
        let mut demand = demand(sender.tenant, sender.model);
        demand.max_output_tokens = None;
        let output = self.dice.within(sender.output.0, sender.output.1);
        let ticket = self.queue.enqueue(now, demand).unwrap();
        self.tickets.insert(ticket, (from, now, output));
        self.start_granted(now);
    }

    fn start_granted(&mut self, now: Moment) {
        while let Some(Effect::Grant(grant)) = self.queue.poll_effect() {
            let (_, start, output) = self.tickets.get_mut(&grant.ticket).unwrap();
            *start = now;
            let micros = 100 * 200 + *output * 20_000;
            self.ends.insert((now + Duration::from_micros(micros), grant.ticket));
        }
    }

    /// Weighted service is measured from a fifth of the run on.
    fn run(&mut self, seconds: u64) {
        for from in 0..self.senders.len() {
            for _ in 0..self.senders[from].outstanding {
                self.send(at(0), from);
            }
        }
        while let Some((now, ticket)) = self.ends.pop_first()
            && now < at(seconds)
        {
            let (from, _, output) = self.tickets.remove(&ticket).unwrap();
            if now > at(seconds / 5) {
                self.tokens[from] += 100 + output;
            }
            self.queue.release(now, ticket, Spent::Tokens { prompt: 100, output });
            self.start_granted(now);
            self.send(now, from);
        }
        assert_eq!(self.queue.check(), Ok(()));
    }
}

/// Tokens of each sender after a long flood.
fn flood(slots: u32, seconds: u64, senders: &[Sender]) -> Vec<u64> {
    let mut flood = Flood {
        queue: with_slots(slots),
        dice: Dice(1),
        senders,
        tickets: BTreeMap::new(),
        ends: BTreeSet::new(),
        tokens: vec![0; senders.len()],
    };
    flood.run(seconds);
    flood.tokens
}

fn quotient(a: u64, b: u64) -> f64 {
    f64::from(u32::try_from(a).unwrap()) / f64::from(u32::try_from(b).unwrap())
}

/// Asserts that `tokens[0] : tokens[1]` is `ratio` within `percent`.
fn assert_ratio(tokens: &[u64], ratio: f64, percent: f64) {
    let actual = quotient(tokens[0], tokens[1]);
    assert!((actual / ratio - 1.0).abs() * 100.0 <= percent, "{actual} instead of {ratio}: {tokens:?}");
}

#[test]
fn equal_weights_share_equally_however_many_requests_one_of_them_sends() {
    let m = model(1, None);
    let tokens = flood(8, 12_000, &[sender(tenant(1, 100), m, 8), sender(tenant(2, 100), m, 64)]);
    assert_ratio(&tokens, 1.0, 1.0);
}

#[test]
fn longer_answers_do_not_win_more_tokens() {
    let m = model(1, None);
    let mut long = sender(tenant(1, 100), m, 40);
    long.output = (1000, 3000);
    let tokens = flood(8, 20_000, &[long, sender(tenant(2, 100), m, 40)]);
    assert_ratio(&tokens, 1.0, 2.0);
}

#[test]
fn ten_to_one_in_weight_is_ten_to_one_in_tokens() {
    let m = model(1, None);
    let tokens = flood(16, 12_000, &[sender(tenant(1, 1000), m, 64), sender(tenant(2, 100), m, 64)]);
    assert_ratio(&tokens, 10.0, 2.0);
}

#[test]
fn a_model_four_times_as_dear_gets_a_quarter_of_the_raw_tokens() {
    let mut dear = model(1, None);
    dear.cost_factor = CostFactor::from_hundredths(400).unwrap();
    let senders = [sender(tenant(1, 100), dear, 64), sender(tenant(2, 100), model(2, None), 64)];
    assert_ratio(&flood(16, 12_000, &senders), 0.25, 2.0);
}

#[test]
fn groups_share_by_their_weight_whatever_tenants_they_have() {
    let m = model(1, None);
    let of = |t, g| TenantPlan { group: g, ..tenant(t, 100) };
    let mut senders = vec![sender(of(1, group(1, 300)), m, 64)];
    senders.extend((2..12).map(|t| sender(of(t, group(2, 100)), m, 20)));
    let tokens = flood(16, 12_000, &senders);
    let lab: u64 = tokens[1..].iter().sum();
    assert_ratio(&[tokens[0], lab], 3.0, 2.0);
    let (least, most) = (tokens[1..].iter().min().unwrap(), tokens[1..].iter().max().unwrap());
    assert_ratio(&[*most, *least], 1.0, 10.0);
}

#[test]
fn tenants_of_a_narrow_pool_share_it_by_weight_while_another_pool_is_flooded() {
    let (x, y) = (model(1, Some(4)), model(2, Some(28)));
    for groups in [false, true] {
        let of = |t: u128, weight: u32| match groups {
            false => tenant(t, weight),
            true => TenantPlan { group: group(t, weight), ..tenant(t, 100) },
        };
        let senders = [sender(of(1, 1000), x, 64), sender(of(2, 100), x, 64), sender(of(3, 100), y, 128)];
        let tokens = flood(32, 20_000, &senders);
        let ratio = quotient(tokens[0], tokens[1]);
        assert!((9.0..11.5).contains(&ratio), "{ratio} with groups: {groups}");
        assert_ratio(&[(tokens[0] + tokens[1]) * 28, tokens[2] * 4], 1.0, 3.0);
    }
}

#[test]
fn an_absurd_forecast_changes_nothing_in_the_long_run() {
    let m = model(1, None);
    for cold in [1, 1_000_000] {
        let settings = Settings { slots: 8, cold_forecast_tokens: cold, ..Settings::default() };
        let senders = [sender(tenant(1, 100), m, 30), sender(tenant(2, 100), m, 30)];
        let mut flood = Flood {
            queue: FairQueue::new(settings),
            dice: Dice(3),
            senders: &senders,
            tickets: BTreeMap::new(),
            ends: BTreeSet::new(),
            tokens: vec![0; 2],
        };
        flood.run(10_000);
        assert_ratio(&flood.tokens, 1.0, 1.5);
    }
}

#[test]
fn an_endless_stream_of_newcomers_does_not_starve_one_who_waits() {
    let mut queue = with_slots(4);
    let steady = demand(tenant(1, 100), model(1, None));
    let mut running: VecDeque<TicketId> = VecDeque::new();
    for _ in 0..40 {
        queue.enqueue(at(0), steady.clone()).unwrap();
    }
    let (mut since, mut longest) = (0, 0);
    for step in 0..2000 {
        // Always two newcomers that wait.
        while queue.queued() < 42 - view(&queue, 1).in_flight {
            let fresh = demand(tenant(1000 + u128::from(queue.counts.next_ticket), 100), model(1, None));
            queue.enqueue(at(step), fresh).unwrap();
        }
        while let Some(Effect::Grant(grant)) = queue.poll_effect() {
            since = if grant.tenant == steady.tenant.id { 0 } else { since + 1 };
            if since == 0 {
                queue.enqueue(at(step), steady.clone()).unwrap();
            }
            longest = longest.max(since);
            running.push_back(grant.ticket);
        }
        let ticket = running.pop_front().unwrap();
        queue.release(at(step), ticket, AS_FORECAST);
    }
    assert!(longest <= 60, "{longest} grants went to others in a row");
}
