//! The harness itself: what other tests rely on.

use crate::support::{Cluster, Load, Mock, Need, Plan, Postgres, Redis, Wire, have, run, until};
use obleth::mock::MockOptions;
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

fn pace() -> MockOptions {
    MockOptions {
        ttft: Duration::from_millis(2),
        token: Duration::from_millis(1),
        tokens: 8,
        ..MockOptions::default()
    }
}

#[test]
fn replicas_serve_a_load_and_one_that_is_killed_comes_back_with_its_journal() {
    if !have(&[Need::Postgres, Need::Redis]) {
        return;
    }
    run(async {
        let mock = Mock::start(pace());
        let mut cluster = Cluster::of(2).upstream(&mock.base()).start().await;
        cluster.model(json!({"model_name": "m"})).await;
        let tenant = cluster.tenant(json!({"name": "acme"})).await;
        let key = cluster.key(&tenant, json!({"name": "k"})).await;
        cluster.knows(&key).await;
        let load = Load::start(Plan::new("a", &key, &cluster.doors(), 8));
        until("some are served", async || (load.served() > 100).then_some(())).await;
        cluster.replicas[1].kill();
        let before = load.served();
        until("the other serves", async || (load.served() > before + 50).then_some(())).await;
        cluster.replicas[1].restart().await;
        let tally = load.stop().await;
        println!("{:?}", tally.ends());
        assert!(tally.ends()["no answer"] > 0, "clients of a killed replica get no answer");
        let books = cluster.books().await;
        books.agree_with(&tally).await;
        assert!(books.tokens(&tenant).await >= tally.tokens() as i64);
        assert!(books.cost(&tenant).await > 0);
        for replica in &mut cluster.replicas {
            replica.terminate();
        }
        for replica in &mut cluster.replicas {
            assert_eq!(replica.exit().await, Some(0), "{}", replica.log());
        }
        assert!(mock.stats().await["peak_running"].as_u64().unwrap() <= 8);
        mock.stop().await;
    });
}

#[test]
fn a_paused_replica_says_nothing_until_it_goes_on() {
    if !have(&[Need::Postgres]) {
        return;
    }
    run(async {
        let cluster = Cluster::of(1).without_redis().start().await;
        cluster.replicas[0].pause();
        assert_eq!(cluster.replicas[0].readiness().await, None);
        cluster.replicas[0].resume();
        until("it answers again", async || {
            (cluster.replicas[0].readiness().await == Some(200)).then_some(())
        })
        .await;
        assert_eq!(cluster.replicas[0].metric("obleth_ready").await, 1.0);
    });
}

#[test]
fn a_redis_of_the_tests_own_hangs_dies_and_comes_back_empty() {
    if !have(&[Need::Redis]) {
        return;
    }
    run(async {
        let mut redis = Redis::start().await;
        assert_eq!(redis.command("SET a 1").await.as_deref(), Some("+OK\r\n"));
        redis.pause();
        assert_eq!(redis.command("GET a").await, None);
        redis.resume();
        assert_eq!(redis.command("GET a").await.as_deref(), Some("$1\r\n1\r\n"));
        redis.kill();
        assert_eq!(redis.command("GET a").await, None);
        redis.restart().await;
        assert_eq!(redis.command("GET a").await.as_deref(), Some("$-1\r\n"));
    });
}

#[test]
fn a_postgresql_of_the_tests_own_hangs_dies_and_comes_back_with_its_rows() {
    if !have(&[Need::PrivatePostgres]) {
        return;
    }
    run(async {
        let postgres = Postgres::start().await;
        let cluster = Cluster::of(1).database(&postgres.url).without_redis().start().await;
        cluster.tenant(json!({"name": "acme"})).await;
        postgres.pause();
        until("it is noticed", async || {
            (cluster.replicas[0].metric("obleth_store_up").await == 0.0).then_some(())
        })
        .await;
        postgres.resume();
        let up = async || (cluster.replicas[0].metric("obleth_store_up").await == 1.0).then_some(());
        until("it goes on", up).await;
        postgres.kill().await;
        until("it is noticed", async || {
            (cluster.replicas[0].metric("obleth_store_up").await == 0.0).then_some(())
        })
        .await;
        postgres.restart().await;
        until("it is back", up).await;
        let tenants = cluster.books().await.number("SELECT count(*) AS number FROM tenants").await;
        assert_eq!(tenants, 1);
    });
}

#[test]
fn a_wire_is_cut_goes_black_and_is_healed() {
    run(async {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Wire::to(server.local_addr().unwrap());
        actix_rt::spawn(async move {
            while let Ok((mut socket, _)) = server.accept().await {
                actix_rt::spawn(async move {
                    let (mut from, mut to) = socket.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        let echo = async |socket: &mut TcpStream, byte: u8| {
            socket.write_all(&[byte]).await.ok()?;
            let read = timeout(Duration::from_millis(200), socket.read_u8()).await;
            Some(read.map(Result::ok))
        };
        let mut socket = TcpStream::connect(wire.address).await.unwrap();
        assert_eq!(echo(&mut socket, 1).await, Some(Ok(Some(1))));
        wire.blacken();
        assert!(echo(&mut socket, 2).await.unwrap().is_err(), "silence");
        let mut late = TcpStream::connect(wire.address).await.unwrap();
        assert!(echo(&mut late, 3).await.unwrap().is_err(), "silence");
        wire.heal();
        assert_eq!(socket.read_u8().await.unwrap(), 2, "what was on its way arrives");
        assert_eq!(late.read_u8().await.unwrap(), 3);
        wire.cut();
        assert!(socket.read_u8().await.is_err() && late.read_u8().await.is_err(), "reset");
        let refused = async { TcpStream::connect(wire.address).await?.read_u8().await };
        assert!(refused.await.is_err());
        wire.heal();
        let mut socket = TcpStream::connect(wire.address).await.unwrap();
        assert_eq!(echo(&mut socket, 4).await, Some(Ok(Some(4))));
    });
}
