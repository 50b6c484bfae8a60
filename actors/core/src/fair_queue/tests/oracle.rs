//! A naive scheduler of one model and one group, written from the specification without any index, says
//! in which order grants must come.

use super::*;

const LAG: i128 = 4096 * 100;

#[derive(Clone, Default)]
struct Flow {
    weight: i128,
    tag: i128,
    credit: i128,
    floor: i128,
    activation: u64,
    waiting: VecDeque<(usize, i128)>,
    in_flight: u32,
    cap: u32,
}

#[derive(Default)]
struct Naive {
    slots: u32,
    flows: Vec<Flow>,
    clock: i128,
    carry: i128,
    activations: u64,
    /// Number, flow, charge.
    running: Vec<(usize, usize, i128)>,
    order: Vec<usize>,
}

impl Naive {
    fn arrive(&mut self, number: usize, flow: usize, cost: i128) {
        let f = &mut self.flows[flow];
        if f.waiting.is_empty() {
            self.activations += 1;
            f.activation = self.activations;
            f.tag = f.tag.max(self.clock);
            f.credit = 0;
            f.floor = self.clock;
        }
        f.waiting.push_back((number, cost));
        self.grant();
    }

    fn grant(&mut self) {
        while u32::try_from(self.running.len()).unwrap() < self.slots {
            let able = |f: &Flow| !f.waiting.is_empty() && f.in_flight < f.cap;
            let able = (0..self.flows.len()).filter(|flow| able(&self.flows[*flow]));
            let Some(flow) = able.min_by_key(|flow| (self.flows[*flow].tag, self.flows[*flow].activation))
            else {
                return;
            };
            let f = &mut self.flows[flow];
            let (number, cost) = f.waiting.pop_front().unwrap();
            f.tag = f.tag.max(self.clock - ((LAG + f.credit) << 32) / f.weight);
            self.clock = self.clock.max(f.tag);
            f.tag += (cost << 32) / f.weight;
            f.credit = (f.credit - cost).max(0);
            f.in_flight += 1;
            self.running.push((number, flow, cost));
            self.order.push(number);
        }
    }

    fn finish(&mut self, number: usize, cost: i128) {
        let at = self.running.iter().position(|(n, ..)| *n == number).unwrap();
        let (_, flow, charged) = self.running.remove(at);
        let active = self.flows.iter().filter(|f| !f.waiting.is_empty() || f.in_flight > 0);
        let active: i128 = active.map(|f| f.weight).sum();
        let f = &mut self.flows[flow];
        let change = (cost << 32) / f.weight - (charged << 32) / f.weight;
        f.tag = (f.tag + change).max(f.floor.min(f.tag));
        f.credit += (charged - cost).max(0);
        f.in_flight -= 1;
        let part = (cost << 32) * i128::from(Settings::default().theta_percent) + self.carry;
        self.clock += part / (100 * active);
        self.carry = part % (100 * active);
        self.grant();
    }
}

fn compare(seed: u64) {
    let mut dice = Dice(seed);
    let flows = 2 + dice.index(11);
    let slots = dice.small(1, 8);
    let plans: Vec<TenantPlan> = (0..flows)
        .map(|n| TenantPlan {
            max_in_flight: dice.one_in(3).then(|| dice.small(1, 3)),
            ..tenant(u128::try_from(n).unwrap(), dice.small(1, 500))
        })
        .collect();
    let mut queue = with_slots(slots);
    let flow = |plan: &TenantPlan| Flow {
        weight: i128::from(plan.weight.get()),
        cap: plan.max_in_flight.unwrap_or(u32::MAX),
        ..Flow::default()
    };
    let mut naive = Naive { slots, flows: plans.iter().map(flow).collect(), ..Naive::default() };
    let mut numbers = Vec::new();
    for step in 0..1500 {
        if dice.one_in(2) && numbers.len() - naive.order.len() < 60 {
            let from = dice.index(flows);
            // No output is allowed, so that the forecast is the prompt.
            let prompt = dice.within(16, 2000);
            let demand = Demand {
                prompt_tokens: prompt,
                max_output_tokens: Some(0),
                ..demand(plans[from], model(1, None))
            };
            naive.arrive(numbers.len(), from, i128::from(prompt) * 100);
            numbers.push(queue.enqueue(at(step), demand).unwrap());
        } else if !naive.running.is_empty() {
            let (number, ..) = naive.running[dice.index(naive.running.len())];
            let prompt = dice.within(16, 2000);
            naive.finish(number, i128::from(prompt) * 100);
            assert!(queue.release(at(step), numbers[number], Spent::Tokens { prompt, output: 0 }));
        }
    }
    let order: Vec<TicketId> = naive.order.iter().map(|number| numbers[*number]).collect();
    assert_eq!(granted(&mut queue), order, "seed {seed}");
    assert!(order.len() > 300);
}

#[test]
fn grants_come_in_the_order_a_naive_scheduler_says() {
    for seed in 0..40 {
        compare(seed);
    }
}
