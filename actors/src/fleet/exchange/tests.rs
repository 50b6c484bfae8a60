//! The scripts on a real Redis: slots against the same rules in Rust, tags against what was told.

use super::*;
use crate::fleet::RedisUrl;
use obleth_core::fleet::broker::Broker;
use obleth_core::fleet::{Holding, Pool, Report, Want};
use obleth_core::ids::{GroupId, ModelId, TenantId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// `None`: there is no Redis to test on.
fn link() -> Option<Link> {
    let Ok(url) = std::env::var("OBLETH_TEST_REDIS_URL") else {
        let required = std::env::var("OBLETH_TEST_REQUIRE").is_ok_and(|what| what == "all");
        assert!(!required, "OBLETH_TEST_REQUIRE=all, but OBLETH_TEST_REDIS_URL is unset");
        eprintln!("SKIPPED: OBLETH_TEST_REDIS_URL is unset");
        return None;
    };
    let url: RedisUrl = url.parse().unwrap();
    Some(Link::start(&url, &Handle::current()).unwrap())
}

/// Repeatable numbers (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }

    fn small(&mut self, end: u32) -> u32 {
        u32::try_from(self.below(end.into())).unwrap()
    }

    /// Also beyond what fourteen digits hold.
    fn tag(&mut self) -> i64 {
        let wide = i64::try_from(self.below(1 << 50)).unwrap();
        wide >> self.below(40)
    }
}

fn pools() -> [Pool; 4] {
    let id = Uuid::from_u128(7);
    [
        Pool::Slots,
        Pool::Model(ModelId(id)),
        Pool::Tenant(TenantId(id)),
        Pool::Model(ModelId(Uuid::from_u128(8))),
    ]
}

fn pools_and_caps() -> impl Iterator<Item = (Pool, u32)> {
    pools().into_iter().zip([8, 3, 2, 5])
}

fn want(dice: &mut Dice) -> Want {
    let need = pools().into_iter().filter(|_| dice.below(2) == 0).collect();
    Want {
        need,
        group: GroupId(Uuid::from_u128(dice.below(3).into())),
        tenant: TenantId(Uuid::from_u128(dice.below(3).into())),
        age: dice.below(2000),
        group_tag: dice.tag(),
        tag: dice.tag(),
        group_step: dice.tag(),
        step: dice.tag(),
        count: 1 + dice.small(4),
    }
}

fn question(dice: &mut Dice, generation: &str, known: &BTreeMap<Pool, Holding>) -> Ask {
    let mut pools = BTreeMap::new();
    for (pool, cap) in pools_and_caps() {
        let known = known.get(&pool).copied();
        if known.is_none() && dice.below(4) == 0 {
            continue;
        }
        let Holding { got, back, .. } = known.unwrap_or_default();
        let used = dice.small(4).min(u32::try_from(got - back).unwrap() + u32::from(dice.below(30) == 0));
        pools.insert(
            pool,
            Report {
                cap: (dice.below(5) > 0).then_some(cap - u32::from(dice.below(10) == 0)),
                back: back + dice.below(got - back + 2),
                seen: got.saturating_sub(dice.below(2)),
                hold: used + dice.small(2),
                used,
            },
        );
    }
    Ask {
        replica: format!("r{}", dice.below(4)),
        generation: if dice.below(20) == 0 { "old".to_owned() } else { generation.to_owned() },
        new_generation: format!("g{}", dice.below(1000)),
        membership: String::new(),
        number: 0,
        new_base: "-17".to_owned(),
        leaving: dice.below(25) == 0,
        lease: 3000,
        quarantine: 500,
        pools,
        wants: (0..dice.below(3)).map(|_| want(dice)).collect(),
    }
}

#[tokio::test]
async fn the_script_of_slots_does_what_the_rules_say() {
    let Some(link) = link() else { return };
    let script = Script::new(SLOTS);
    for seed in 0..8 {
        let mut dice = Dice(seed);
        let mut broker = Broker::default();
        let key = format!("test:{}:slots", Uuid::new_v4());
        let mut now = 1_700_000_000_000_u64;
        let mut generation = String::new();
        let mut known: BTreeMap<String, (BTreeMap<Pool, Holding>, String, u64)> = BTreeMap::new();
        let mut seen = [0; 6];
        for step in 0..250 {
            if dice.below(40) == 0 {
                now -= 7000;
            }
            now += match dice.below(20) {
                0 => 4000,
                1 => 900,
                _ => dice.below(200),
            };
            let mut ask = question(&mut dice, &generation, &BTreeMap::new());
            if let Some((known, membership, number)) = known.get(&ask.replica) {
                ask = Ask { replica: ask.replica.clone(), ..question(&mut dice, &generation, known) };
                // One that has not heard of its membership, and one that comes late.
                ask.membership = if dice.below(12) == 0 { String::new() } else { membership.clone() };
                ask.number = if dice.below(12) == 0 { *number } else { number + 1 };
            }
            let expected = broker.exchange(now, &ask);
            let args = vec![encode(&ask).unwrap(), b"test:ring:".to_vec(), now.to_string().into_bytes()];
            let value = link.call(&script, &[&key], args, Duration::from_secs(5)).await.unwrap();
            let answer = decode(value).unwrap();
            assert_eq!(answer, expected, "seed {seed}, step {step}: {ask:?}");
            seen[0] += usize::from(!answer.rivals.is_empty());
            seen[1] += usize::from(!answer.ring.is_empty());
            seen[2] += usize::from(answer.joined);
            seen[3] += usize::from(!answer.pools.is_empty());
            seen[4] += usize::from(answer.pools.values().any(|holding| holding.owe > 0));
            seen[5] += usize::from(answer.pools.values().any(|holding| holding.back > 0));
            generation = answer.generation;
            known.insert(ask.replica, (answer.pools, answer.membership, ask.number));
        }
        assert!(seen.iter().all(|seen| *seen > 5), "seed {seed} meets little: {seen:?}");
    }
}

async fn tell(
    link: &Link,
    keys: &[String; 3],
    name: Uuid,
    since: (&str, &str),
    told: &[(&str, &str)],
) -> Vec<String> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed) + 1;
    tell_as(link, keys, name, since, number, told).await
}

async fn tell_as(
    link: &Link,
    keys: &[String; 3],
    name: Uuid,
    since: (&str, &str),
    number: u64,
    told: &[(&str, &str)],
) -> Vec<String> {
    let mut args = vec![name.simple().to_string(), since.0.to_owned(), since.1.to_owned()];
    args.extend(["2".to_owned(), number.to_string()]);
    args.extend(told.iter().flat_map(|(subject, told)| [(*subject).to_owned(), (*told).to_owned()]));
    let args = args.into_iter().map(String::into_bytes).collect();
    let [tags, order, tellers] = keys;
    let value =
        link.call(&Script::new(TAGS), &[tags, order, tellers], args, Duration::from_secs(5)).await.unwrap();
    Vec::from_redis_value(value).unwrap()
}

#[tokio::test]
async fn what_is_told_reaches_the_others_once_and_the_last_word_counts() {
    let Some(link) = link() else { return };
    let key = Uuid::new_v4();
    let keys = ["tags", "order", "tellers"].map(|name| format!("{{{key}}}:{name}"));
    let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let wide = "3 -170141183460469231731687303715884105728 99 1";
    // What is told by one that does not know of whom is not taken.
    let joined = tell(&link, &keys, a, ("", "0"), &[("x", "before")]).await;
    assert_eq!(joined[1..], ["0", "0"]);
    let of_a: u64 = joined[0].parse().unwrap();
    // Another one joins: totals begin anew, and rise in time.
    let joined = tell(&link, &keys, b, (&joined[0], "0"), &[("x", "before")]).await;
    assert_eq!(joined[1..], ["0", "0"]);
    let new = joined[0].as_str();
    assert!(new.parse::<u64>().unwrap() > of_a);
    let late = tell(&link, &keys, a, (&of_a.to_string(), "0"), &[("x", "of the generation before")]).await;
    assert_eq!(late, [new, "0", "0"]);
    assert_eq!(tell(&link, &keys, a, (new, "0"), &[("x", "old"), ("y", wide)]).await, [new, "2", "1"]);
    tell(&link, &keys, a, (new, "2"), &[("x", "newer"), ("z", "0 0 0 0")]).await;
    let a_name = a.simple().to_string();
    // Two at a time; what was told of x at first is gone.
    let first = tell(&link, &keys, b, (new, "0"), &[("x", "of b")]).await;
    assert_eq!(first, [new, "3", "1", "y", &a_name, wide, "x", &a_name, "newer"]);
    let rest = tell(&link, &keys, b, (new, "3"), &[]).await;
    assert_eq!(rest, [new, "5", "1", "z", &a_name, "0 0 0 0"]);
    assert_eq!(tell(&link, &keys, b, (new, "5"), &[]).await, [new, "5", "0"]);
    // A question that comes late tells nothing.
    tell_as(&link, &keys, a, (new, "5"), 1, &[("x", "long ago")]).await;
    assert_eq!(tell(&link, &keys, b, (new, "5"), &[]).await, [new, "5", "0"]);
    // One that comes from another generation begins with everything.
    let again = tell(&link, &keys, b, ("17", "5"), &[]).await;
    assert_eq!((again[0].as_str(), again[1].as_str()), (new, "3"));
}
