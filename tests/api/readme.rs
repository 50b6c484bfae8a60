//! What the README says to paste, pasted.

use crate::support::{ADMIN_TOKEN, Mock, TestApp, run};
use actix_web::web::block;
use obleth::mock::MockOptions;
use serde_json::Value;
use std::process::Command;

const README: &str = include_str!("../../README.md");

/// The shell lines of a section, all blocks after each other.
fn shell(section: &str) -> String {
    let begin = README.find(&format!("\n## {section}\n")).unwrap();
    let text = README[begin + 4..].split("\n## ").next().unwrap();
    let blocks: Vec<_> =
        text.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    blocks.concat()
}

#[test]
fn the_first_model_tenant_and_key_are_made_and_used_by_what_the_readme_says() {
    run(async {
        let mock = Mock::start(MockOptions::default());
        let app = TestApp::at("http://127.0.0.1:9/v1", &[]).await;
        let mut script = shell("First model, tenant and key");
        for (written, real) in [
            ("http://127.0.0.1:9090", format!("http://{}", app.running.admin)),
            ("http://127.0.0.1:8080", format!("http://{}", app.running.proxy)),
            ("http://127.0.0.1:8081/v1", mock.base()),
        ] {
            assert_eq!(script.matches(written).count(), 1, "{written}");
            script = script.replace(written, &real);
        }
        let shell = move || {
            Command::new("sh").args(["-euc", &script]).env("OBLETH_ADMIN_TOKEN", ADMIN_TOKEN).output()
        };
        let output = block(shell).await.unwrap().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{text}");
        // Answers have no line break at their end: what follows stands on the same line.
        let (model, rest) = text.split_once("sk_").unwrap();
        let model: Value = serde_json::from_str(model.trim()).unwrap();
        for (field, value) in [
            ("model_name", "qwen"),
            ("upstream_model", "Qwen/Qwen2.5-7B-Instruct"),
            ("input_cost_per_token", "0.0000005"),
            ("output_cost_per_token", "0.0000015"),
        ] {
            assert_eq!(model[field], value, "{model}");
        }
        assert_eq!((&model["context_window"], &model["enabled"]), (&32768.into(), &true.into()));
        let (key, rest) = rest.split_once('\n').unwrap();
        assert_eq!(key.len(), 48);
        let answers: Vec<Value> =
            serde_json::Deserializer::from_str(rest).into_iter().map(Result::unwrap).collect();
        let [chat, rows, sums] = answers.as_slice() else { panic!("{rest}") };
        assert_eq!(chat["object"], "chat.completion", "{chat}");
        assert_eq!((&rows["data"][0]["model"], &rows["data"][0]["status"]), (&"qwen".into(), &200.into()));
        assert_eq!(sums["data"][0]["cost_usd"], rows["data"][0]["cost_usd"]);
        assert_ne!(sums["total_cost_usd"], "0");
        app.stop().await;
        mock.stop().await;
    });
}
