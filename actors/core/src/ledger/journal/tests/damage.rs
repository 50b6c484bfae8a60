//! Every byte of a small journal, cut at and flipped.

use super::*;

/// Three rows in one segment.
fn three_rows() -> World {
    let mut world = World::new(Limits { segment_bytes: 1 << 20, ..LIMITS });
    for n in 1..=3 {
        assert!(world.journal.close(&row(n)));
        world.write();
    }
    world
}

#[test]
fn a_cut_at_any_byte_costs_only_what_was_cut() {
    let whole = three_rows().disk[&1].clone();
    let mut torn = 0;
    for cut in 0..=whole.len() {
        let mut world = three_rows();
        world.disk.insert(1, whole[..cut].to_vec());
        world.restart();
        let counts = world.journal.counts();
        torn += counts.torn;
        assert_eq!(counts.corrupt, 0, "cut at {cut}");
        world.drain();
        world.check();
        let rows: Vec<u128> = world.database.keys().copied().collect();
        let expected: Vec<u128> = (1..=3).take(rows.len()).collect();
        assert_eq!(rows, expected, "cut at {cut}");
        assert!(cut < whole.len() || rows.len() == 3);
    }
    assert!(torn > 100, "{torn} cuts were torn records");
}

#[test]
fn a_flipped_byte_costs_only_its_own_record() {
    let whole = three_rows().disk[&1].clone();
    for at in HEADER..whole.len() {
        let mut world = three_rows();
        world.disk.get_mut(&1).unwrap()[at] ^= 0x55;
        world.restart();
        world.drain();
        let counts = world.journal.counts();
        assert_eq!(counts.corrupt + counts.torn, 1, "flipped at {at}");
        // The first record is a checkpoint.
        assert!(world.database.len() >= 2, "flipped at {at}");
        assert_eq!(counts.waiting, 0);
    }
}

#[test]
fn a_damaged_header_costs_no_row() {
    for at in 0..HEADER {
        let mut world = three_rows();
        world.disk.get_mut(&1).unwrap()[at] ^= 0x55;
        world.restart();
        world.drain();
        assert_eq!(world.database.len(), 3, "flipped at {at}");
    }
}

#[test]
fn a_row_that_is_damaged_while_it_waits_is_counted_as_lost() {
    let mut world = World::new(LIMITS);
    for n in 1..=20 {
        assert!(world.journal.close(&row(n)));
        world.keep();
    }
    assert!(world.disk.len() > 1);
    let first = world.disk.get_mut(&1).unwrap();
    let at = first.len() - 5;
    first[at] ^= 1;
    world.drain();
    world.check();
    let counts = world.journal.counts();
    assert_eq!((counts.recorded, counts.lost, counts.waiting, counts.corrupt), (19, 1, 0, 1));
    assert_eq!(world.database.len(), 19);
}

#[test]
fn a_row_whose_request_was_open_is_charged_by_its_estimate_when_it_is_damaged() {
    let mut world = World::new(LIMITS);
    world.journal.open(&open_row(1)).unwrap();
    assert!(world.journal.close(&row(1)));
    world.write();
    let at = world.disk[&1].len() - 1;
    world.disk.get_mut(&1).unwrap()[at] ^= 1;
    world.restart();
    world.drain();
    assert_eq!(world.database, BTreeMap::from([(1, 500)]));
}
