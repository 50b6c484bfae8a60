//! Roll-ups are the sums of the rows, whatever batches they came in.

use super::backend::{Database, on_both};
use super::rows;
use diesel::Connection;
use diesel::connection::SimpleConnection;
use diesel::sqlite::SqliteConnection;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use obleth_schema::Store;
use obleth_schema::ledger::{
    Ask, Dimension, LedgerRecord, Line, Offset, Span, Steps, Totals, insert_batch, report,
};
use std::collections::BTreeMap;
use uuid::Uuid;

on_both!(any_batches_give_the_sums_of_their_rows);

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
const DAYS: i64 = 4;

/// A small generator: the same seed, the same rows.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[usize::try_from(self.below(u64::try_from(from.len()).unwrap())).unwrap()]
    }

    fn number(&mut self, limit: u64) -> i64 {
        i64::try_from(self.below(limit)).unwrap()
    }

    fn row(&mut self) -> LedgerRecord {
        // Borders are hit often.
        let exact = self.number(u64::try_from(DAYS * 24).unwrap()) * HOUR;
        let ts = (exact + [0, 0, -1, 1, HOUR / 2, HOUR / 3][usize::try_from(self.below(6)).unwrap()]).max(0);
        let (input, cached) = (self.number(1 << 40), self.number(1 << 40));
        let told = self.below(8) > 0;
        LedgerRecord {
            tenant_id: self.pick(&["t0", "t1"]).to_owned(),
            key_id: self.pick(&["k0", "k1", "k2"]).to_owned(),
            model: self.pick(&["", "m"]).to_owned(),
            admission: self.pick(&["fast", "rejected"]).to_owned(),
            cache: self.pick(&["off", "miss", "hit", "coalesced"]).to_owned(),
            status: i32::try_from(self.number(3)).unwrap() + 399,
            input_tokens: self.number(1000),
            cached_input_tokens: self.number(1000),
            output_tokens: self.number(1000),
            reasoning_tokens: self.number(1000),
            cost_pico: i64::MAX - self.number(1 << 40),
            input_cost_pico: told.then_some(i64::MAX / 2 - input),
            cached_input_cost_pico: told.then_some(cached),
            unpriced: self.below(3) == 0,
            ..rows::record(ts)
        }
    }
}

fn totals(row: &LedgerRecord) -> Totals {
    let hit = row.cache == "hit" || row.cache == "coalesced";
    let spent = |tokens| if hit { 0 } else { tokens };
    let told = row.input_cost_pico.map(i128::from).zip(row.cached_input_cost_pico.map(i128::from));
    Totals {
        requests: 1,
        errors: (row.status >= 400).into(),
        refused: (row.admission == "rejected").into(),
        unpriced: row.unpriced.into(),
        cache_hits: hit.into(),
        input_tokens: spent(row.input_tokens),
        cached_input_tokens: spent(row.cached_input_tokens),
        output_tokens: spent(row.output_tokens),
        reasoning_tokens: spent(row.reasoning_tokens),
        saved_tokens: if hit { row.input_tokens + row.output_tokens } else { 0 },
        cost_pico: row.cost_pico.into(),
        input_cost_pico: told.map_or(0, |(input, _)| input),
        cached_input_cost_pico: told.map_or(0, |(_, cached)| cached),
        output_cost_pico: told.map_or(0, |(input, cached)| i128::from(row.cost_pico) - input - cached),
    }
}

/// The same from the rows, one by one.
pub fn by_hand(rows: &[LedgerRecord], ask: &Ask) -> Vec<Line> {
    let mut lines = BTreeMap::<(i64, [String; 2]), Totals>::new();
    let fits = |wanted: &Option<String>, value: &String| wanted.as_ref().is_none_or(|wanted| wanted == value);
    for row in rows {
        let within = (ask.span.since..ask.span.until).contains(&row.ts);
        let meant = fits(&ask.tenant_id, &row.tenant_id)
            && fits(&ask.key_id, &row.key_id)
            && fits(&ask.model, &row.model);
        if !within || !meant {
            continue;
        }
        let at = match &ask.steps {
            Steps::Whole => 0,
            Steps::Hours => row.ts / HOUR * HOUR,
            Steps::Days => row.ts / DAY,
            Steps::DaysOf { offsets, .. } => {
                let offset = offsets.iter().rfind(|offset| offset.since <= row.ts).unwrap_or(&offsets[0]);
                (row.ts + offset.ahead) / DAY
            }
        };
        let of = |dimension: &Dimension| match dimension {
            Dimension::Tenant => row.tenant_id.clone(),
            Dimension::Key => row.key_id.clone(),
            Dimension::Model => row.model.clone(),
        };
        let mut by = ask.by.iter().map(of);
        let group = [by.next().unwrap_or_default(), by.next().unwrap_or_default()];
        *lines.entry((at, group)).or_default() += totals(row);
    }
    lines.into_iter().map(|((at, group), totals)| Line { at, group, totals }).collect()
}

/// Whole, hours, days, days with a change of the clock, days that begin at half hours.
fn steps(span: Span) -> [Steps; 5] {
    let clock = [Offset { since: 0, ahead: 2 * HOUR }, Offset { since: 2 * DAY - HOUR, ahead: HOUR }];
    let half = 5 * HOUR + HOUR / 2;
    let borders = (1..=DAYS).map(|day| day * DAY - half).map(|border| border - border % HOUR);
    let within = |hour: &i64| *hour < span.until && hour + HOUR > span.since;
    [
        Steps::Whole,
        Steps::Hours,
        Steps::Days,
        Steps::DaysOf { offsets: clock.to_vec(), cut: Vec::new() },
        Steps::DaysOf {
            offsets: vec![Offset { since: 0, ahead: half }],
            cut: borders.filter(within).collect(),
        },
    ]
}

async fn check(store: &Store, rows: &[LedgerRecord], span: Span, dice: &mut Dice) {
    let groups =
        [vec![], vec![Dimension::Tenant], vec![Dimension::Model, Dimension::Key], vec![Dimension::Key]];
    for steps in steps(span) {
        let by = groups[usize::try_from(dice.below(4)).unwrap()].clone();
        let mut one = |value: &str| (dice.below(3) == 0).then(|| value.to_owned());
        let (tenant_id, key_id, model) = (one("t1"), one("k2"), one("m"));
        let ask = Ask { span, steps, by, tenant_id, key_id, model, limit: 10_000 };
        let report = report(store, &ask).await.unwrap();
        assert!(report.complete);
        assert_eq!(report.lines, by_hand(rows, &ask), "{ask:?}");
    }
}

async fn any_batches_give_the_sums_of_their_rows(store: Store) {
    let seed = Uuid::new_v4().as_u64_pair().0;
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let mut rows: Vec<LedgerRecord> = Vec::new();
    for _ in 0..12 {
        let mut batch: Vec<_> = (0..dice.below(30)).map(|_| dice.row()).collect();
        rows.extend(batch.iter().cloned());
        // Some come again: in the same batch, or after one that came before; and say something else then.
        for _ in 0..dice.below(10) {
            if let Some(old) = rows.get(usize::try_from(dice.below(400)).unwrap()) {
                batch.push(LedgerRecord { row_id: old.row_id.clone(), ..dice.row() });
            }
        }
        insert_batch(&store, &batch).await.unwrap();
    }
    let ever = Span { since: 0, until: DAYS * DAY + HOUR };
    check(&store, &rows, ever, &mut dice).await;
    for _ in 0..12 {
        let mut edge = || dice.row().ts;
        let (a, b) = (edge(), edge());
        check(&store, &rows, Span { since: a.min(b), until: a.max(b) }, &mut dice).await;
    }
}

macro_rules! migration {
    ($backend:literal, $way:literal) => {
        include_str!(concat!(
            "../../../migrations/",
            $backend,
            "/2026-01-03-000000_usage_rollups/",
            $way,
            ".sql"
        ))
    };
}

/// Rows from before there were roll-ups: without costs by kind.
async fn old_rows(store: &Store) -> Vec<LedgerRecord> {
    let mut dice = Dice(7);
    let mut rows: Vec<_> = (0..200).map(|_| dice.row()).collect();
    insert_batch(store, &rows).await.unwrap();
    for row in &mut rows {
        (row.input_cost_pico, row.cached_input_cost_pico, row.unpriced) = (None, None, false);
    }
    rows
}

async fn check_all(store: &Store, rows: &[LedgerRecord]) {
    let mut dice = Dice(8);
    for until in [DAYS * DAY, DAYS * DAY - HOUR] {
        check(store, rows, Span { since: 0, until }, &mut dice).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_sums_rows_from_before() {
    let database = Database::sqlite();
    let store = database.migrated().await;
    let rows = old_rows(&store).await;
    let mut conn = SqliteConnection::establish(database.text.trim_start_matches("sqlite://")).unwrap();
    conn.batch_execute(migration!("sqlite", "down")).unwrap();
    conn.batch_execute(migration!("sqlite", "up")).unwrap();
    check_all(&store, &rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_sums_rows_from_before() {
    let Some(database) = Database::postgres().await else { return };
    let store = database.migrated().await;
    let rows = old_rows(&store).await;
    let mut conn = AsyncPgConnection::establish(&database.text).await.unwrap();
    conn.batch_execute(migration!("postgres", "down")).await.unwrap();
    conn.batch_execute(migration!("postgres", "up")).await.unwrap();
    check_all(&store, &rows).await;
    database.remove().await;
}
