//! Rows that are older than `OBLETH_USAGE_RETENTION_DAYS` go; what they sum up to stays.

use crate::support::{app_with, record, run, until};
use obleth_actors::clock::unix_micros;
use serde_json::{Value, json};

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

#[test]
fn old_rows_go_and_their_sums_stay() {
    run(async {
        let hour = unix_micros() / HOUR * HOUR;
        // 2500 rows of forty days ago, a minute apart, and one of yesterday.
        let old = hour - 40 * DAY;
        let mut rows: Vec<_> = (0..2_500).map(|number| record(old - number * 60_000_000 - 1)).collect();
        rows.push(record(hour - DAY));
        let app = app_with(&rows, &[("OBLETH_USAGE_RETENTION_DAYS", "30")]).await;
        until("old rows are gone", async || {
            let left = app.all_rows().await;
            (left.len() == 1).then_some(())
        })
        .await;
        let get = async |query: &str| app.admin().get(&format!("/api/v1/usage/{query}")).await;
        let stamp =
            |at: i64| chrono::DateTime::from_timestamp_micros(at).unwrap().format("%Y-%m-%dT%H:%M:%SZ");
        let all = get("summary").await.expect(200).json();
        assert_eq!(
            (&all["total_requests"], &all["total_cost_usd"]),
            (&json!(2_501), &json!("0.000000035014"))
        );
        let span = |since: i64, until: i64| format!("since={}&until={}", stamp(since), stamp(until));
        let one_hour = get(&format!("summary?{}", span(old - HOUR, old))).await.expect(200).json();
        assert_eq!(one_hour["total_requests"], 60);
        // Half an hour cannot be told any more, and is not guessed.
        let half = get(&format!("summary?{}", span(old - HOUR / 2, old))).await.expect(400);
        assert_eq!(half.json()["error"]["param"], "since");
        let days = get("summary?group_by=day&time_zone=Asia/Kolkata").await.expect(400);
        assert_eq!(days.json()["error"]["param"], "time_zone");
        let days = get("summary?group_by=day&time_zone=Asia/Tokyo").await.expect(200).json();
        assert_eq!(days["total_requests"], 2_501);
        let total = |bill: &Value| bill["total"]["requests"].as_i64().unwrap();
        let mut billed = 0;
        for back in 0..4 {
            let month = chrono::Utc::now().date_naive() - chrono::Months::new(back);
            billed += total(
                &get(&format!("statement?tenant=t&month={}", month.format("%Y-%m"))).await.expect(200).json(),
            );
        }
        assert_eq!(billed, 2_501);
        app.stop().await;
    });
}

#[test]
fn without_a_limit_rows_are_kept() {
    run(async {
        let app = app_with(&[record(1)], &[("OBLETH_USAGE_RETENTION_DAYS", "0")]).await;
        // The first look is after a second.
        actix_rt::time::sleep(std::time::Duration::from_millis(1500)).await;
        assert_eq!(app.all_rows().await.len(), 1);
        app.stop().await;
    });
}
