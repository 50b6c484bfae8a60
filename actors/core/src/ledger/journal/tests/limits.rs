//! Room, and what happens without it.

use super::*;

/// Opens requests until the journal is full; how many.
fn fill(world: &mut World) -> u128 {
    let mut opened = 0;
    while world.journal.has_room() && world.journal.open(&open_row(opened + 1)).is_ok() {
        opened += 1;
        world.keep();
    }
    opened
}

#[test]
fn every_request_that_was_admitted_can_write_its_row() {
    let limits = Limits { max_bytes: 64 * 1024, ..LIMITS };
    let mut world = World::new(limits);
    let opened = fill(&mut world);
    assert!(opened > 50, "{opened}");
    assert!(!world.journal.has_room());
    // The longest row of a request: the pod and the error are not known when it is admitted.
    let longest = |n| LedgerRow {
        target_pod: Some("p".repeat(256).into()),
        error_code: Some("upstream_unreachable"),
        ttft_ms: Some(u64::MAX),
        total_ms: u64::MAX,
        queue_ms: u64::MAX,
        bytes_in: u64::MAX,
        bytes_out: u64::MAX,
        cost: Cost { output: Usd::from_pico(i64::MAX.into()), unpriced: true, ..Cost::default() },
        usage: Usage { input: u64::MAX, output: u64::MAX, ..Usage::default() },
        ..row(n)
    };
    for n in 1..=opened {
        assert!(world.journal.close(&longest(n)), "row {n} of {opened}");
        world.keep();
        let counts = world.journal.counts();
        assert!(counts.bytes <= limits.max_bytes + limits.segment_bytes, "{counts:?}");
    }
    world.check();
    world.drain();
    assert!(world.journal.has_room(), "there is room again once the database has the rows");
    assert_eq!(world.database.len(), usize::try_from(opened).unwrap());
}

#[test]
fn rows_of_requests_that_were_never_admitted_do_not_take_the_room_set_aside() {
    let limits = Limits { max_bytes: 64 * 1024, ..LIMITS };
    let mut world = World::new(limits);
    let opened = fill(&mut world);
    let refused = (0..1000).filter(|n| !world.journal.close(&row(1_000_000 + n))).count();
    assert!(refused > 900, "{refused}");
    assert_eq!(world.journal.counts().lost, u64::try_from(refused).unwrap());
    assert!((1..=opened).all(|n| world.journal.close(&row(n))));
    world.check();
}

#[test]
fn with_drop_requests_go_on_and_what_finds_no_room_is_counted() {
    let limits = Limits { max_bytes: 16 * 1024, when_full: WhenFull::Drop, ..LIMITS };
    let mut world = World::new(limits);
    for n in 1..=1000 {
        assert!(world.journal.has_room());
        world.journal.open(&open_row(n)).unwrap();
        world.journal.close(&row(n));
        world.write();
    }
    world.check();
    let counts = world.journal.counts();
    assert!(counts.lost > 800 && counts.waiting > 50, "{counts:?}");
    world.drain();
    assert_eq!(u64::try_from(world.database.len()).unwrap(), 1000 - counts.lost);
    assert!(world.journal.close(&row(2000)));
    assert_eq!(world.database.keys().next(), Some(&1), "the oldest are kept");
}

#[test]
fn a_disk_that_takes_nothing_refuses_requests_and_loses_no_row_until_the_memory_set_aside_is_full() {
    let mut world = World::new(LIMITS);
    for n in 1..=5 {
        world.journal.open(&open_row(n)).unwrap();
    }
    assert!(world.journal.close(&row(1)));
    world.write_at_most(10);
    assert!(!world.journal.has_room() && world.journal.is_failing());
    assert_eq!(world.journal.open(&open_row(9)), Err(Full));
    assert!((2..=5).all(|n| world.journal.close(&row(n))));
    world.write_at_most(0);
    let taken = (100..200).filter(|n| world.journal.close(&row(*n))).count();
    assert!((10..60).contains(&taken), "{taken} more in 4 KiB");
    world.check();
    world.write();
    assert!(world.journal.has_room(), "it recovers by itself");
    world.drain();
    assert_eq!(world.database.len(), 5 + taken);
    assert_eq!(world.journal.counts().failures, 2);
}

#[test]
fn a_request_that_runs_on_does_not_keep_old_segments() {
    let mut world = World::new(LIMITS);
    world.journal.open(&open_row(1)).unwrap();
    for n in 2..=200 {
        world.journal.open(&open_row(n)).unwrap();
        assert!(world.journal.close(&row(n)));
        world.keep();
        world.batch(100, true, true);
    }
    world.drain();
    world.keep();
    assert!(world.disk.len() <= 2, "{:?}", world.disk.keys());
    world.restart();
    world.drain();
    assert_eq!(world.database.get(&1), Some(&500));
    assert_eq!(world.database.len(), 200);
}

#[test]
fn copies_are_safe_before_the_original_goes() {
    let mut world = World::new(LIMITS);
    world.journal.open(&open_row(1)).unwrap();
    let mut number = 1;
    while world.journal.wants_segment().is_none() {
        number += 1;
        assert!(world.journal.close(&row(number)));
        world.write();
    }
    world.disk.insert(2, header().to_vec());
    assert!(world.journal.roll(2));
    world.write();
    while world.batch(100, true, true) {}
    world.write();
    let before = world.journal.positions().0;
    assert_eq!(world.journal.wants_copies(), Some(1));
    assert!(world.journal.expire(u64::MAX).is_empty(), "a request of the first segment runs");
    world.journal.copy_opens(1, &world.disk[&1]);
    assert!(world.journal.expire(u64::MAX).is_empty(), "the copy is not written");
    world.write();
    assert!(world.journal.expire(before).is_empty(), "the copy is not on the disk");
    assert_eq!(world.journal.expire(world.journal.positions().1), [1]);
    world.disk.remove(&1);
    world.restart();
    world.drain();
    assert_eq!(world.database.get(&1), Some(&500));
}

#[test]
fn of_two_opens_of_a_request_the_last_counts_also_when_they_are_copied() {
    let second = |n| LedgerRow { status: 501, ..open_row(n) };
    for copied in [false, true] {
        for apart in [false, true] {
            let mut world = World::new(LIMITS);
            world.journal.open(&open_row(1)).unwrap();
            let mut number = 1;
            let mut fill = |world: &mut World| {
                let newest = world.journal.newest();
                while world.journal.newest() == newest {
                    number += 1;
                    assert!(world.journal.close(&row(number)));
                    world.drain();
                }
            };
            if apart {
                fill(&mut world);
            }
            world.journal.open(&second(1)).unwrap();
            world.check();
            if copied {
                (0..3).for_each(|_| fill(&mut world));
                assert!(!world.disk.contains_key(&1), "{:?}", world.disk.keys());
            }
            world.write();
            world.restart();
            world.drain();
            assert_eq!(world.database.get(&1), Some(&501), "copied {copied}, apart {apart}");
        }
    }
    // What it had set aside is free again at the end, once.
    let mut world = World::new(LIMITS);
    world.journal.open(&open_row(1)).unwrap();
    world.journal.open(&LedgerRow { request_id: "a-longer-name-than-before".into(), ..open_row(1) }).unwrap();
    assert!(world.journal.close(&row(1)));
    world.check();
    assert_eq!((world.journal.reserved, world.journal.counts().open), (0, 0));
}
