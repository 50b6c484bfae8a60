//! The virtual clock: arrivals from the trace, ends and corrections of what runs, senders that leave.
//!
//! At one instant deadlines go first, then what runs or leaves, in the order it was set, then arrivals.

use super::directory::Directory;
use super::events::{Events, Kind};
use super::report::Report;
use super::scenario::{Pool, Scenario};
use super::scheduler::Scheduler;
use super::tally::{Granted, Tally};
use super::trace::{Reader, Request};
use super::{Stop, report};
use obleth_core::fair_queue::{Demand, Effect, Grant, Spent, TicketId};
use obleth_core::moment::Moment;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::BufRead;
use std::time::Duration;

/// A running request is looked at this often, or every so many tokens if that is sooner.
const TICK_MICROS: u64 = 250_000;
const TICK_TOKENS: u64 = 64;

/// Replays a trace.
pub(super) fn replay<S: Scheduler>(
    queue: S,
    scenario: Scenario,
    trace: impl BufRead,
    events: &mut Events<'_>,
) -> Result<Report, Stop> {
    let Scenario { pool, directory } = scenario;
    let tally = Tally::new(pool.slots);
    let mut engine = Engine {
        queue,
        pool,
        directory,
        alarms: BinaryHeap::new(),
        alarms_set: 0,
        live: HashMap::new(),
        tally,
        events,
    };
    let end = engine.run(&mut Reader::new(trace))?;
    Ok(report::of(engine.tally, &engine.directory, end))
}

struct Engine<'a, 'b, S> {
    queue: S,
    pool: Pool,
    directory: Directory,
    /// What is due, in order of time and of setting. Those of tickets that are gone mean nothing.
    alarms: BinaryHeap<Reverse<(Moment, u64, TicketId)>>,
    alarms_set: u64,
    /// Everything that waits or runs. Its order decides nothing.
    live: HashMap<TicketId, Live>,
    tally: Tally,
    events: &'a mut Events<'b>,
}

struct Live {
    request: Request,
    run: Option<Run>,
}

/// A request that holds a slot.
#[derive(Clone, Copy)]
struct Run {
    /// When its prompt is read and the first token comes.
    decodes: Moment,
    ends: Moment,
    /// How it ends.
    how: Kind,
    /// What it will have produced.
    output: u64,
}

impl<S: Scheduler> Engine<'_, '_, S> {
    /// The time at which the run ended.
    fn run(&mut self, trace: &mut Reader<impl BufRead>) -> Result<Moment, Stop> {
        let mut next = trace.next(&mut self.directory)?;
        let mut last = Moment::ZERO;
        while let Some(now) = self.next_instant(next.as_ref()) {
            last = now;
            self.tally.advance(now);
            self.queue.expire(now);
            self.collect(now)?;
            while let Some(Reverse((_, _, ticket))) = self.due(now) {
                self.ring(now, ticket)?;
                self.collect(now)?;
            }
            while let Some(request) = next.filter(|request| request.at <= now) {
                self.arrive(now, request)?;
                self.collect(now)?;
                next = trace.next(&mut self.directory)?;
            }
        }
        let end = self.pool.end.unwrap_or(last);
        self.tally.advance(end);
        self.count_unfinished(end);
        Ok(end)
    }

    fn next_instant(&self, next: Option<&Request>) -> Option<Moment> {
        let alarm = self.alarms.peek().map(|Reverse((at, _, _))| *at);
        let arrival = next.map(|request| request.at);
        let now = [alarm, arrival, self.queue.next_wakeup()].into_iter().flatten().min()?;
        self.pool.end.is_none_or(|end| now <= end).then_some(now)
    }

    fn due(&mut self, now: Moment) -> Option<Reverse<(Moment, u64, TicketId)>> {
        let Reverse((at, _, _)) = self.alarms.peek()?;
        if *at <= now { self.alarms.pop() } else { None }
    }

    fn set_alarm(&mut self, at: Moment, ticket: TicketId) {
        self.alarms_set = self.alarms_set.saturating_add(1);
        self.alarms.push(Reverse((at, self.alarms_set, ticket)));
    }

    fn arrive(&mut self, now: Moment, request: Request) -> Result<(), Stop> {
        let Request { tenant, model, .. } = request;
        let (Some(of), Some(on)) = (self.directory.tenant(tenant), self.directory.model(model)) else {
            return Ok(());
        };
        let demand = Demand {
            tenant: of.plan,
            model: *on,
            key: None,
            prompt_tokens: request.prompt,
            max_output_tokens: request.max_output,
            answers: 1,
            deadline: self.pool.timeout.map(|timeout| now + timeout),
        };
        self.tally.meet(tenant, of, model, on);
        let Ok((ticket, grant)) = self.queue.arrive(now, demand) else {
            self.tally.rejected(tenant);
            return self.tell(now, Kind::Reject, &request);
        };
        self.live.insert(ticket, Live { request, run: None });
        self.tell(now, Kind::Enqueue, &request)?;
        self.tally.arrived(now, tenant, model, grant.is_some());
        if let Some(leaves) = request.leaves {
            self.set_alarm(leaves, ticket);
        }
        match grant {
            Some(grant) => self.start(now, grant),
            None => Ok(()),
        }
    }

    /// Does what the scheduler says.
    fn collect(&mut self, now: Moment) -> Result<(), Stop> {
        while let Some(effect) = self.queue.poll_effect() {
            match effect {
                Effect::Grant(grant) => self.start(now, grant)?,
                Effect::Refuse { ticket, .. } => {
                    if let Some(Live { request, .. }) = self.live.remove(&ticket) {
                        self.tally.left(now, request.tenant, request.model, Kind::Timeout);
                        self.tell(now, Kind::Timeout, &request)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, now: Moment, grant: Grant) -> Result<(), Stop> {
        let Some(live) = self.live.get_mut(&grant.ticket) else { return Ok(()) };
        let request = live.request;
        let run = self.pool.run_of(now, &request);
        live.run = Some(run);
        self.tally.granted(&Granted {
            now,
            tenant: request.tenant,
            model: request.model,
            waited: now.since(request.at),
            queued: grant.queued,
            prompt: request.prompt,
            output: run.output,
            forecast: grant.forecast_tokens,
        });
        self.set_alarm(self.pool.first_look(&run, grant.forecast_tokens), grant.ticket);
        self.tell(now, Kind::Grant, &request)
    }

    /// An alarm of a ticket: a sender leaves the queue, a running request ends or is looked at.
    fn ring(&mut self, now: Moment, ticket: TicketId) -> Result<(), Stop> {
        let Some(Live { request, run }) = self.live.get(&ticket) else { return Ok(()) };
        let request = *request;
        let Some(run) = *run else {
            self.live.remove(&ticket);
            self.queue.cancel(now, ticket);
            self.tally.left(now, request.tenant, request.model, Kind::Cancel);
            return self.tell(now, Kind::Cancel, &request);
        };
        if now >= run.ends {
            self.live.remove(&ticket);
            self.tally.ended(request.tenant, request.model, run.how);
            self.tally.served(request.tenant, request.prompt, run.output);
            self.tell(now, run.how, &request)?;
            let spent = Spent::Tokens { prompt: request.prompt, output: run.output };
            self.queue.release(now, ticket, spent);
        } else {
            let produced = self.pool.produced(&run, now);
            self.queue.progress(now, ticket, request.prompt, produced);
            self.set_alarm(run.ends.min(now + self.pool.tick()), ticket);
        }
        Ok(())
    }

    /// What runs when the time is up counts with what it has produced.
    fn count_unfinished(&mut self, end: Moment) {
        let Self { live, pool, tally, .. } = self;
        for Live { request, run } in live.values() {
            if let Some(run) = run {
                tally.served(request.tenant, pool.prefilled(run, request, end), pool.produced(run, end));
            }
        }
    }

    fn tell(&mut self, now: Moment, kind: Kind, request: &Request) -> Result<(), Stop> {
        let name = self.directory.tenant_name(request.tenant);
        self.events.write(now, kind, request.id, name).map_err(Stop::Write)
    }
}

impl Pool {
    /// The course of a request that starts now.
    fn run_of(&self, now: Moment, request: &Request) -> Run {
        let decodes = now + Duration::from_micros(self.prefill.time(request.prompt));
        let ends = decodes + Duration::from_micros(self.decode.time(request.output));
        let run = Run { decodes, ends, how: Kind::Finish, output: request.output };
        match request.leaves.filter(|leaves| *leaves < ends) {
            None => run,
            Some(leaves) => {
                Run { ends: leaves, how: Kind::Cancel, output: self.produced(&run, leaves), ..run }
            }
        }
    }

    /// Output of a run up to now.
    fn produced(&self, run: &Run, now: Moment) -> u64 {
        self.decode.tokens(micros(now.since(run.decodes))).min(run.output)
    }

    /// How much of its prompt a run has read by now.
    fn prefilled(&self, run: &Run, request: &Request, now: Moment) -> u64 {
        request.prompt.saturating_sub(self.prefill.tokens(micros(run.decodes.since(now))))
    }

    fn tick(&self) -> Duration {
        Duration::from_micros(self.decode.time(TICK_TOKENS).min(TICK_MICROS))
    }

    /// The first tick at which a run is beyond its forecast, before which a report would change nothing;
    /// or its end.
    fn first_look(&self, run: &Run, forecast: u64) -> Moment {
        if forecast >= run.output {
            return run.ends;
        }
        let (tick, beyond) = (micros(self.tick()), self.decode.time(forecast.saturating_add(1)));
        let ticks = beyond.div_ceil(tick);
        run.ends.min(run.decodes + Duration::from_micros(ticks.saturating_mul(tick)))
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
