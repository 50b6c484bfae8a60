//! How often an address failed to show a valid token. Bounded: of too many addresses the oldest is forgotten.

use obleth_core::moment::Moment;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Failures of an address within [`SPAN`] that are answered 401.
const FREE: u32 = 10;
const SPAN: Duration = Duration::from_secs(60);
/// Addresses that are remembered.
const ADDRESSES: usize = 4096;

/// Counts of failures by address.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<IpAddr, Count>>);

#[derive(Clone, Copy, Debug)]
struct Count {
    since: Moment,
    failures: u32,
}

/// One subscriber has a whole /64 of IPv6.
fn subscriber(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        IpAddr::V4(_) => address,
    }
}

impl Failures {
    /// Notes a failure; how long to wait when it is one too many.
    pub fn note(&self, address: IpAddr, now: Moment) -> Option<Duration> {
        let address = subscriber(address);
        let mut counts = self.0.lock();
        if counts.len() >= ADDRESSES && !counts.contains_key(&address) {
            make_room(&mut counts, now);
        }
        let count = counts.entry(address).or_insert(Count { since: now, failures: 0 });
        if now.since(count.since) >= SPAN {
            *count = Count { since: now, failures: 0 };
        }
        count.failures = count.failures.saturating_add(1);
        (count.failures > FREE).then(|| SPAN.saturating_sub(now.since(count.since)))
    }
}

fn make_room(counts: &mut HashMap<IpAddr, Count>, now: Moment) {
    counts.retain(|_, count| now.since(count.since) < SPAN);
    if counts.len() >= ADDRESSES
        && let Some(oldest) = counts.iter().min_by_key(|(_, count)| count.since).map(|(address, _)| *address)
    {
        counts.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn the_eleventh_failure_of_a_minute_waits_for_its_end() {
        let failures = Failures::default();
        for _ in 0..FREE {
            assert_eq!(failures.note(address(1), at(5)), None);
        }
        assert_eq!(failures.note(address(1), at(25)), Some(Duration::from_secs(40)));
        assert_eq!(failures.note(address(2), at(25)), None, "another address is not meant");
        assert_eq!(failures.note(address(1), at(64)), Some(Duration::from_secs(1)));
        assert_eq!(failures.note(address(1), at(65)), None, "a new minute");
    }

    #[test]
    fn a_whole_network_of_ipv6_is_one_address() {
        let failures = Failures::default();
        let told = (0..=FREE).map(|last| {
            let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, u16::try_from(last).unwrap());
            failures.note(address.into(), at(0))
        });
        assert_eq!(told.filter(Option::is_some).count(), 1);
    }

    #[test]
    fn of_too_many_addresses_the_oldest_is_forgotten() {
        let failures = Failures::default();
        for number in 0..u32::try_from(ADDRESSES).unwrap() * 2 {
            failures.note(address(number), at(u64::from(number) / 1000));
        }
        assert_eq!(failures.0.lock().len(), ADDRESSES);
        assert!(!failures.0.lock().contains_key(&address(0)));
    }
}
