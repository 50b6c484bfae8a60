//! Where outgoing connections may go: never to link-local, metadata, multicast or unspecified addresses; to
//! private ones unless the operator forbids it.
//!
//! Is: a rule over addresses, for what is written in a URL and for what a name resolves to. Is not: a resolver.
//! An IPv6 address that carries an IPv4 one (mapped, compatible, translated, 6to4, Teredo, ISATAP) is judged by that one
//! too. Special networks are those of IANA's registries
//! (<https://www.iana.org/assignments/iana-ipv4-special-registry>, <https://www.iana.org/assignments/iana-ipv6-special-registry>).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Why an address is not connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// Link-local, metadata of a cloud, multicast, broadcast, unspecified: whatever the settings.
    Never,
    /// Private or loopback, in strict mode, and not listed.
    Private,
}

impl Blocked {
    /// What is wrong with the address.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Never => "is an unspecified, link-local, metadata, multicast or broadcast address",
            Self::Private => "is a private address, and OBLETH_ALLOWED_NETWORKS does not list it",
        }
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Blocked {}

/// The rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbound {
    /// Strict mode.
    pub block_private: bool,
    /// Private networks that are allowed in strict mode.
    pub allowed: Vec<Network>,
}

impl Outbound {
    /// Whether a connection to `address` is allowed.
    pub fn check(&self, address: IpAddr) -> Result<(), Blocked> {
        let address = address.to_canonical();
        let carried = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(six) => carried(six).map(IpAddr::V4),
        };
        if is_never(address) || carried.is_some_and(is_never) {
            return Err(Blocked::Never);
        }
        let private = is_private(address) || carried.is_some_and(is_private);
        if self.block_private && private && !self.allowed.iter().any(|network| network.contains(address)) {
            return Err(Blocked::Private);
        }
        Ok(())
    }
}

/// Metadata services of the large clouds that are not link-local.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// The IPv4 address within an IPv6 one.
fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let low = |bits: u128| Some(Ipv4Addr::from_bits(u32::try_from(bits & 0xffff_ffff).unwrap_or(0)));
    let bits = address.to_bits();
    match address.segments() {
        // ::, ::1 are themselves; ::a.b.c.d is the deprecated compatible form.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => low(bits),
        // RFC 8215: the prefix is the operator's choice within it; the usual one has the address at the end.
        [0x64, 0xff9b, 1, ..] => low(bits),
        [0x2002, ..] => low(bits >> 80),
        // Teredo (RFC 4380 §4): the client's address, with its bits turned round.
        [0x2001, 0, ..] => low(!bits),
        // ISATAP (RFC 5214 §6.1), under any prefix.
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => low(bits),
        _ => None,
    }
}

fn is_never(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => {
            let this_network = four.octets().first() == Some(&0);
            let spread = four.is_multicast() || four.is_broadcast();
            this_network || spread || four.is_link_local() || METADATA_V4.contains(&four)
        }
        IpAddr::V6(six) => {
            let spread = six.is_unspecified() || six.is_multicast();
            spread || six.is_unicast_link_local() || METADATA_V6.contains(&six)
        }
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => {
            let [a, b, c, _] = four.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let relay = (a, b, c) == (192, 88, 99);
            let special = (a, b, c) == (192, 0, 0) || a == 198 && (b == 18 || b == 19) || a >= 240 || relay;
            four.is_private() || four.is_loopback() || four.is_documentation() || shared || special
        }
        IpAddr::V6(six) => {
            let [first, second, third, ..] = six.segments();
            let site_local = first & 0xffc0 == 0xfec0;
            let translated = (first, second, third) == (0x64, 0xff9b, 1);
            let documentation = (first, second) == (0x2001, 0xdb8) || (first, second & 0xf000) == (0x3fff, 0);
            let special = documentation || first == 0x100 || first == 0x5f00;
            six.is_loopback() || six.is_unique_local() || site_local || translated || special
        }
    }
}

/// A network in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    /// Leading bits that count.
    prefix: u32,
}

impl Network {
    /// Whether `address` lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(other)) => {
                let shift = 32_u32.saturating_sub(self.prefix);
                base.to_bits().checked_shr(shift) == other.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(base), IpAddr::V6(other)) => {
                let shift = 128_u32.saturating_sub(self.prefix);
                base.to_bits().checked_shr(shift) == other.to_bits().checked_shr(shift)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl FromStr for Network {
    type Err = &'static str;

    /// `10.0.0.0/8`, `fd00::/8`, or a single address.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "must be networks such as 10.0.0.0/8 or fd00::/8, separated by commas";
        let (base, prefix) = match text.split_once('/') {
            Some((base, prefix)) => (base, Some(prefix)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| wrong)?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = match prefix {
            None => most,
            Some(prefix) if digits(prefix) => prefix.parse().map_err(|_| wrong)?,
            Some(_) => return Err(wrong),
        };
        if prefix > most { Err(wrong) } else { Ok(Self { base, prefix }) }
    }
}

#[cfg(test)]
mod tests;
