//! What the shell says to the queue and what it hears.

use super::merge::Measure;
use crate::ids::{GroupId, KeyId, ModelId, TenantId};
use crate::moment::Moment;
use crate::units::{CostFactor, Share};
use std::time::Duration;

/// A request known to the queue. Ascending in order of arrival, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketId(pub u64);

/// Settings of the whole queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// D: requests that may run at once.
    pub slots: u32,
    /// Requests that may wait, all tenants together.
    pub max_queued: u32,
    /// Requests of one tenant that may wait, unless its plan says otherwise.
    pub default_tenant_max_queued: u32,
    /// Service a tenant may catch up on after it waited behind a cap, in tokens.
    pub lag_tokens: u32,
    /// θ in percent: how far each finished request pushes the clock, so that newcomers without end
    /// cannot starve one who waits.
    pub theta_percent: u32,
    /// The least charge for anything that held a slot, in tokens of its model.
    pub min_charge_tokens: u32,
    /// Cost of a prompt token, and of an output token, before the model's factor.
    pub in_weight: u32,
    pub out_weight: u32,
    /// Forecast of the output while nothing is known of the tenant and the model.
    pub cold_forecast_tokens: u64,
    /// What a second of a slot costs when nothing can be counted.
    pub held_tokens_per_second: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            slots: 64,
            max_queued: 10_000,
            default_tenant_max_queued: 1024,
            lag_tokens: 4096,
            theta_percent: 75,
            min_charge_tokens: 16,
            in_weight: 1,
            out_weight: 1,
            cold_forecast_tokens: 256,
            held_tokens_per_second: 50,
        }
    }
}

/// A group as its tenants' plans carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupPlan {
    pub id: GroupId,
    pub weight: Share,
}

/// A tenant as each of its demands carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantPlan {
    pub id: TenantId,
    pub weight: Share,
    pub group: GroupPlan,
    /// Requests of the tenant that may run at once; `None` = no cap.
    pub max_in_flight: Option<u32>,
    /// Requests of the tenant that may wait; `None` = the default.
    pub max_queued: Option<u32>,
}

impl GroupPlan {
    /// What the group's tag is measured by.
    pub fn measure(self) -> Measure {
        Measure { weight: self.weight, group: None }
    }
}

impl TenantPlan {
    /// What the tenant's tag is measured by.
    pub fn measure(self) -> Measure {
        Measure { weight: self.weight, group: Some(self.group.id) }
    }
}

/// A model pool as each demand carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelPlan {
    pub id: ModelId,
    pub cost_factor: CostFactor,
    /// Requests that may run on the model at once; `None` = no cap.
    pub max_in_flight: Option<u32>,
}

/// The cap of a key that has none.
pub const NO_CAP: u32 = u32::MAX;

/// A request for a slot. Its plans update what the queue knows, so nothing is registered beforehand.
#[derive(Clone, Debug)]
pub struct Demand {
    pub tenant: TenantPlan,
    pub model: ModelPlan,
    /// The key and its own `max_in_flight`, [`NO_CAP`] if it has none. A key that is not named here cannot
    /// be given a cap while the request waits or runs.
    pub key: Option<(KeyId, u32)>,
    pub prompt_tokens: u64,
    pub max_output_tokens: Option<u64>,
    /// Answers asked for (`n`, `best_of`): multiplies the forecast. At least 1.
    pub answers: u32,
    /// When waiting is no use any more.
    pub deadline: Option<Moment>,
}

/// How a seat ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// True or best known usage. Counts for the forecast.
    Tokens { prompt: u64, output: u64 },
    /// Nothing to count: charged by the time the slot was held.
    Held,
    /// The upstream failed: the least charge.
    Nothing,
    /// The receiver of the grant was gone: no charge at all.
    Never,
}

/// A slot was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub ticket: TicketId,
    pub tenant: TenantId,
    pub model: ModelId,
    /// Output tokens that were forecast, all answers together.
    pub forecast_tokens: u64,
    pub waited: Duration,
    /// Whether it came through the queue.
    pub queued: bool,
}

/// Why a request gets no slot. `retry_after` lies in 1 ..= 60 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The tenant has as many waiting as it may.
    TenantQueueFull { retry_after: Duration },
    /// Everything is full, and others are heavier than this tenant.
    QueueFull { retry_after: Duration },
    /// Everything is full, and with this request the tenant is the heaviest of all.
    Heaviest { retry_after: Duration },
    /// The deadline passed in the queue.
    Timeout { retry_after: Duration },
    /// The tenant was suspended, the key revoked or the model removed.
    Suspended,
    /// The pool it waited for is under pressure, and its tenant's policy lets it be refused for that.
    Shed { retry_after: Duration },
    /// The other replicas cannot be heard of, and nothing of the slots it needs is here.
    StoreAway { queued: bool },
}

/// What the shell must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start this request and release its ticket later.
    Grant(Grant),
    /// Refuse this one; its ticket is gone.
    Refuse { ticket: TicketId, refusal: Refusal },
}

/// A seat that is out, as [`super::FairQueue::resume`] takes it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeatRecord {
    pub ticket: TicketId,
    pub tenant: TenantPlan,
    pub model: ModelPlan,
    pub key: Option<(KeyId, u32)>,
    pub prompt_tokens: u64,
    pub answers: u32,
    /// Charged so far, in hundredths of a token.
    pub charged: u64,
    pub started: Moment,
}
