//! The ledger as it lies in the database, past every replica.

use super::tally::Tally;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use std::cell::RefCell;
use std::collections::BTreeMap;
use tokio::sync::Mutex;

/// What tests look at of a row.
#[derive(Clone, Debug, QueryableByName)]
pub struct Row {
    #[diesel(sql_type = Text)]
    pub request_id: String,
    #[diesel(sql_type = Text)]
    pub tenant_id: String,
    #[diesel(sql_type = Integer)]
    pub status: i32,
    #[diesel(sql_type = Nullable<Text>)]
    pub error_code: Option<String>,
    #[diesel(sql_type = BigInt)]
    pub input_tokens: i64,
    #[diesel(sql_type = BigInt)]
    pub output_tokens: i64,
    #[diesel(sql_type = BigInt)]
    pub cost_pico: i64,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// A connection to the database.
pub struct Books(Mutex<AsyncPgConnection>);

impl Books {
    pub async fn open(url: &str) -> Self {
        Self(Mutex::new(AsyncPgConnection::establish(url).await.unwrap()))
    }

    /// One whole number of a query that calls it `number`.
    pub async fn number(&self, query: &str) -> i64 {
        let mut connection = self.0.lock().await;
        let found: Number = diesel::sql_query(query).get_result(&mut *connection).await.unwrap();
        found.number
    }

    /// Rows of the ledger.
    pub async fn count(&self) -> i64 {
        self.number("SELECT count(*) AS number FROM ledger").await
    }

    /// Input and output tokens of a tenant.
    pub async fn tokens(&self, tenant: &str) -> i64 {
        let sum = "SELECT coalesce(sum(input_tokens + output_tokens), 0)::bigint AS number FROM ledger";
        self.number(&format!("{sum} WHERE tenant_id = '{tenant}'")).await
    }

    /// Costs of a tenant, in pico-dollars.
    pub async fn cost(&self, tenant: &str) -> i64 {
        let sum = "SELECT coalesce(sum(cost_pico), 0)::bigint AS number FROM ledger";
        self.number(&format!("{sum} WHERE tenant_id = '{tenant}'")).await
    }

    /// All rows by request id; each id has one.
    pub async fn rows(&self) -> BTreeMap<String, Row> {
        let query = "SELECT request_id, tenant_id, status, error_code, input_tokens, output_tokens, cost_pico FROM ledger";
        let mut connection = self.0.lock().await;
        let found: Vec<Row> = diesel::sql_query(query).get_results(&mut *connection).await.unwrap();
        let mut rows = BTreeMap::new();
        for row in found {
            let id = row.request_id.clone();
            assert!(rows.insert(id.clone(), row).is_none(), "{id} has two rows");
        }
        rows
    }

    /// Waits until every delivered answer has its row, and compares status and tokens; each has one row only.
    pub async fn agree_with(&self, tally: &Tally) {
        let rows = RefCell::new(BTreeMap::new());
        super::until("every delivered answer has its row", async || {
            *rows.borrow_mut() = self.rows().await;
            tally.delivered().all(|id| rows.borrow().contains_key(id)).then_some(())
        })
        .await;
        let rows = rows.into_inner();
        for told in tally.all.iter().filter(|told| told.served()) {
            let row = &rows[&told.id];
            assert_eq!(row.status, 200, "{told:?} {row:?}");
            let tokens = (told.input_tokens as i64, told.output_tokens as i64);
            assert_eq!((row.input_tokens, row.output_tokens), tokens, "{told:?} {row:?}");
        }
    }
}
