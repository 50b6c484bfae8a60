//! The connection on a real Redis, through a proxy that can be frozen and cut.

use super::*;
use std::sync::atomic::AtomicU8;
use std::time::Instant;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const PASSES: u8 = 0;
/// Accepts and reads nothing, as the kernel does for a process that is stopped.
const FROZEN: u8 = 1;
const CUT: u8 = 2;

/// `None`: there is no Redis to test on.
pub(in crate::fleet) fn redis_url() -> Option<RedisUrl> {
    let Ok(url) = std::env::var("OBLETH_TEST_REDIS_URL") else {
        let required = std::env::var("OBLETH_TEST_REQUIRE").is_ok_and(|what| what == "all");
        assert!(!required, "OBLETH_TEST_REQUIRE=all, but OBLETH_TEST_REDIS_URL is unset");
        eprintln!("SKIPPED: OBLETH_TEST_REDIS_URL is unset");
        return None;
    };
    Some(url.parse().unwrap())
}

struct Proxy {
    url: RedisUrl,
    mode: Arc<AtomicU8>,
}

impl Proxy {
    /// `None`: there is no Redis to test on.
    async fn start() -> Option<Self> {
        redis_url()?;
        let real = std::env::var("OBLETH_TEST_REDIS_URL").unwrap();
        let real = real.trim_start_matches("redis://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap()).parse().unwrap();
        let mode = Arc::new(AtomicU8::new(PASSES));
        let of_all = Arc::clone(&mode);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(&real).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(pass(from_client, to_server, Arc::clone(&of_all)));
                tokio::spawn(pass(from_server, to_client, Arc::clone(&of_all)));
            }
        });
        Some(Self { url, mode })
    }

    fn set(&self, mode: u8) {
        self.mode.store(mode, Ordering::SeqCst);
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mode: Arc<AtomicU8>,
) {
    let mut bytes = [0; 4096];
    loop {
        let read = timeout(Duration::from_millis(5), from.read(&mut bytes)).await;
        while mode.load(Ordering::SeqCst) == FROZEN {
            sleep(Duration::from_millis(5)).await;
        }
        match read {
            _ if mode.load(Ordering::SeqCst) == CUT => return,
            Err(_) => {}
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(count)) => to.write_all(&bytes[..count]).await.unwrap(),
        }
    }
}

async fn add(link: &Link, key: &str) -> Result<Value, Away> {
    let script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    link.call(&script, &[key], vec![b"2".to_vec()], Duration::from_millis(200)).await
}

/// Tries until it works, for as long as a reconnect may take.
async fn works_again(link: &Link, key: &str) {
    let begun = Instant::now();
    while add(link, key).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(5), "no reconnect");
        sleep(Duration::from_millis(20)).await;
    }
}

fn fresh(name: &str) -> String {
    format!("obleth-test:{name}:{}", uuid::Uuid::new_v4())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_or_is_cut_off_is_away_within_the_time_out_and_comes_back() {
    let Some(proxy) = Proxy::start().await else { return };
    let link = Link::start(&proxy.url, &Handle::current()).unwrap();
    let key = fresh("link");
    // The first call waits for the first connection, and knows no script yet.
    assert_eq!(add(&link, &key).await, Ok(Value::Int(2)));
    assert!(link.is_up());
    for mode in [FROZEN, CUT] {
        proxy.set(mode);
        let begun = Instant::now();
        while link.is_up() {
            let call = Instant::now();
            assert!(add(&link, &key).await.is_err());
            assert!(call.elapsed() < Duration::from_millis(400), "{:?}", call.elapsed());
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        let call = Instant::now();
        assert_eq!(add(&link, &key).await, Err(Away::Down));
        assert!(call.elapsed() < Duration::from_millis(50), "calls fail at once while it is away");
        proxy.set(PASSES);
        works_again(&link, &key).await;
        assert!(link.is_up());
    }
    assert!(link.counts().failures >= 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_fails_is_refused_and_the_connection_stays() {
    let Some(proxy) = Proxy::start().await else { return };
    let link = Link::start(&proxy.url, &Handle::current()).unwrap();
    let script = Script::new("return redis.call('NONSENSE')");
    assert_eq!(link.call(&script, &[], vec![], Duration::from_secs(1)).await, Err(Away::Refused));
    assert!(add(&link, &fresh("link")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_hears_messages_and_is_told_when_some_may_be_missing() {
    let Some(proxy) = Proxy::start().await else { return };
    let link = Link::start(&proxy.url, &Handle::current()).unwrap();
    let channel = fresh("news");
    let mut news = link.subscribe(channel.clone());
    assert_eq!(news.recv().await, Some(News::Resubscribed));
    for mode in [FROZEN, CUT] {
        link.publish(channel.clone(), b"one".to_vec(), Duration::from_secs(1)).await.unwrap();
        assert_eq!(news.recv().await, Some(News::Payload(b"one".to_vec())));
        proxy.set(mode);
        sleep(PING_EVERY + PONG + Duration::from_millis(300)).await;
        proxy.set(PASSES);
        let again = timeout(Duration::from_secs(5), news.recv()).await;
        assert_eq!(again, Ok(Some(News::Resubscribed)));
        works_again(&link, &fresh("link")).await;
    }
}

#[actix::test]
async fn a_redis_that_is_not_there_fails_at_once_and_a_call_needs_no_runtime_of_its_own() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let url = "redis://:hunter2@127.0.0.1:1".parse().unwrap();
    let link = Link::start(&url, runtime.handle()).unwrap();
    assert_eq!(add(&link, "x").await, Err(Away::Down));
    assert!(!link.is_up());
    assert_eq!(link.counts(), LinkCounts { calls: 1, failures: 1 });
    assert!(!format!("{link:?}").contains("hunter2"));
    drop(link);
    runtime.shutdown_background();
}
