//! What a replica and the store say to each other. Written as JSON.

use super::Pool;
use crate::ids::{GroupId, TenantId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Virtual time as it travels: in steps of 2²² above a base that the fleet has in common, 1/1024 of a unit of cost per
/// weight. Scripts count in doubles, which hold 53 bits.
const STEP: u32 = 22;
/// Farther from the base than this no number goes.
const FAR: i64 = 1 << 52;

/// A tag as it travels.
pub fn fixed(base: i128, tag: i128) -> i64 {
    let steps = tag.saturating_sub(base) >> STEP;
    i64::try_from(steps.clamp(-i128::from(FAR), i128::from(FAR))).unwrap_or(FAR)
}

/// The tag that has travelled.
pub fn unfixed(base: i128, steps: i64) -> i128 {
    base.saturating_add(i128::from(steps) << STEP)
}

/// Requests of a replica that wait for slots it does not hold. Tags are [`fixed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// What one of them lacks.
    pub need: Vec<Pool>,
    pub group: GroupId,
    /// Of the first.
    pub tenant: TenantId,
    /// For how long it has waited, in ms.
    pub age: u64,
    /// Tag of the group, and of the tenant within it.
    pub group_tag: i64,
    pub tag: i64,
    /// How far each grant moves the two.
    pub group_step: i64,
    pub step: i64,
    /// How many there are, at least 1.
    pub count: u32,
}

/// What a replica says of a pool. Written as five numbers, the first perhaps null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(Option<u32>, u64, u64, u32, u32)", into = "(Option<u32>, u64, u64, u32, u32)")]
pub struct Report {
    /// Its size; `None`: something of it is held, and it is not known any more.
    pub cap: Option<u32>,
    /// Totals of this membership: given back, and heard of as given.
    pub back: u64,
    pub seen: u64,
    /// What requests may hold here, for a store that knows nothing.
    pub hold: u32,
    /// What requests do hold.
    pub used: u32,
}

impl From<(Option<u32>, u64, u64, u32, u32)> for Report {
    fn from((cap, back, seen, hold, used): (Option<u32>, u64, u64, u32, u32)) -> Self {
        Self { cap, back, seen, hold, used }
    }
}

impl From<Report> for (Option<u32>, u64, u64, u32, u32) {
    fn from(Report { cap, back, seen, hold, used }: Report) -> Self {
        (cap, back, seen, hold, used)
    }
}

/// What the store knows of a replica's slots of a pool. Written as four numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64, u32, u32)", into = "(u64, u64, u32, u32)")]
pub struct Holding {
    /// Totals of this membership: given, and given back. They never fall.
    pub got: u64,
    pub back: u64,
    /// What it may keep at hand while nobody waits for it.
    pub part: u32,
    /// What it must give back as it gets free, because more is held than there is.
    pub owe: u32,
}

impl From<(u64, u64, u32, u32)> for Holding {
    fn from((got, back, part, owe): (u64, u64, u32, u32)) -> Self {
        Self { got, back, part, owe }
    }
}

impl From<Holding> for (u64, u64, u32, u32) {
    fn from(Holding { got, back, part, owe }: Holding) -> Self {
        (got, back, part, owe)
    }
}

/// What a replica says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The replica, anew with each process.
    pub replica: String,
    /// The store's generation it knows; empty: none.
    pub generation: String,
    /// What a store that has none begins with, and the membership of one that joins.
    pub new_generation: String,
    /// The membership it knows; empty: none. In another one the totals below mean nothing.
    pub membership: String,
    /// Grows with each question: one that comes late changes nothing.
    pub number: u64,
    pub new_base: String,
    /// It takes no more and holds nothing from now on.
    pub leaving: bool,
    /// For how long a member that says nothing keeps its slots, and for how long a new store waits for members, in ms.
    pub lease: u64,
    pub quarantine: u64,
    /// Of each pool that it knows the size of or holds something of.
    pub pools: BTreeMap<Pool, Report>,
    pub wants: Vec<Want>,
}

/// What others wait for. Tags are [`fixed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rival {
    pub need: Vec<Pool>,
    pub group: GroupId,
    pub tenant: TenantId,
    pub age: u64,
    #[serde(with = "text")]
    pub group_tag: i64,
    #[serde(with = "text")]
    pub tag: i64,
    pub count: u32,
}

/// What the store says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub generation: String,
    /// The store did not know the replica: its totals begin anew with what it said it holds.
    pub joined: bool,
    /// Its membership: a new one each time that it joins.
    #[serde(default)]
    pub membership: String,
    /// Milliseconds until the store gives out slots; 0: it does.
    pub closed_for: u64,
    pub base: String,
    /// Of each pool that this replica holds something of. It holds nothing of the others.
    #[serde(default)]
    pub pools: BTreeMap<Pool, Holding>,
    /// What others wait for and do not get, the next one first.
    #[serde(default)]
    pub rivals: Vec<Rival>,
    /// Replicas that live.
    pub members: u32,
    /// Those that must be told to ask: they were given something, or have something that is wanted.
    #[serde(default)]
    pub ring: Vec<String>,
    /// The store's time, Unix milliseconds.
    pub time: u64,
}

/// Whole numbers as text: scripts write large ones with fourteen digits only.
mod text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::borrow::Cow;

    pub fn serialize<S: Serializer>(number: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
