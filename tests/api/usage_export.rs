//! `GET /usage/export.csv`.

use crate::support::{app_with, record, run};

const OTHER: &str = "01990000-0000-7000-8000-0000000000b2";

#[test]
fn many_rows_are_exported_once_each_under_one_header() {
    run(async {
        let mut rows: Vec<_> = (0..2_500).map(|number| record(1_000_000 + number / 3)).collect();
        rows[0].request_id = "=cmd|' /C calc'!A0".to_owned();
        rows[1].session_id = Some("a,\"b\"".to_owned());
        rows[2].tenant_id = OTHER.to_owned();
        let app = app_with(&rows, &[]).await;
        let answer = app.admin().get("/api/v1/usage/export.csv").await.expect(200);
        assert_eq!(answer.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
        assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"usage.csv\""));
        assert!(answer.header("x-request-id").is_some());
        let text = answer.text();
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        assert_eq!(lines.len(), 2_501);
        assert!(text.ends_with("\r\n") && !text.replace("\r\n", "").contains('\n'));
        assert!(
            lines[0].starts_with("request_id,ts,tenant_id,key_id,model,")
                && lines[0].ends_with(",bytes_in,bytes_out")
        );
        assert_eq!(lines.iter().filter(|line| line.starts_with("request_id,")).count(), 1);
        assert_eq!(lines[0].split(',').count(), 28);
        rows.sort_by(|a, b| (b.ts, &b.row_id).cmp(&(a.ts, &a.row_id)));
        for (line, row) in lines[1..].iter().zip(&rows) {
            if row.request_id.starts_with('=') {
                assert!(
                    line.starts_with("\"'=cmd|' /C calc'!A0\",1970-01-01T00:00:01.000000Z,t,k,m,up,"),
                    "{line}"
                );
            } else {
                assert!(line.starts_with(&format!("{},", row.request_id)), "{line}");
            }
            assert!(line.contains(",0.000000000014,"), "{line}");
        }
        assert!(text.contains(",\"a,\"\"b\"\"\","), "quotes are doubled");
        let one =
            app.admin().get(&format!("/api/v1/usage/export.csv?tenant_id={OTHER}")).await.expect(200).text();
        assert_eq!(one.split_terminator("\r\n").count(), 2);
        let none = app.admin().get("/api/v1/usage/export.csv?status=5xx").await.expect(200).text();
        assert_eq!(none, format!("{}\r\n", lines[0]));
        for (query, param) in [
            ("limit=1", "limit"),
            ("cursor=x", "cursor"),
            ("x=1", "x"),
            ("status=no", "status"),
            ("tenant_id=t2", "tenant_id"),
        ] {
            let answer = app.admin().get(&format!("/api/v1/usage/export.csv?{query}")).await.expect(400);
            assert_eq!(answer.json()["error"]["param"], param);
        }
        assert_eq!(app.anonymous().get("/api/v1/usage/export.csv").await.status, 404);
        app.stop().await;
    });
}
