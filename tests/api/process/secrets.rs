//! Where secrets never are: the files of the database, the journal, the logs at their most talkative, metrics, the audit,
//! an export, and answers.

use super::Serving;
use crate::support::{ADMIN_TOKEN, Caller, Upstream, chat_answer, run};
use actix_web::http::Method;
use serde_json::{Value, json};
use std::path::Path;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// What is set by hand.
const SET: [&str; 7] = [
    "secret-of-a-model",
    "secret-of-a-header",
    "secret-of-a-patch",
    "secret-of-an-import",
    "secret-of-a-variable",
    "secret-in-the-wrong-field",
    "secret-in-a-prompt",
];

/// Every file below `folder`, but for those that the test wrote.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Uses every way in which a secret comes into the gateway. Answers those that it made.
async fn use_secrets(serving: &Serving) -> Vec<String> {
    let admin = &serving.admin;
    let model = json!({"model_name": "m", "api_key": SET[0], "upstream_headers": {"x-auth": SET[1]}});
    admin.post("/api/v1/models", &model).await.expect(201);
    admin.patch("/api/v1/models/m", &json!({"api_key": SET[2], "description": "x"})).await.expect(200);
    let document = json!({"models": [
        {"model_name": "n", "api_key": SET[3]},
        {"model_name": "o", "api_key": {"env": "OBLETH_SECRET_UPSTREAM"}}
    ]});
    admin.post("/api/v1/config/import?dry_run=true", &document).await.expect(200);
    admin.post("/api/v1/config/import", &document).await.expect(200);
    let tenant = admin.post("/api/v1/tenants", &json!({"name": "t"})).await.expect(201).json();
    let keys = format!("/api/v1/tenants/{}/keys", tenant["id"].as_str().unwrap());
    let made = admin.post(&keys, &json!({"name": "k"})).await.expect(201).json();
    let rotate = format!("/api/v1/keys/{}/rotate", made["key"]["id"].as_str().unwrap());
    let rotated = admin.post(&rotate, &json!({"overlap_secs": 600})).await.expect(200).json();
    let token = json!({"name": "ci", "role": "operator"});
    let token = admin.post("/api/v1/admin-tokens", &token).await.expect(201).json();
    let secrets: Vec<String> =
        [&made, &rotated, &token].map(|made| made["secret"].as_str().unwrap().to_owned()).into();
    // Refused, each in a way of its own.
    for body in [
        json!({"model_name": "x", "api_key": {"value": SET[5]}}),
        json!({"model_name": "x", "api_key": [SET[5]]}),
        json!({"model_name": "x", "context_window": SET[5]}),
        json!({"model_name": "x", "input_cost_per_token": SET[5]}),
        json!({"model_name": "x", "upstream_headers": {"x-auth": [SET[5]]}}),
        json!({"model_name": "x", "upstream_headers": {"x-auth": format!("{}\n", SET[5])}}),
        json!({"model_name": "x", "api_key": format!("{}\u{1}", SET[5])}),
    ] {
        let refused = admin.post("/api/v1/models", &body).await.expect(400);
        assert!(!refused.text().contains(SET[5]), "{}", refused.text());
    }
    for key in &secrets[..2] {
        let client = Caller::new(serving.proxy, Some(key));
        let prompt = json!({"model": "m", "messages": [{"role": "user", "content": SET[6]}]});
        client.post("/v1/chat/completions", &prompt).await.expect(200);
        client.post("/v1/chat/completions", &json!({"model": "nothing", "input": SET[6]})).await.expect(404);
    }
    Caller::new(serving.admin.address, Some(&secrets[2])).get("/api/v1/models").await.expect(200);
    Caller::new(serving.admin.address, Some(&secrets[0])).get("/api/v1/models").await.expect(401);
    let by_header = serving
        .admin
        .request(Method::GET, "/api/v1/models")
        .insert_header(("x-api-key", secrets[1].as_str()));
    Caller::send(by_header, "").await.expect(200);
    secrets
}

#[test]
fn no_secret_is_in_a_file_a_log_an_answer_or_the_audit() {
    run(async {
        let upstream = Upstream::always(chat_answer(3, 4)).await;
        let variables = [
            ("OBLETH_ENCRYPTION_KEY", KEY),
            ("OBLETH_SECRET_UPSTREAM", SET[4]),
            ("RUST_LOG", "debug,obleth=trace"),
        ];
        let mut serving = Serving::start(&upstream, &variables).await;
        let mut secrets = use_secrets(&serving).await;
        secrets.extend(SET.map(str::to_owned));
        secrets.extend([ADMIN_TOKEN, KEY].map(str::to_owned));
        let seen = upstream.seen().pop().unwrap();
        assert_eq!(
            seen.headers.get("authorization").unwrap(),
            &format!("Bearer {}", SET[2]),
            "they are in use"
        );

        let mut texts = Vec::new();
        for path in [
            "audit?limit=1000",
            "config/export",
            "models",
            "keys",
            "admin-tokens",
            "usage/logs",
            "usage/export.csv",
        ] {
            texts.push(serving.admin.get(&format!("/api/v1/{path}")).await.expect(200).text());
        }
        texts.push(serving.metrics().await);
        assert!(texts[0].contains("api_key_set") && texts[1].contains("key_hash"));
        let rows: Value = serde_json::from_str(&texts[0]).unwrap();
        assert!(rows["data"].as_array().unwrap().len() >= 8);
        serving.process.signal("KILL");
        serving.process.exit().await;
        let files = files(serving.directory.path());
        let named = |end: &str| files.iter().any(|path| path.to_string_lossy().ends_with(end));
        assert!(named(".db") && named(".db-wal") && named("stderr"), "{files:?}");
        assert!(serving.process.stderr().len() > 1000 || serving.process.stdout().len() > 1000);
        for secret in &secrets {
            for text in &texts {
                assert!(!text.contains(secret), "{secret} in {text}");
            }
            for path in &files {
                let bytes = std::fs::read(path).unwrap();
                assert!(memchr::memmem::find(&bytes, secret.as_bytes()).is_none(), "{secret} in {path:?}");
            }
        }
    });
}
