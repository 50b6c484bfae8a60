//! The roll-ups: sums by hour and by day of UTC, tenant, key and model.
//!
//! Written in the transaction of the rows they sum, for the rows that were really new. Invariant: a roll-up is the
//! sum of the rows that were ever written of its bucket, whether or not they are still there.

use super::record::LedgerRecord;
use crate::error::StoreError;
use diesel::result::QueryResult;
use diesel::sqlite::SqliteConnection;
use diesel_async::AsyncPgConnection;
use std::collections::BTreeMap;

pub(super) const HOUR: i64 = 3_600_000_000;
pub(super) const DAY: i64 = 24 * HOUR;

/// Money is split here before it is summed: both parts of a row are below 10¹⁰, so no sum of either can leave 64
/// bits before there are 900 million rows.
pub(super) const SPLIT: i64 = 1_000_000_000;

/// Rows in one statement of PostgreSQL, which allows 65 535 values (22 a row).
const CHUNK: usize = 1000;

/// What a roll-up is of: bucket, tenant, key, model. In this order rows are written, so that replicas do not wait
/// for each other in a circle.
type Group<'a> = (i64, &'a str, &'a str, &'a str);

/// Calls a macro with the columns that are sums.
macro_rules! sums {
    ($macro:ident!($($first:tt)*)) => {
        $macro! {
            $($first)*
            requests errors refused unpriced cache_hits input_tokens cached_input_tokens output_tokens
            reasoning_tokens saved_tokens cost_high cost_low input_cost_high input_cost_low cached_cost_high
            cached_cost_low output_cost_high output_cost_low
        }
    };
}

macro_rules! declare {
    ($($sum:ident)+) => {
        /// The columns that are sums, of some rows.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        struct Sums {
            $($sum: i64,)+
        }

        impl Sums {
            fn add(&mut self, more: &Self) {
                $(self.$sum += more.$sum;)+
            }
        }
    };
}
sums!(declare!());
pub(super) use sums;

impl From<&LedgerRecord> for Sums {
    fn from(row: &LedgerRecord) -> Self {
        let hit = matches!(row.cache.as_str(), "hit" | "coalesced");
        let spent = |tokens: i64| if hit { 0 } else { tokens };
        let input = row.input_cost_pico;
        let cached = row.cached_input_cost_pico;
        let output = input.zip(cached).map(|(input, cached)| row.cost_pico - input - cached);
        let high = |pico: Option<i64>| pico.unwrap_or_default() / SPLIT;
        let low = |pico: Option<i64>| pico.unwrap_or_default() % SPLIT;
        Self {
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
            cost_high: row.cost_pico / SPLIT,
            cost_low: row.cost_pico % SPLIT,
            input_cost_high: high(input),
            input_cost_low: low(input),
            cached_cost_high: high(cached),
            cached_cost_low: low(cached),
            output_cost_high: high(output),
            output_cost_low: low(output),
        }
    }
}

/// Sums `rows` by buckets of `span`.
fn by_bucket<'a>(rows: &[&'a LedgerRecord], span: i64) -> BTreeMap<Group<'a>, Sums> {
    let mut sums = BTreeMap::<Group<'a>, Sums>::new();
    for row in rows {
        let bucket = row.ts - row.ts % span;
        let group = (bucket, row.tenant_id.as_str(), row.key_id.as_str(), row.model.as_str());
        sums.entry(group).or_default().add(&Sums::from(*row));
    }
    sums
}

/// Makes the module of one table: its rows, and how sums are added to what is there.
macro_rules! table {
    ($table:ident $($sum:ident)+) => {
        mod $table {
            use super::{CHUNK, Group, Sums};
            use crate::tables::$table;
            use diesel::prelude::*;
            use diesel::result::QueryResult;
            use diesel::sqlite::SqliteConnection;
            use diesel::upsert::excluded;
            use diesel_async::AsyncPgConnection;
            use std::collections::BTreeMap;

            #[derive(Debug, Insertable)]
            #[diesel(table_name = $table)]
            struct Row<'a> {
                bucket: i64,
                tenant_id: &'a str,
                key_id: &'a str,
                model: &'a str,
                $($sum: i64,)+
            }

            fn row<'a>((group, sums): (Group<'a>, Sums)) -> Row<'a> {
                let (bucket, tenant_id, key_id, model) = group;
                Row { bucket, tenant_id, key_id, model, $($sum: sums.$sum,)+ }
            }

            fn rows(sums: BTreeMap<Group<'_>, Sums>) -> Vec<Row<'_>> {
                sums.into_iter().map(row).collect()
            }

            macro_rules! upsert {
                ($values:expr) => {{
                    let place = ($table::bucket, $table::tenant_id, $table::key_id, $table::model);
                    let more = ($($table::$sum.eq($table::$sum + excluded($table::$sum)),)+);
                    diesel::insert_into($table::table).values($values).on_conflict(place).do_update().set(more)
                }};
            }

            pub(super) fn on_sqlite(
                conn: &mut SqliteConnection,
                sums: BTreeMap<Group<'_>, Sums>,
            ) -> QueryResult<()> {
                for row in &rows(sums) {
                    diesel::RunQueryDsl::execute(upsert!(row), conn)?;
                }
                Ok(())
            }

            pub(super) async fn on_postgres(
                conn: &mut AsyncPgConnection,
                sums: BTreeMap<Group<'_>, Sums>,
            ) -> QueryResult<()> {
                for chunk in rows(sums).chunks(CHUNK) {
                    diesel_async::RunQueryDsl::execute(upsert!(chunk), conn).await?;
                }
                Ok(())
            }
        }
    };
}
sums!(table!(usage_hourly));
sums!(table!(usage_daily));

/// Adds rows that are new to the sums.
pub(super) fn add_on_sqlite(conn: &mut SqliteConnection, new: &[&LedgerRecord]) -> QueryResult<()> {
    usage_hourly::on_sqlite(conn, by_bucket(new, HOUR))?;
    usage_daily::on_sqlite(conn, by_bucket(new, DAY))
}

/// Adds rows that are new to the sums.
pub(super) async fn add_on_postgres(
    conn: &mut AsyncPgConnection,
    new: &[&LedgerRecord],
) -> Result<(), StoreError> {
    usage_hourly::on_postgres(conn, by_bucket(new, HOUR)).await?;
    Ok(usage_daily::on_postgres(conn, by_bucket(new, DAY)).await?)
}
