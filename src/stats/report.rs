//! The answer of `GET /api/v1/stats`.

use super::packed::{HIGHEST, value_of};
use super::series::{Series, Tier};
use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

/// See the module head.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Stats")]
pub struct Report {
    pub windows: Vec<WindowFigures>,
    /// Requests that are in no histogram because their thread did not keep up.
    pub missed: u64,
    /// What the histograms take.
    pub memory_bytes: usize,
}

/// One window.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WindowFigures {
    /// Its name: how long it is at least, in seconds.
    pub seconds: u32,
    /// How far back it really goes.
    pub covers_seconds: u32,
    pub overhead: Figures,
    pub queue_wait: Figures,
    pub ttft: Figures,
    pub total: Figures,
    pub models: Vec<ModelFigures>,
}

/// One model in a window.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ModelFigures {
    pub model: Arc<str>,
    pub ttft: Figures,
    pub total: Figures,
}

/// Microseconds; null when nothing was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Figures {
    pub count: u64,
    pub p50_us: Option<u64>,
    pub p90_us: Option<u64>,
    pub p99_us: Option<u64>,
    pub p99_9_us: Option<u64>,
    pub max_us: Option<u64>,
}

impl Figures {
    /// Of the values of several series together, in each of the windows.
    pub(super) fn of<'a>(series: impl Iterator<Item = &'a Series> + Clone) -> [Self; 3] {
        let Ok(mut sum) = Histogram::<u64>::new_with_max(HIGHEST, 2) else {
            return [Self::default(); 3];
        };
        let mut max = 0;
        // Each window has what the one before has, and the next tier.
        Tier::ALL.map(|tier| {
            for series in series.clone() {
                let add = |bucket, count| sum.saturating_record_n(value_of(bucket), count);
                max = max.max(series.read(tier, add));
            }
            Self::at(&sum, u64::from(max))
        })
    }

    fn at(sum: &Histogram<u64>, max: u64) -> Self {
        if sum.is_empty() {
            return Self::default();
        }
        let at = |quantile| Some(sum.value_at_quantile(quantile).min(max));
        Self {
            count: sum.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            max_us: Some(max),
        }
    }
}
