//! What the brownout says now, where every request can read it.
//!
//! Is: the ladders behind their lock, and a copy of their levels that is read without one. The actor looks at
//! the pressure and writes; requests read. Is not: a measure, or an effect on a request. A request reads the
//! policy of its tenant from the registry of this moment, so one that was taken away has no effect any more.

use crate::cell::{Cell, Heal};
use arc_swap::ArcSwap;
use obleth_core::brownout::{Brownout, InForce, Policy, Pool, Pressure, Row, Shed, Step};
use obleth_core::fair_queue::{Claim, Keep, Load};
use obleth_core::ids::{ModelId, TenantId};
use obleth_core::moment::Moment;
use obleth_core::registry::Registry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// The ladders. After a contained fault they begin at the bottom, which shortens and refuses nothing.
#[derive(Default)]
struct Ladders(Brownout);

impl Heal for Ladders {
    fn heal(&mut self) {
        self.0 = Brownout::default();
    }
}

/// The last look.
#[derive(Clone, Debug, Default)]
pub struct Levels {
    /// When it was.
    pub seen: Moment,
    /// Every ladder that does not rest.
    pub rows: Vec<Row>,
    /// The pools that something waited for.
    loads: BTreeMap<Pool, Load>,
    by: BTreeMap<(Pool, Policy), u8>,
}

impl Levels {
    /// How much too slow a pool was.
    pub fn pressure(&self, pool: Pool) -> Pressure {
        self.loads.get(&pool).map(|load| load.pressure).unwrap_or_default()
    }

    /// The level of a policy on a pool.
    pub fn level(&self, pool: Pool, policy: &Policy) -> u8 {
        self.by.get(&(pool, *policy)).copied().unwrap_or_default()
    }

    /// When who is refused may come again: when what waits will be through.
    fn retry_after(&self, pool: Pool) -> Duration {
        self.pressure(pool).wait().clamp(SHORTEST, LONGEST)
    }

    /// How many of a claim are refused.
    fn refused(&self, claim: &Claim, force: InForce) -> u32 {
        let held_back = self.loads.get(&claim.pool).map_or(0, |load| load.held_back);
        match force.shed {
            Shed::Nothing => 0,
            Shed::OverShare => claim.over(held_back).min(claim.waiting),
            Shed::All => claim.waiting,
        }
    }
}

/// See the module head.
pub(super) struct Board {
    ladders: Cell<Ladders>,
    registry: ArcSwap<Registry>,
    /// Some tenant has a policy.
    watched: AtomicBool,
    /// Some policy does something.
    pressed: AtomicBool,
    levels: ArcSwap<Levels>,
}

impl Board {
    pub(super) fn new() -> Self {
        Self {
            ladders: Cell::new(super::NAME, Ladders::default()),
            registry: ArcSwap::default(),
            watched: AtomicBool::new(false),
            pressed: AtomicBool::new(false),
            levels: ArcSwap::default(),
        }
    }

    /// The registry from here on.
    pub(super) fn follow(&self, registry: Arc<Registry>) {
        let watched = registry.policies().next().is_some();
        self.registry.store(registry);
        self.watched.store(watched, Ordering::Relaxed);
    }

    /// Whether there is anything to look after.
    pub(super) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed) || self.is_pressed()
    }

    /// Whether some policy does something. The only thing that a request pays for while none does.
    pub(super) fn is_pressed(&self) -> bool {
        self.pressed.load(Ordering::Relaxed)
    }

    pub(super) fn restarts(&self) -> u64 {
        self.ladders.restarts()
    }

    pub(super) fn levels(&self) -> Arc<Levels> {
        self.levels.load_full()
    }

    /// Takes in what waits for the pools. Whether something is to be looked at again without a request.
    pub(super) fn observe(&self, now: Moment, loads: BTreeMap<Pool, Load>) -> bool {
        let policies: BTreeSet<Policy> = self.registry.load().policies().copied().collect();
        let pressures = loads.iter().map(|(pool, load)| (*pool, load.pressure)).collect();
        let looked = self.ladders.with(|Ladders(brownout)| {
            let before: BTreeMap<_, u8> = levels(brownout);
            brownout.observe(now, &policies, &pressures);
            (before, brownout.rows().collect::<Vec<Row>>(), brownout.at_rest())
        });
        let (before, rows, at_rest) = looked.unwrap_or_else(|_| (BTreeMap::new(), Vec::new(), true));
        for row in &rows {
            tell(row, before.get(&(row.pool, row.policy)).copied().unwrap_or_default(), loads.get(&row.pool));
        }
        let by: BTreeMap<_, _> = rows.iter().map(|row| ((row.pool, row.policy), row.level)).collect();
        let pressed = rows.iter().any(|row| row.level > 0);
        self.levels.store(Arc::new(Levels { seen: now, rows, loads, by }));
        self.pressed.store(pressed, Ordering::Relaxed);
        !at_rest
    }

    /// What holds for a tenant on a pool.
    fn force(&self, levels: &Levels, tenant: TenantId, pool: Pool) -> InForce {
        let policy = self.registry.load().tenant(tenant).and_then(|tenant| tenant.brownout);
        policy.map(|policy| policy.at(levels.level(pool, &policy))).unwrap_or_default()
    }

    /// The highest output bound of a request that gets its slot now.
    pub(super) fn output_cap(&self, tenant: TenantId, model: ModelId) -> Option<u64> {
        if !self.is_pressed() {
            return None;
        }
        let levels = self.levels.load();
        let pools = [Pool::Model(model), Pool::Slots];
        pools.into_iter().filter_map(|pool| self.force(&levels, tenant, pool).max_tokens).min()
    }

    /// When a request that would wait may come again, if it is refused for that.
    pub(super) fn refuses(&self, claims: impl Iterator<Item = Claim>) -> Option<Duration> {
        let levels = self.levels.load();
        let refused =
            claims.filter(|claim| levels.refused(claim, self.force(&levels, claim.tenant, claim.pool)) > 0);
        refused.map(|claim| levels.retry_after(claim.pool)).max()
    }

    /// Whether anything that waits is refused.
    pub(super) fn sheds(&self) -> bool {
        self.levels.load().rows.iter().any(|row| row.policy.at(row.level).shed > Shed::Nothing)
    }

    /// What of a claim stays.
    pub(super) fn judge(&self, claim: &Claim) -> Keep {
        let levels = self.levels.load();
        match levels.refused(claim, self.force(&levels, claim.tenant, claim.pool)) {
            0 => Keep::All,
            refused => Keep::AllBut { refused, retry_after: levels.retry_after(claim.pool) },
        }
    }
}

fn levels(brownout: &Brownout) -> BTreeMap<(Pool, Policy), u8> {
    brownout.rows().map(|row| ((row.pool, row.policy), row.level)).collect()
}

/// A policy has no name of its own: what it says tells it from others.
fn name_of(policy: &Policy) -> String {
    let steps: Vec<_> = policy.steps().map(Step::as_str).collect();
    format!(
        "wait_ms={} max_tokens={} steps={}",
        policy.wait().as_millis(),
        policy.max_tokens(),
        steps.join(",")
    )
}

/// One line a move: moves are 5 s apart.
fn tell(row: &Row, before: u8, load: Option<&Load>) {
    if row.level == before {
        return;
    }
    let pool = match row.pool {
        Pool::Slots => "slots".to_owned(),
        Pool::Model(id) => id.to_string(),
    };
    let pressure_ms = load.map_or(0, |load| load.pressure.wait().as_millis());
    tracing::warn!(
        pool,
        from = before,
        to = row.level,
        policy = %name_of(&row.policy),
        pressure_ms = %pressure_ms,
        reason = row.reason.as_str(),
        "brownout"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_that_differ_have_names_that_differ() {
        let policy = Policy::new(750, 256, Step::ALL).unwrap();
        assert_eq!(name_of(&policy), "wait_ms=750 max_tokens=256 steps=cap_tokens,shed");
        let shed = Policy::new(750, 256, [Step::Shed]).unwrap();
        assert_eq!(name_of(&shed), "wait_ms=750 max_tokens=256 steps=shed");
    }
}
