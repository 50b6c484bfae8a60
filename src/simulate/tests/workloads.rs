//! Shortened workloads S1, S4, S5 and S10 of the fairness specification, with their goals. The whole of
//! them is run by `scripts/simulate.sh`.

use super::*;
use std::fmt::Write;

/// A seeded generator (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// About `mean`, from a third of it to thrice: mostly short, sometimes long.
    fn length(&mut self, mean: u64) -> u64 {
        let eighth = mean.div_ceil(8);
        (0..4).map(|_| 1 + self.roll() % (eighth * 4)).sum::<u64>().max(mean / 3)
    }
}

/// Requests of one sender; times in microseconds.
struct Sender<'a> {
    tenant: &'a str,
    model: &'a str,
    /// Mean time between two requests.
    every: u64,
    output: u64,
    max_tokens: u64,
}

fn trace(seed: u64, seconds: u64, senders: &[Sender<'_>]) -> String {
    let mut dice = Dice(seed);
    let mut lines = Vec::new();
    for sender in senders {
        let mut at = 0;
        while at < seconds * 1_000_000 {
            at += 1 + dice.roll() % (2 * sender.every);
            lines.push((at, sender, dice.length(200), dice.length(sender.output)));
        }
    }
    lines.sort_by_key(|(at, ..)| *at);
    lines.iter().fold(String::new(), |mut text, (at, sender, prompt, output)| {
        let Sender { tenant, model, max_tokens, .. } = sender;
        let most = if *max_tokens == 0 { output + output / 10 + 8 } else { *max_tokens };
        writeln!(
            text,
            r#"{{"at_s":{}.{:06},"tenant":"{tenant}","model":"{model}","prompt_tokens":{prompt},"output_tokens":{output},"max_tokens":{most}}}"#,
            at / 1_000_000,
            at % 1_000_000
        )
        .unwrap();
        text
    })
}

fn sends<'a>(tenant: &'a str, model: &'a str, a_minute: u64) -> Sender<'a> {
    Sender { tenant, model, every: 60_000_000 / a_minute, output: 200, max_tokens: 1024 }
}

fn light<'a>(model: &'a str, a_minute: u64) -> Sender<'a> {
    Sender { output: 60, ..sends("L", model, a_minute) }
}

/// Tokens granted per tenant after a fifth of the run.
type Tokens = std::collections::BTreeMap<String, u64>;

/// The report of a workload on 32 slots.
fn replay(seconds: u64, senders: &[Sender<'_>], rest: &str) -> (Report, Tokens) {
    let scenario = format!(
        r#"{{"slots":32,"prefill_tokens_per_s":5000,"decode_tokens_per_s":50,"duration_s":{seconds},{rest}}}"#
    );
    let trace = trace(7, seconds, senders);
    let (report, events) = simulate(Algorithm::HrSfq, &scenario, &trace);
    let tightest = report.tightest_gap.as_ref().unwrap();
    assert!(tightest.tokens * 2 <= tightest.bound_tokens, "{report}");
    assert!(report.work_conservation >= 1.0, "{report}");
    let requests: Vec<serde_json::Value> =
        trace.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut tokens = Tokens::new();
    for event in events.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()) {
        if event["event"] == "grant" && event["t"].as_f64().unwrap() * 5.0 > report.duration_s {
            let request = &requests[usize::try_from(event["id"].as_u64().unwrap()).unwrap()];
            let size = ["prompt_tokens", "output_tokens"].map(|name| request[name].as_u64().unwrap());
            *tokens.entry(event["tenant"].as_str().unwrap().to_owned()).or_default() += size[0] + size[1];
        }
    }
    (report, tokens)
}

fn ratio(tokens: &Tokens, a: &str, b: &str) -> f64 {
    numbers::ratio(tokens[a].into(), tokens[b].into())
}

#[test]
fn s1_weights_of_ten_to_one() {
    let senders = [sends("A", "m", 720), sends("B", "m", 3600), light("m", 6)];
    let rest =
        r#""tenants":[{"name":"A","weight":1000},{"name":"B","weight":100},{"name":"L","weight":100}]"#;
    let (report, tokens) = replay(120, &senders, rest);
    assert!(report.weighted_jain.unwrap() >= 0.999, "{report}");
    assert!((9.5..10.5).contains(&ratio(&tokens, "A", "B")), "{tokens:?} {report}");
    // One mean service: the longest of some twenty waits, two requests at once among them.
    assert!(named(&report, "L").wait_p99_s <= 4.0, "{report}");
}

#[test]
fn s4_asking_for_more_than_is_needed_wins_and_loses_nothing() {
    let asks = |tenant, max_tokens| Sender { max_tokens, ..sends(tenant, "m", 300) };
    let senders = [asks("0", 8192), asks("1", 8192), asks("2", 0), asks("3", 0), light("m", 6)];
    let rest = r#""tenants":[{"name":"0","max_in_flight":24},{"name":"1","max_in_flight":24},
        {"name":"2","max_in_flight":24},{"name":"3","max_in_flight":24}]"#;
    let (report, _) = replay(120, &senders, rest);
    assert!(report.weighted_jain.unwrap() >= 0.999, "{report}");
}

#[test]
fn s5_a_narrow_model_does_not_hold_up_a_wide_one() {
    let senders = [
        sends("A", "X", 480),
        sends("B", "Y", 540),
        sends("C", "Y", 540),
        sends("C", "X", 60),
        light("Y", 9),
    ];
    let rest = r#""models":[{"name":"X","max_in_flight":4},{"name":"Y","max_in_flight":28}]"#;
    let (report, tokens) = replay(120, &senders, rest);
    assert!(report.weighted_jain.unwrap() >= 0.999, "{report}");
    assert!((0.97..1.03).contains(&ratio(&tokens, "B", "C")), "{report}");
    assert!(report.slot_use >= 0.98, "{report}");
}

#[test]
fn s10_a_narrow_model_is_shared_by_weight_while_a_wide_one_is_flooded() {
    let senders = [sends("A", "X", 240), sends("B", "X", 240), sends("C", "Y", 960), light("X", 6)];
    let models = r#""models":[{"name":"X","max_in_flight":4},{"name":"Y","max_in_flight":28}]"#;
    let weights =
        r#""tenants":[{"name":"A","weight":1000},{"name":"B"},{"name":"C"},{"name":"L","weight":1000}]"#;
    let groups = r#""groups":[{"name":"p","weight":1000},{"name":"q"},{"name":"r"}],"tenants":[
        {"name":"A","group":"p"},{"name":"B","group":"q"},{"name":"C","group":"r"},{"name":"L","group":"p"}]"#;
    for (parties, least) in [(weights, 9.0), (groups, 8.5)] {
        let (report, tokens) = replay(600, &senders, &format!("{models},{parties}"));
        assert!(ratio(&tokens, "A", "B") >= least, "{tokens:?} {report}");
        assert!(named(&report, "L").wait_p99_s <= 5.0, "{report}");
    }
}
