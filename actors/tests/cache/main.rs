//! The cache through its handle: memory, leads, followers, purges.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use actix::Arbiter;
use bytes::Bytes;
use obleth_actors::cache::{Cache, CacheSettings, Flight, Head, Joined, Line, Outcome, Reader, Told};
use obleth_actors::clock::Clock;
use obleth_core::ids::{ModelId, TenantId};
use obleth_core::ledger::{Usage, UsageSource};
use obleth_core::response_cache::{CacheKey, MarkOf, Material, Purge};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

const TTL: Duration = Duration::from_secs(600);

fn model(number: u128) -> ModelId {
    ModelId(Uuid::from_u128(number))
}

fn key(number: u32) -> CacheKey {
    let upstream = MarkOf { base: None, upstream_model: "m", api_key: None, headers: &[] }.mark();
    Material {
        tenant: TenantId(Uuid::from_u128(1)),
        namespace: None,
        route: "r",
        query: "",
        model: model(1),
        upstream,
        stream: false,
        headers: &[],
        body: &number.to_le_bytes(),
    }
    .key()
}

fn started(max_bytes: u64, max_entry_bytes: usize) -> Cache {
    Cache::start(&Arbiter::new(), Clock::start(), CacheSettings { max_bytes, max_entry_bytes })
}

fn lead(cache: &Cache, key: CacheKey) -> (Flight, Reader) {
    match cache.join(key, model(1)) {
        Joined::Lead(lead) => lead.send().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn head() -> Head {
    let value = Bytes::from_static(b"application/json");
    let line = Line { name: Arc::from("content-type"), value, kept: true };
    Head { status: 200, lines: vec![line], events: false, whole: true, length: None }
}

fn settled(flight: &Flight) {
    let usage = Usage { input: 1, output: 1, source: UsageSource::Upstream, ..Usage::default() };
    flight.note().settled(Outcome { status: 200, error_code: None, usage });
}

/// Purges; the actor may not have begun yet.
async fn purge(cache: &Cache, model: Option<ModelId>) -> u64 {
    loop {
        match cache.purge(Purge { tenant: None, model }).await {
            Ok(forgotten) => return forgotten,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// An answer of `body` comes and is kept.
fn answer(cache: &Cache, key: CacheKey, body: Bytes) {
    let (flight, reader) = lead(cache, key);
    flight.head(head());
    settled(&flight);
    flight.push(body, false, true);
    flight.keep(TTL, |_| true);
    flight.end(None);
    drop(reader);
}

/// Bytes of the process that are in memory.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn twenty_thousand_answers_of_16_kib_stay_within_the_bound() {
    const BOUND: u64 = 256 << 20;
    actix::System::new().block_on(async {
        let cache = started(BOUND, 1 << 20);
        let before = resident();
        let mut most = 0;
        for number in 0..20_000_u32 {
            let mut body = vec![b'x'; 16 * 1024];
            body[..4].copy_from_slice(&number.to_le_bytes());
            answer(&cache, key(number), body.into());
            if number % 100 == 0 {
                most = most.max(resident().saturating_sub(before));
            }
        }
        let (bytes, entries) = cache.size();
        let own = entries * 16 * 1024;
        println!("{entries} entries of {bytes} bytes weighed, at most {most} bytes resident");
        assert!(bytes <= BOUND && entries > 10_000, "{bytes} {entries}");
        assert!(most <= BOUND + BOUND / 5, "{most}");
        assert!(most > own / 2, "the measure sees the entries");
        assert_eq!(cache.in_flight_bytes(), 0);
        // What is still there is what was put there.
        let found = (0..20_000_u32).filter_map(|number| {
            let (entry, _) = cache.find(&key(number), TTL, None)?;
            let pieces: Vec<Bytes> = entry.pieces(true).collect();
            assert_eq!(pieces.len(), 1);
            assert_eq!(pieces[0][..4], number.to_le_bytes());
            Some(())
        });
        assert!(found.count() > 10_000);
    });
}

#[test]
fn a_lead_that_is_dropped_passes_through_all_that_wait_even_thousands_that_have_left() {
    actix::System::new().block_on(async {
        let cache = started(1 << 20, 1 << 10);
        let Joined::Lead(first) = cache.join(key(1), model(1)) else { panic!() };
        let mut followers = Vec::new();
        for _ in 0..4000 {
            let Joined::Follow(follower) = cache.join(key(1), model(1)) else { panic!() };
            followers.push(follower);
        }
        let mut last = followers.pop().unwrap();
        drop(first);
        // Each hears that it leads, and is dropped before it listens.
        drop(followers);
        let Some(Told::Lead(lead)) = last.told().await else { panic!() };
        assert_eq!(cache.dump().unwrap().followers, 0);
        drop(last);
        let (flight, reader) = lead.send().unwrap();
        drop(reader);
        flight.abandoned().await;
        flight.end(None);
        let dump = cache.dump().unwrap();
        assert_eq!((dump.flights, dump.followers), (0, 0));
    });
}

#[test]
fn a_flight_that_is_dropped_has_failed_for_those_who_wait() {
    actix::System::new().block_on(async {
        let cache = started(1 << 20, 1 << 10);
        let (flight, reader) = lead(&cache, key(1));
        let Joined::Follow(mut follower) = cache.join(key(1), model(1)) else { panic!() };
        assert!(matches!(follower.told().await, Some(Told::Sent)));
        drop(flight);
        for reader in [reader, follower.reader()] {
            let failed = std::future::poll_fn(|cx| reader.poll_head(cx)).await;
            assert_eq!(failed.unwrap_err().code, "restarting");
        }
        let dump = cache.dump().unwrap();
        assert_eq!((dump.flights, dump.followers), (0, 0));
    });
}

#[test]
fn what_is_purged_while_it_flies_is_not_kept() {
    actix::System::new().block_on(async {
        let cache = started(1 << 20, 1 << 10);
        answer(&cache, key(1), Bytes::from_static(b"{}"));
        let (flight, _reader) = lead(&cache, key(2));
        assert!(cache.find(&key(1), TTL, None).is_some());
        assert_eq!(purge(&cache, Some(model(2))).await, 0);
        assert!(cache.find(&key(1), TTL, None).is_some());
        assert_eq!(purge(&cache, None).await, 1);
        assert!(cache.find(&key(1), TTL, None).is_none());
        flight.head(head());
        settled(&flight);
        flight.push(Bytes::from_static(b"{}"), false, true);
        flight.keep(TTL, |_| true);
        flight.end(None);
        assert!(cache.find(&key(2), TTL, None).is_none());
    });
}

#[test]
fn a_reader_that_stops_is_cut_off_so_that_the_others_go_on() {
    actix::System::new().block_on(async {
        tokio::time::pause();
        let cache = started(8 << 20, 1 << 16);
        let (flight, quick) = lead(&cache, key(1));
        let Joined::Follow(mut follower) = cache.join(key(1), model(1)) else { panic!() };
        assert!(matches!(follower.told().await, Some(Told::Sent)));
        let slow = follower.reader();
        let piece = || std::future::poll_fn(|cx| quick.poll_piece(cx, true));
        for _ in 0..100 {
            flight.room().await;
            flight.push(Bytes::from(vec![b'x'; 1 << 14]), false, false);
            assert!(matches!(piece().await, obleth_actors::cache::Got::Piece { .. }));
            assert!(cache.in_flight_bytes() <= (256 << 10) + (1 << 14));
        }
        let got = std::future::poll_fn(|cx| slow.poll_piece(cx, true)).await;
        assert!(matches!(got, obleth_actors::cache::Got::Cut), "{got:?}");
        drop((quick, slow));
        flight.end(None);
        assert_eq!(cache.in_flight_bytes(), 0);
    });
}
