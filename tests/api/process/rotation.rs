//! `obleth rotate-encryption-key`: every stored secret under a new key, or nothing.

use super::Obleth;
use crate::support::{TestApp, Upstream, chat_answer, run};
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use serde_json::json;
use std::path::Path;

const FIRST: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECOND: &str = "AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const THIRD: &str = "AgECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECRETS: [&str; 4] = ["very-secret-1", "very-secret-2", "very-secret-3", "rotated-mcp-secret"];

/// Exit code, stdout and stderr of a rotation of the database in `folder`.
async fn rotate(folder: &Path, from: &str, to: &str) -> (Option<i32>, String) {
    let variables = [("OBLETH_ENCRYPTION_KEY", from), ("OBLETH_NEW_ENCRYPTION_KEY", to)];
    let mut process = Obleth::spawn(folder, &["rotate-encryption-key"], &variables);
    let code = process.exit().await;
    (code, format!("{}{}", process.stdout(), process.stderr()))
}

/// No file of `folder` holds one of `secrets`.
fn clean(folder: &Path, secrets: &[&str]) {
    for path in
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).filter(|path| path.is_file())
    {
        let bytes = std::fs::read(&path).unwrap();
        for secret in secrets {
            assert!(memchr::memmem::find(&bytes, secret.as_bytes()).is_none(), "{secret} in {path:?}");
        }
    }
}

/// A gateway with secrets; the key it seals with may be empty.
async fn furnished(upstream: &Upstream, key: &str) -> (TestApp, String) {
    let app = TestApp::with(upstream, &[("OBLETH_ENCRYPTION_KEY", key)]).await;
    let headers = json!({"x-auth": SECRETS[1]});
    app.model_with(json!({"model_name": "m", "api_key": SECRETS[0], "upstream_headers": headers})).await;
    app.model_with(json!({"model_name": "n", "api_key": SECRETS[2]})).await;
    app.model("open").await;
    let server = json!({"name": "s", "upstream_url": format!("http://{}/mcp", upstream.address), "auth_header": SECRETS[3]});
    app.admin().post("/api/v1/mcp-servers", &server).await.expect(201);
    let tenant = app.tenant(json!({"name": "acme"})).await;
    let secret = app.key(&tenant, json!({"name": "k"})).await;
    (app, secret)
}

#[test]
fn every_secret_is_encrypted_anew_and_opens_with_the_new_key_alone() {
    run(async {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let (app, secret) = furnished(&upstream, FIRST).await;
        let folder = app.stop().await;
        let (code, told) = rotate(folder.path(), SECOND, THIRD).await;
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("another key") && told.contains("nothing was changed"), "{told}");
        let (code, told) = rotate(folder.path(), FIRST, SECOND).await;
        assert_eq!(code, Some(0), "{told}");
        assert!(told.contains("4 secret(s) encrypted with the new key, 0 of them"), "{told}");
        let (code, told) = rotate(folder.path(), FIRST, SECOND).await;
        assert_eq!(code, Some(0), "{told}");
        assert!(told.contains("0 secret(s)"), "a second run has nothing to do: {told}");
        let (code, told) = rotate(folder.path(), FIRST, THIRD).await;
        assert_eq!(code, Some(1), "the old key opens nothing any more: {told}");
        clean(folder.path(), &[SECRETS[0], SECRETS[1], SECRETS[2], SECRETS[3], &secret, FIRST, SECOND]);

        let app = TestApp::start_in(folder, &upstream.base(), &[("OBLETH_ENCRYPTION_KEY", SECOND)]).await;
        app.client(&secret).chat("m").await.expect(200);
        let seen = upstream.seen().pop().unwrap();
        assert_eq!(seen.headers.get("authorization").unwrap(), &format!("Bearer {}", SECRETS[0]));
        assert_eq!(seen.headers.get("x-auth").unwrap(), SECRETS[1]);
        app.client(&secret)
            .post("/mcp/s", &json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}))
            .await
            .expect(200);
        assert_eq!(upstream.last().header("authorization"), Some(SECRETS[3]));
        let rows = app.admin().get("/api/v1/audit?kind=encryption_key").await.expect(200).json();
        assert_eq!(rows["data"].as_array().unwrap().len(), 1);
        assert_eq!(rows["data"][0]["actor"]["id"], "rotate-encryption-key");
        let all = app.admin().get("/api/v1/audit").await.expect(200).text();
        let export = app.admin().get("/api/v1/config/export").await.expect(200).text();
        for secret in SECRETS.into_iter().chain([secret.as_str(), FIRST, SECOND]) {
            assert!(!all.contains(secret) && !export.contains(secret), "{secret}");
        }
        app.stop().await;
    });
}

#[test]
fn what_was_stored_in_the_open_is_sealed() {
    run(async {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let (app, secret) = furnished(&upstream, "").await;
        let folder = app.stop().await;
        let (code, told) = rotate(folder.path(), "", SECOND).await;
        assert_eq!(code, Some(0), "{told}");
        assert!(told.contains("4 secret(s) encrypted with the new key, 4 of them"), "{told}");
        clean(folder.path(), &SECRETS);
        let app = TestApp::start_in(folder, &upstream.base(), &[("OBLETH_ENCRYPTION_KEY", SECOND)]).await;
        app.client(&secret).chat("n").await.expect(200);
        let seen = upstream.seen().pop().unwrap();
        assert_eq!(seen.headers.get("authorization").unwrap(), &format!("Bearer {}", SECRETS[2]));
        app.stop().await;
    });
}

#[test]
fn a_database_that_is_served_is_left_alone() {
    run(async {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let (app, secret) = furnished(&upstream, FIRST).await;
        let folder = app.stop().await;
        let path = folder.path().to_owned();
        let app = TestApp::start_in(folder, &upstream.base(), &[("OBLETH_ENCRYPTION_KEY", FIRST)]).await;
        let (code, told) = rotate(&path, FIRST, SECOND).await;
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("served by another obleth"), "{told}");
        let folder = app.stop().await;
        let app = TestApp::start_in(folder, &upstream.base(), &[("OBLETH_ENCRYPTION_KEY", FIRST)]).await;
        app.client(&secret).chat("m").await.expect(200);
        app.stop().await;
        for (from, to) in [(FIRST, ""), (FIRST, "short"), (FIRST, FIRST)] {
            let folder = tempfile::tempdir().unwrap();
            let (code, told) = rotate(folder.path(), from, to).await;
            assert_eq!(code, Some(2), "{told}");
            assert!(told.contains("OBLETH_NEW_ENCRYPTION_KEY"), "{told}");
        }
    });
}

/// A process in the middle of a read.
fn reads(path: &Path) -> SqliteConnection {
    let mut reader = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    reader.batch_execute("PRAGMA busy_timeout=10000; BEGIN; SELECT count(*) FROM models;").unwrap();
    reader
}

#[test]
fn nothing_of_an_old_secret_is_left_and_what_is_left_is_told() {
    run(async {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let (app, _) = furnished(&upstream, "").await;
        // Replaced and deleted before there was a key: the file remembers them.
        app.admin().patch("/api/v1/models/m", &json!({"api_key": "another-secret"})).await.expect(200);
        app.admin().delete("/api/v1/models/n").await.expect(204);
        let folder = app.stop().await;
        let path = folder.path().join("obleth.db");
        // Another process that reads keeps the file from being written anew.
        let reader = reads(&path);
        let (code, told) = rotate(folder.path(), "", SECOND).await;
        assert_eq!(code, Some(1), "{told}");
        assert!(
            told.contains("encrypted with the new key") && told.contains("run this command once more"),
            "{told}"
        );
        assert!(!told.contains("nothing was changed"), "{told}");
        drop(reader);
        let (code, told) = rotate(folder.path(), "", SECOND).await;
        assert_eq!(code, Some(0), "{told}");
        assert!(told.contains("0 secret(s)") && told.contains("already"), "{told}");
        clean(folder.path(), &[SECRETS[0], SECRETS[1], SECRETS[2], SECRETS[3], "another-secret"]);
    });
}

#[test]
fn a_database_that_is_not_there_is_not_made() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let (code, told) = rotate(folder.path(), FIRST, SECOND).await;
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("there is no database file"), "{told}");
        let left = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("obleth.db")).collect();
        assert!(left.is_empty(), "{left:?}");
    });
}
