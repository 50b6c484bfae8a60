//! Keys in an operator's hands: moved, searched, seen to be used.

use crate::management::{names, start};
use crate::support::{TestApp, Upstream, chat_answer, run};
use serde_json::{Value, json};

#[test]
fn a_key_moves_to_another_tenant_and_takes_nothing_along() {
    run(async {
        let upstream = Upstream::always(chat_answer(3, 4)).await;
        let app = TestApp::start(&upstream).await;
        let admin = app.admin();
        app.model("m").await;
        let (old, new) = (app.tenant(json!({"name": "old"})).await, app.tenant(json!({"name": "new"})).await);
        let secret = app.key(&old, json!({"name": "k", "max_in_flight": 2})).await;
        let client = app.client(&secret);
        client.chat("m").await.expect(200);
        let list = admin.get(&format!("/api/v1/tenants/{old}/keys")).await.expect(200).json();
        let path = format!("/api/v1/keys/{}", list["data"][0]["id"].as_str().unwrap());
        for (value, status) in
            [(json!(null), 400), (json!("new"), 400), (json!("00000000-0000-0000-0000-00000000000f"), 400)]
        {
            let refused = admin.patch(&path, &json!({"tenant_id": value})).await;
            assert_eq!(refused.status, status);
            names(&refused, "tenant_id");
        }
        let moved = admin.patch(&path, &json!({"tenant_id": new, "name": "moved"})).await.expect(200).json();
        assert_eq!(
            (&moved["tenant_id"], &moved["name"], &moved["max_in_flight"]),
            (&json!(new), &json!("moved"), &json!(2))
        );
        client.chat("m").await.expect(200);
        admin.patch(&format!("/api/v1/tenants/{old}"), &json!({"status": "suspended"})).await.expect(200);
        client.chat("m").await.expect(200);
        admin.delete(&format!("/api/v1/tenants/{old}")).await.expect(204);
        client.chat("m").await.expect(200);
        let tenants: Vec<_> = app.rows().await.iter().map(|row| row["tenant_id"].clone()).collect();
        assert_eq!(
            tenants,
            [json!(new), json!(new), json!(new), json!(old)],
            "each bill stays where it was made"
        );
        let told = admin.get("/api/v1/audit?kind=key&limit=1").await.expect(200).json()["data"][0].clone();
        assert_eq!((&told["before"]["tenant_id"], &told["after"]["tenant_id"]), (&json!(old), &json!(new)));
        app.idle().await;
        app.stop().await;
    });
}

fn found(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect()
}

#[test]
fn keys_are_searched_by_what_is_known_of_them() {
    run(async {
        let (app, admin) = start().await;
        let tenant = app.tenant(json!({"name": "t"})).await;
        let other = app.tenant(json!({"name": "u"})).await;
        let first = app.key(&tenant, json!({"name": "a"})).await;
        let second = app.key(&tenant, json!({"name": "b", "disabled": true})).await;
        app.key(&other, json!({"name": "c"})).await;
        let get = async |query: String| admin.get(&format!("/api/v1/keys?{query}")).await.expect(200).json();
        assert_eq!(found(&get(format!("prefix={}", &first[..11])).await), ["a"]);
        assert_eq!(found(&get(format!("prefix={}", &second[..9])).await), ["b"]);
        assert_eq!(found(&get("prefix=sk_".to_owned()).await), ["a", "b", "c"]);
        assert_eq!(found(&get("prefix=SK".to_owned()).await), [""; 0]);
        assert_eq!(found(&get("prefix=s__".to_owned()).await), [""; 0], "no wildcards");
        assert_eq!(found(&get("prefix=%25".to_owned()).await), [""; 0]);
        assert_eq!(found(&get(format!("tenant_id={tenant}")).await), ["a", "b"]);
        assert_eq!(found(&get(format!("tenant_id={tenant}&disabled=false")).await), ["a"]);
        assert_eq!(found(&get("name=c".to_owned()).await), ["c"]);
        assert_eq!(found(&get("name=c&prefix=sk_&limit=1".to_owned()).await), ["c"]);
        names(&admin.get(&format!("/api/v1/keys?prefix={first}")).await, "prefix");
        names(&admin.get("/api/v1/keys?disabled=maybe").await, "disabled");
        admin.get("/api/v1/keys?tenant_id=nobody").await.expect(404);
        app.stop().await;
    });
}

#[test]
fn the_last_use_of_a_key_is_shown_and_outlives_the_process() {
    run(async {
        let (app, admin) = start().await;
        let tenant = app.tenant(json!({"name": "t"})).await;
        let used = app.key(&tenant, json!({"name": "used"})).await;
        app.key(&tenant, json!({"name": "unused"})).await;
        let before = admin.get("/api/v1/keys").await.expect(200).json();
        let [key, _] = before["data"].as_array().unwrap().as_slice() else { panic!("{before}") };
        let path = format!("/api/v1/keys/{}", key["id"].as_str().unwrap());
        assert_eq!(key["last_used_at"], Value::Null);
        app.client(&used).get("/v1/models").await.expect(200);
        let after = admin.get(&path).await.expect(200).json();
        let at = after["last_used_at"].as_str().unwrap().to_owned();
        assert!(at.ends_with(":00.000000Z"), "to the minute: {at}");
        assert_eq!((&after["version"], &after["updated_at"]), (&key["version"], &key["updated_at"]));
        admin.patch(&path, &json!({"name": "renamed"})).await.expect(200);
        assert_eq!(admin.get(&path).await.expect(200).json()["last_used_at"], at, "a change keeps it");
        app.running.gateway.handles.admin.write_uses().await;
        let directory = app.stop().await;
        let app = TestApp::start_in(directory, "http://127.0.0.1:9/v1", &[]).await;
        let list = app.admin().get("/api/v1/keys").await.expect(200).json();
        assert_eq!(
            (&list["data"][0]["last_used_at"], &list["data"][1]["last_used_at"]),
            (&json!(at), &Value::Null)
        );
        app.stop().await;
    });
}
