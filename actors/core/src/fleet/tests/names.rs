use crate::fair_queue::{Measure, Subject, Told};
use crate::fleet::{Pool, fixed, unfixed};
use crate::ids::{GroupId, ModelId, TenantId};
use crate::units::Share;
use uuid::Uuid;

#[test]
fn names_are_read_as_they_are_written() {
    let id = Uuid::from_u128(7);
    for pool in [Pool::Slots, Pool::Model(ModelId(id)), Pool::Tenant(TenantId(id))] {
        assert_eq!(pool.to_string().parse(), Ok(pool));
    }
    let (model, group) = (ModelId(id), GroupId(Uuid::from_u128(8)));
    for subject in [
        Subject::Tenant(TenantId(id)),
        Subject::Group(group),
        Subject::Tenants(model, group),
        Subject::Groups(model),
    ] {
        assert_eq!(subject.to_string().parse(), Ok(subject));
    }
    for wrong in ["", "x", "m", "mé", "*1", "tt"] {
        assert!(wrong.parse::<Pool>().is_err(), "{wrong}");
        assert!(wrong.parse::<Subject>().is_err(), "{wrong}");
    }
    let weight = Share::new(7).unwrap();
    for measure in [None, Some(Measure { weight, group: None }), Some(Measure { weight, group: Some(group) })]
    {
        let told = Told { era: 3, offset: -5_i128 << 80, total: 1_i128 << 90, waiting: true, measure };
        assert_eq!(told.to_string().parse(), Ok(told));
    }
    for wrong in ["1 2 3", "1 2 3 1 0", "1 2 3 1 7.x", "1 2 3 1 7 8"] {
        assert!(wrong.parse::<Told>().is_err(), "{wrong}");
    }
}

#[test]
fn tags_travel_in_steps_that_a_double_holds() {
    let base = 5_i128 << 60;
    for steps in [-9_i64, 0, 1, 1 << 50] {
        assert_eq!(fixed(base, unfixed(base, steps)), steps);
    }
    assert_eq!(fixed(0, i128::MAX), 1 << 52);
    assert_eq!(fixed(0, i128::MIN), -(1 << 52));
}
