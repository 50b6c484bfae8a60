//! Sums over time: days of a time zone, days of 23 and 25 hours, hours, spans that end anywhere.

use crate::support::{TestApp, app_with, micros, record, run};
use serde_json::{Value, json};

async fn get(app: &TestApp, path: &str) -> Value {
    app.admin().get(&format!("/api/v1/usage/{path}")).await.expect(200).json()
}

fn counts(answer: &Value, name: &str) -> Vec<(String, i64)> {
    let lines = answer["data"].as_array().unwrap().iter();
    lines.map(|line| (line[name].as_str().unwrap().to_owned(), line["requests"].as_i64().unwrap())).collect()
}

fn pairs(expected: &[(&str, i64)]) -> Vec<(String, i64)> {
    expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[test]
fn days_are_cut_where_the_zone_cuts_them() {
    run(async {
        // One request in each half hour from 2026-03-27 to 2026-03-31 of UTC; Berlin changes its clocks on the 29th.
        let start = micros("2026-03-27T00:00:00Z");
        let rows: Vec<_> = (0..192).map(|half| record(start + half * 1_800_000_000 + 7)).collect();
        let app = app_with(&rows, &[]).await;
        let utc = get(&app, "summary?group_by=day").await;
        let days = [("2026-03-27", 48), ("2026-03-28", 48), ("2026-03-29", 48), ("2026-03-30", 48)];
        assert_eq!(counts(&utc, "group"), pairs(&days));
        let berlin = get(&app, "summary?group_by=day&time_zone=Europe/Berlin").await;
        let days = [
            ("2026-03-27", 46),
            ("2026-03-28", 48),
            ("2026-03-29", 46),
            ("2026-03-30", 48),
            ("2026-03-31", 4),
        ];
        assert_eq!(counts(&berlin, "group"), pairs(&days));
        // Midnight is at 18:30 of UTC there.
        let kolkata = get(&app, "summary?group_by=day&time_zone=Asia/Kolkata").await;
        let days = [
            ("2026-03-27", 37),
            ("2026-03-28", 48),
            ("2026-03-29", 48),
            ("2026-03-30", 48),
            ("2026-03-31", 11),
        ];
        assert_eq!(counts(&kolkata, "group"), pairs(&days));
        for answer in [&utc, &berlin, &kolkata] {
            assert_eq!(
                (&answer["total_requests"], &answer["total_cost_usd"]),
                (&json!(192), &json!("0.000000002688"))
            );
        }
        // A date begins where the zone begins it.
        let one = get(&app, "summary?since=2026-03-29&until=2026-03-30&time_zone=Europe/Berlin").await;
        assert_eq!(one["total_requests"], 46);
        // Anywhere within an hour, to the microsecond.
        let edge = |text: &str| format!("summary?since={text}&until=2026-03-28T10:00:00Z");
        assert_eq!(get(&app, &edge("2026-03-28T09:00:00.000007Z")).await["total_requests"], 2);
        assert_eq!(get(&app, &edge("2026-03-28T09:00:00.000008Z")).await["total_requests"], 1);
        let hours = get(&app, "summary?group_by=hour&since=2026-03-29T00:30:00Z&until=2026-03-29T02:00:00Z&time_zone=Europe/Berlin").await;
        // From 01:59 to 03:00.
        assert_eq!(
            counts(&hours, "group"),
            pairs(&[("2026-03-29T01:00:00+01:00", 1), ("2026-03-29T03:00:00+02:00", 2)])
        );
        app.stop().await;
    });
}

#[test]
fn a_series_has_every_bucket() {
    run(async {
        let mut rows = vec![record(micros("2026-10-24T21:59:59Z")), record(micros("2026-10-24T22:00:00Z"))];
        rows.extend([record(micros("2026-10-25T22:59:59Z")), record(micros("2026-10-27T12:00:00Z"))]);
        rows[3].model = "n".to_owned();
        rows[3].cache = "hit".to_owned();
        let app = app_with(&rows, &[]).await;
        let path = "series?since=2026-10-24&until=2026-10-28&time_zone=Europe/Berlin";
        let days = get(&app, path).await;
        let expected = [
            ("2026-10-24T00:00:00+02:00", 1),
            ("2026-10-25T00:00:00+02:00", 2),
            ("2026-10-26T00:00:00+01:00", 0),
            ("2026-10-27T00:00:00+01:00", 1),
        ];
        assert_eq!(counts(&days, "start"), pairs(&expected));
        assert_eq!((&days["bucket"], &days["time_zone"]), (&json!("day"), &json!("Europe/Berlin")));
        assert_eq!(
            (&days["since"], &days["until"]),
            (&json!("2026-10-24T00:00:00+02:00"), &json!("2026-10-28T00:00:00+01:00"))
        );
        let last = &days["data"][3];
        assert_eq!(
            (&last["cache_hits"], &last["saved_tokens"], &last["input_tokens"]),
            (&json!(1), &json!(13), &json!(0))
        );
        let by_model = get(&app, &format!("{path}&group_by=model")).await;
        let lines: Vec<_> = by_model["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| (line["group"].clone(), line["start"].clone()))
            .collect();
        let line = |model: &str, start: &str| (json!(model), json!(start));
        let expected = [
            line("m", "2026-10-24T00:00:00+02:00"),
            line("m", "2026-10-25T00:00:00+02:00"),
            line("n", "2026-10-27T00:00:00+01:00"),
        ];
        assert_eq!(lines, expected);
        let hours =
            get(&app, "series?bucket=hour&since=2026-10-24T21:30:00Z&until=2026-10-25T00:00:00Z&model=m")
                .await;
        let expected =
            [("2026-10-24T21:00:00Z", 1), ("2026-10-24T22:00:00Z", 1), ("2026-10-24T23:00:00Z", 0)];
        assert_eq!(counts(&hours, "start"), pairs(&expected));
        // 25 hours: by the half-hours of Kolkata and the long day of Berlin alike.
        let long =
            get(&app, "series?bucket=hour&since=2026-10-25&until=2026-10-26&time_zone=Europe/Berlin").await;
        assert_eq!(long["data"].as_array().unwrap().len(), 25);
        let now = get(&app, "series").await;
        assert_eq!(now["data"].as_array().unwrap().len(), 31);
        assert!(matches!(get(&app, "series?bucket=hour").await["data"].as_array().unwrap().len(), 24 | 25));
        for (query, param) in [
            ("bucket=week", "bucket"),
            ("group_by=day", "group_by"),
            ("time_zone=", "time_zone"),
            ("since=2020-01-01", "since"),
            ("bucket=hour&since=2026-01-01&until=2026-10-01", "since"),
            ("until=x", "until"),
            ("limit=1", "limit"),
        ] {
            let answer = app.admin().get(&format!("/api/v1/usage/series?{query}")).await.expect(400);
            assert_eq!(answer.json()["error"]["param"], param, "{query}");
        }
        app.stop().await;
    });
}
