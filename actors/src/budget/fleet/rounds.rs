//! What is told to Redis in between: that this replica lives, what it used, what it does not need.

use super::{Fleet, limited, next_run};
use crate::clock::unix_micros;
use crate::fleet::News;
use crate::fleet::claims::{AT_ONCE, Replies, named};
use crate::fleet::replica::keep_known;
use obleth_core::token_budget::{Counter, Report};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Between two signs of life. Three seconds without one are death.
const BEAT: Duration = Duration::from_millis(500);
/// Between two rounds.
const ROUND: Duration = Duration::from_millis(500);

/// Begins the tasks. They end with the fleet. One that panics is begun again.
pub(super) fn begin(fleet: &Arc<Fleet>) {
    let runtime = fleet.runtime.clone();
    let (beating, telling, hearing) = (Arc::downgrade(fleet), Arc::downgrade(fleet), Arc::downgrade(fleet));
    runtime.spawn(again("beats", move || beats(Weak::clone(&beating))));
    runtime.spawn(again("rounds", move || rounds(Weak::clone(&telling))));
    runtime.spawn(again("wanted", move || wanted(Weak::clone(&hearing))));
}

async fn again<F>(name: &'static str, task: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    while let Err(error) = tokio::spawn(task()).await {
        if error.is_cancelled() {
            return;
        }
        tracing::error!(name, "a task of the shared budgets died and begins again");
        tokio::time::sleep(BEAT).await;
    }
}

async fn beats(fleet: Weak<Fleet>) {
    let mut tick = interval(BEAT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(fleet) = fleet.upgrade() else { return };
        // Everything was told to a new run: it may open with the next beat, so that comes at once.
        if fleet.beat().await {
            fleet.beat().await;
        }
    }
}

async fn rounds(fleet: Weak<Fleet>) {
    let mut tick = interval(ROUND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(fleet) = fleet.upgrade() else { return };
        fleet.round().await;
    }
}

/// Gives back what others need.
async fn wanted(fleet: Weak<Fleet>) {
    let Some(mut news) = fleet.upgrade().map(|fleet| fleet.claims.link().subscribe(fleet.claims.channel()))
    else {
        return;
    };
    while let Some(news_of) = news.recv().await {
        let News::Payload(name) = news_of else { continue };
        let Some(fleet) = fleet.upgrade() else { return };
        if let Some(counter) = std::str::from_utf8(&name).ok().and_then(named) {
            fleet.give_back(counter).await;
        }
    }
}

impl Fleet {
    /// Says that this replica lives. `true`: everything was told to a new run.
    async fn beat(&self) -> bool {
        let (asserted, members) = {
            let known = self.known.lock();
            (known.asserted.clone(), known.members.clone())
        };
        let Ok(beat) = self.claims.beat(&next_run(), &asserted, &members).await else {
            self.unheard();
            return false;
        };
        self.desk.each(|now, core| core.heard(now));
        let told = beat.run == asserted;
        let mut fresh = None;
        let was_away = {
            let mut known = self.known.lock();
            known.run.clone_from(&beat.run);
            known.open = beat.open && told;
            known.live = beat.live.max(1);
            if known.open && known.members != beat.members {
                fresh = Some(beat.members.clone());
                known.members = beat.members;
            }
            std::mem::replace(&mut known.away, false)
        };
        if was_away {
            self.desk.each(|now, core| core.part(now, None, !told));
        }
        if let Some(names) = fresh {
            let folder = self.folder.clone();
            let kept = tokio::task::spawn_blocking(move || keep_known(&folder, &names)).await;
            if !matches!(kept, Ok(Ok(()))) {
                tracing::warn!("the names of the other replicas cannot be kept beside the journal");
            }
        }
        if told {
            if beat.open {
                self.opened.notify_waiters();
                self.opened.notify_one();
            }
            return false;
        }
        self.assert_all(&beat.run).await
    }

    fn unheard(&self) {
        {
            let mut known = self.known.lock();
            known.open = known.open && self.claims.link().is_up();
        }
        if self.fail_open && !self.claims.link().is_up() {
            self.part();
        }
        self.desk.each(|now, core| core.unheard(now));
    }

    /// Says everything that this replica has, to a run that knows nothing of it.
    async fn assert_all(&self, run: &str) -> bool {
        let registry = self.registry.load_full();
        let unix = unix_micros();
        let all = self.desk.each(|_, core| core.assert(unix, |owner| limited(&registry, owner)));
        let all: Vec<Report> = all.into_iter().flatten().collect();
        for reports in all.chunks(AT_ONCE) {
            match self.claims.report(run, 1, reports).await {
                Ok(Replies::Of(replies)) => {
                    for (report, reply) in reports.iter().zip(replies) {
                        if let obleth_core::token_budget::slices::store::Reply::Stale(seq) = reply {
                            self.desk.of(report.counter.owner, |_, core| core.catch_up(seq));
                            return false;
                        }
                    }
                }
                _ => return false,
            }
        }
        let mut known = self.known.lock();
        if known.run == run {
            run.clone_into(&mut known.asserted);
        }
        true
    }

    async fn round(&self) {
        let (away, live) = {
            let known = self.known.lock();
            (known.asserted != known.run || known.run.is_empty(), known.live)
        };
        if away || !self.claims.link().is_up() {
            return;
        }
        let reports: Vec<Report> =
            self.desk.each(|now, core| core.round(now)).into_iter().flatten().collect();
        for reports in reports.chunks(AT_ONCE) {
            self.tell_all(reports).await;
        }
        let dips = self.desk.each(|now, core| core.settle_minutes(now, live));
        let dips: Vec<_> = dips.into_iter().flatten().map(|dip| (dip, 0)).collect();
        for dips in dips.chunks(AT_ONCE) {
            self.dip(dips).await;
        }
    }

    async fn give_back(&self, counter: Counter) {
        let report = self.desk.of(counter.owner, |_, core| core.give_back(counter)).flatten();
        if let Some(report) = report {
            _ = self.tell(&[report]).await;
        }
    }

    /// For the end of the process.
    pub(in crate::budget) async fn leave(&self) {
        let counters = self.desk.each(|_, core| core.give_all_back());
        let reports: Vec<Report> = counters.into_iter().flatten().collect();
        for reports in reports.chunks(AT_ONCE) {
            if self.tell(reports).await.is_err() {
                return;
            }
        }
        _ = self.claims.leave().await;
    }
}
