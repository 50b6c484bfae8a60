//! The scripts on a real Redis, compared with the rules in Rust.

use super::super::link::tests::redis_url;
use super::*;
use obleth_core::token_budget::slices::store::Store;
use std::collections::BTreeMap;
use tokio::runtime::Handle;
use uuid::Uuid;

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (z ^ (z >> 27)) % end
    }
}

fn counters() -> Vec<Counter> {
    let tenant = TenantId(Uuid::from_u128(7));
    let of = |owner, period, what| Counter { owner, period, index: -3, what };
    vec![
        of(Owner::Tenant(tenant), Period::Day, What::Tokens),
        of(Owner::Key(tenant, KeyId(Uuid::from_u128(9))), Period::Total, What::Money),
    ]
}

#[test]
fn a_counter_is_found_by_its_name() {
    for counter in counters() {
        assert_eq!(named(&name(&counter)), Some(counter));
    }
    assert_eq!(named("x:-:day:1:tokens"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scripts_do_what_the_rules_say() {
    let Some(url) = redis_url() else { return };
    let link = Link::start(&url, &Handle::current()).unwrap();
    let prefix = format!("obleth-test-{}", Uuid::new_v4());
    let ids = ["a", "b", "c"];
    let claims: Vec<Claims> =
        ids.iter().map(|id| Claims::new(link.clone(), (*id).to_owned(), &prefix)).collect();
    let mut store = Store::default();
    // The quarantine is waited for in fact.
    for turn in 0..2 {
        for (claims, id) in claims.iter().zip(ids) {
            let asserted = if turn == 0 { "" } else { "run" };
            let beat = claims.beat("run", asserted, &["a".to_owned()]).await.unwrap();
            assert_eq!(beat, store.beat(turn * 3_100, id, "run", asserted, &["a".to_owned()]), "{id}");
        }
        if turn == 0 {
            let early = report(&mut Dice(1), 1, counters()[0]);
            assert_eq!(
                one(&claims[0], "run", 3, early).await,
                Some(store.report(0, "run", "a", 3, &early)),
                "nothing is given before it is open"
            );
            tokio::time::sleep(Duration::from_millis(3_100)).await;
        }
    }
    let mut dice = Dice(42);
    let mut met = BTreeMap::<&str, u32>::new();
    let mut seqs = [10_u64; 3];
    for step in 0..3_000_u64 {
        let who = usize::try_from(dice.below(3)).unwrap();
        let counter = counters()[usize::try_from(dice.below(2)).unwrap()];
        if dice.below(20) == 0 {
            let used = [amount(&mut dice), amount(&mut dice)];
            let written = [("a".to_owned(), used[0]), (String::new(), used[1])];
            let told = claims[who].begin("run", &counter, &written).await.unwrap();
            assert_eq!(told, store.begin("run", counter, &written));
            continue;
        }
        // Now and then an old one comes again.
        seqs[who] += 1;
        let seq = seqs[who] - dice.below(2) * dice.below(3);
        let report = report(&mut dice, seq, counter);
        let members = 1 + dice.below(4);
        let run = if dice.below(50) == 0 { "other" } else { "run" };
        let told = one(&claims[who], run, members, report).await;
        // Time in the model does not pass: who was wanted stays so for the moment the test takes, or never was.
        let modelled = store.report(3_100, run, ids[who], members, &report);
        let kind = match modelled {
            Reply::Kept(claim, _) if claim > report.least && claim > report.have => "spare",
            Reply::Kept(claim, _) if claim < report.least => "refused",
            Reply::Kept(..) => "kept",
            Reply::Blank => "blank",
            Reply::Closed => "closed",
            Reply::Lost => "lost",
            Reply::Stale(_) => "stale",
        };
        *met.entry(kind).or_default() += 1;
        assert_eq!(told.unwrap_or(Reply::Lost), modelled, "step {step}: {report:?}");
    }
    for kind in ["spare", "refused", "kept", "blank", "lost", "stale"] {
        assert!(met.contains_key(kind), "{met:?}");
    }
}

async fn one(claims: &Claims, run: &str, members: u64, report: Report) -> Option<Reply> {
    match claims.report(run, members, &[report]).await.unwrap() {
        Replies::Lost => None,
        Replies::Of(replies) => replies.first().copied(),
    }
}

/// Small ones, and some beyond what Lua's numbers hold.
fn amount(dice: &mut Dice) -> u128 {
    let scale = [100, 10_000_000_000, u64::MAX / 4][usize::try_from(dice.below(3)).unwrap()];
    u128::from(dice.below(scale)) * if dice.below(4) == 0 { 1_000 } else { 1 }
}

fn report(dice: &mut Dice, seq: u64, counter: Counter) -> Report {
    let used = amount(dice);
    let busy = used + amount(dice);
    let have = busy + amount(dice);
    let least = if dice.below(2) == 0 { 0 } else { have + amount(dice) };
    let limit = (dice.below(8) > 0).then(|| (1_000 * amount(dice)).min(MOST));
    // Where nothing was asked for nobody becomes wanted, whose time the model does not have.
    Report { counter, seq, exact: dice.below(2) == 0, have, least, limit, used, busy }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_of_a_minute_is_shared_and_says_truly_how_long_to_wait() {
    let Some(url) = redis_url() else { return };
    let link = Link::start(&url, &Handle::current()).unwrap();
    let prefix = format!("obleth-test-{}", Uuid::new_v4());
    let claims = Claims::new(link, "a".to_owned(), &prefix);
    let owner = Owner::Tenant(TenantId(Uuid::from_u128(7)));
    let dip = |due, want| Dip { owner, minute: Minute::Tokens, limit: 60_000, due, want };
    let first = claims.dip(&[(dip(0, 60_000), 1_000)]).await.unwrap();
    assert_eq!((first[0].got, first[0].left), (60_000, 0));
    let empty = claims.dip(&[(dip(0, 1_000), 1_000)]).await.unwrap();
    assert_eq!(empty[0].got, 0);
    assert!(
        empty[0].wait > Duration::from_millis(900) && empty[0].wait <= Duration::from_secs(1),
        "{empty:?}"
    );
    // Given back, and taken again; more than the whole bucket is the whole bucket.
    let back = claims.dip(&[(dip(-60_000, 0), 0)]).await.unwrap();
    assert_eq!(back[0].left, 60_000);
    let whole = claims.dip(&[(dip(0, 100_000), 100_000)]).await.unwrap();
    assert_eq!(whole[0].got, 60_000);
    let debt = claims.dip(&[(dip(60_000, 1), 1)]).await.unwrap();
    assert!(debt[0].wait > Duration::from_secs(59), "{debt:?}");
}
