use super::*;
use uuid::Uuid;

fn id(number: u128) -> TenantId {
    TenantId(Uuid::from_u128(number))
}

fn name(id: TenantId) -> Option<Arc<str>> {
    Some(id.0.as_u128().to_string().into())
}

fn uses(rows: &[(u128, u64)]) -> Vec<Standing> {
    rows.iter()
        .map(|(number, recent)| Standing { id: id(*number), in_flight: 0, queued: 0, recent: *recent })
        .collect()
}

fn at(seconds: u64) -> Moment {
    Moment::ZERO + Duration::from_secs(seconds)
}

/// Fifty that have used 100 each.
fn full() -> (Top, Vec<Standing>) {
    let top = Top::default();
    let rows: Vec<_> = (1..=50).map(|number| (number, 100)).collect();
    let rows = uses(&rows);
    assert_eq!(top.choose(at(0), &rows, name).len(), TENANTS);
    (top, rows)
}

#[test]
fn a_place_changes_hands_only_after_a_while_and_for_much_more() {
    let (top, mut rows) = full();
    rows.extend(uses(&[(99, 201)]));
    assert!(!top.choose(at(299), &rows, name).contains_key("99"), "not yet");
    let [.., last] = rows.as_mut_slice() else { return };
    last.recent = 200;
    assert!(!top.choose(at(300), &rows, name).contains_key("99"), "not enough");
    let [.., last] = rows.as_mut_slice() else { return };
    last.recent = 201;
    let names = top.choose(at(300), &rows, name);
    assert_eq!((names.contains_key("99"), names.contains_key("1"), names.len()), (true, false, TENANTS));
}

#[test]
fn the_least_leaves_for_the_most() {
    let (top, rows) = full();
    let mut rows: Vec<_> = rows.into_iter().filter(|row| row.id != id(7)).collect();
    rows.extend(uses(&[(7, 3), (98, 50), (99, 60)]));
    let names = top.choose(at(600), &rows, name);
    assert_eq!(
        (names.contains_key("99"), names.contains_key("98"), names.contains_key("7")),
        (true, false, false)
    );
}

#[test]
fn nobody_takes_turns() {
    let (top, mut rows) = full();
    rows.extend((51..=80).flat_map(|number| uses(&[(number, 150)])));
    let first = top.choose(at(300), &rows, name);
    for round in 1..100_u64 {
        // Everybody's use swings by a half.
        for (number, row) in (0_u64..).zip(rows.iter_mut()) {
            row.recent = if (number + round).is_multiple_of(2) { 100 } else { 150 };
        }
        assert_eq!(top.choose(at(300 + round * 60), &rows, name), first);
    }
}

#[test]
fn one_that_is_deleted_or_renamed_leaves_and_idle_ones_do_not_come() {
    let (top, rows) = full();
    let renamed = |tenant: TenantId| match tenant.0.as_u128() {
        1 => None,
        2 => Some(Arc::from("new")),
        _ => name(tenant),
    };
    let used: Vec<_> = rows.into_iter().filter(|row| row.id.0.as_u128() > 2).collect();
    let names = top.choose(at(1), &used, renamed);
    assert_eq!((names.len(), names.contains_key("1"), names.contains_key("2")), (48, false, false));
    assert_eq!(top.choose(at(2), &uses(&[(60, 0)]), renamed).len(), 48, "has used nothing");
    assert!(top.roll.admit(&id(2)).is_some());
    assert!(top.choose(at(3), &used, renamed).contains_key("new"));
}

#[test]
fn a_tenant_named_other_is_called_by_its_id() {
    let top = Top::default();
    let called = |_| Some(Arc::from("other"));
    let names = top.choose(at(0), &uses(&[(1, 5)]), called);
    assert_eq!(names.keys().map(|name| &**name).collect::<Vec<_>>(), [id(1).to_string()]);
}
