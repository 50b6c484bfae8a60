//! A tenant's bill.

use crate::support::{TestApp, app_with, micros, record, run};
use serde_json::{Value, json};

async fn statement(app: &TestApp, query: &str) -> Value {
    app.admin().get(&format!("/api/v1/usage/statement?{query}")).await.expect(200).json()
}

/// A decimal in dollars as pico-dollars.
fn pico(value: &Value) -> i128 {
    let text = value.as_str().unwrap();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{fraction:0<12}").parse().unwrap()
}

fn sum(lines: &Value, of: impl Fn(&Value) -> i128) -> i128 {
    lines.as_array().unwrap().iter().map(of).sum()
}

fn parts(sums: &Value) -> i128 {
    let kinds = ["input", "cached_input", "output"].map(|kind| pico(&sums[kind]["cost_usd"]));
    kinds.iter().sum::<i128>() + pico(&sums["other_cost_usd"])
}

#[test]
fn its_parts_add_up_to_its_total_to_the_last_digit() {
    run(async {
        let start = micros("2026-02-01T00:00:00Z");
        let mut rows = Vec::new();
        for number in 0_i64..200 {
            let mut row = record(start + number * 11_900_000_000);
            row.model = format!("m{}", number % 3);
            row.key_id = format!("k{}", number % 4);
            row.cost_pico = i64::MAX / (number + 1);
            row.input_cost_pico = (number % 7 > 0).then_some(row.cost_pico / 3);
            row.cached_input_cost_pico = row.input_cost_pico.map(|pico| pico / 5);
            row.unpriced = number == 9;
            rows.push(row);
        }
        let within: i128 = rows.iter().map(|row| i128::from(row.cost_pico)).sum();
        let foreign = [record(start - 1), record(micros("2026-03-01T00:00:00Z"))];
        rows.extend(foreign);
        rows.push({
            let mut other = record(start + 5);
            other.tenant_id = "other".to_owned();
            other
        });
        let app = app_with(&rows, &[]).await;
        let bill = statement(&app, "tenant=t&month=2026-02").await;
        assert_eq!(bill["lines"].as_array().unwrap().len(), 12);
        assert_eq!((&bill["total"]["requests"], &bill["total"]["unpriced"]), (&json!(200), &json!(1)));
        assert_eq!(pico(&bill["total"]["cost_usd"]), within);
        assert_eq!(parts(&bill["total"]), within);
        for list in ["lines", "by_model", "by_key"] {
            assert_eq!(sum(&bill[list], |line| pico(&line["cost_usd"])), within, "{list}");
            assert_eq!(sum(&bill[list], parts), within, "{list}");
            for line in bill[list].as_array().unwrap() {
                assert_eq!(parts(line), pico(&line["cost_usd"]), "{line}");
            }
            for kind in ["input", "cached_input", "output"] {
                let of_kind = sum(&bill[list], |line| pico(&line[kind]["cost_usd"]));
                assert_eq!(of_kind, pico(&bill["total"][kind]["cost_usd"]), "{kind} of {list}");
            }
        }
        assert!(pico(&bill["total"]["other_cost_usd"]) > 0, "rows without costs by kind are told apart");
        let kinds = ["input", "cached_input", "output"].map(|kind| bill["total"][kind]["tokens"].clone());
        assert_eq!(kinds, [json!(1200), json!(800), json!(600)]);
        let frame =
            ["tenant", "month", "time_zone", "since", "until", "closed"].map(|field| bill[field].clone());
        let expected = [
            json!("t"),
            json!("2026-02"),
            json!("UTC"),
            json!("2026-02-01T00:00:00Z"),
            json!("2026-03-01T00:00:00Z"),
            json!(true),
        ];
        assert_eq!(frame, expected);
        assert_eq!(statement(&app, "tenant=nobody&month=2026-02").await["total"]["cost_usd"], "0");
        assert_eq!(statement(&app, "tenant=t&month=2999-01").await["closed"], json!(false));
        app.stop().await;
    });
}

#[test]
fn its_month_is_that_of_the_zone() {
    run(async {
        // 00:00 of 1 February in Kolkata and in New York.
        let (kolkata, york) = (micros("2026-01-31T18:30:00Z"), micros("2026-02-01T05:00:00Z"));
        let rows = [kolkata - 1, kolkata, york - 1, york].map(record);
        let app = app_with(&rows, &[]).await;
        for (month, zone, requests) in [
            ("2026-01", "Asia/Kolkata", 1),
            ("2026-02", "Asia/Kolkata", 3),
            ("2026-01", "America/New_York", 3),
            ("2026-02", "America/New_York", 1),
            ("2026-01", "UTC", 2),
            ("2026-02", "UTC", 2),
        ] {
            let bill = statement(&app, &format!("tenant=t&month={month}&time_zone={zone}")).await;
            assert_eq!(bill["total"]["requests"], requests, "{month} {zone}");
        }
        for (query, param) in [
            ("month=2026-02", "tenant"),
            ("tenant=t", "month"),
            ("tenant=t&month=2026", "month"),
            ("tenant=t&month=2026-13", "month"),
            ("tenant=t&month=9999-12", "month"),
            ("tenant=t&month=2026-02-01", "month"),
            ("tenant=t&month=2026-02&time_zone=x", "time_zone"),
            ("tenant=t&month=2026-02&since=2026-01-01", "since"),
        ] {
            let answer = app.admin().get(&format!("/api/v1/usage/statement?{query}")).await.expect(400);
            assert_eq!(answer.json()["error"]["param"], param, "{query}");
        }
        app.stop().await;
    });
}
