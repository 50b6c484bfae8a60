//! Where a URL may point, as far as it can be told without resolving its host: addresses that are written in it,
//! in whatever notation. Names are checked at each connect.

use obleth_core::net::Outbound;
use url::{Host, Url};

/// Whether `rule` allows connections to the host of `url`, which is a URL.
pub fn check_literal(rule: &Outbound, url: &str) -> Result<(), &'static str> {
    let Ok(url) = Url::parse(url) else { return Ok(()) };
    let address = match url.host() {
        Some(Host::Ipv4(address)) => address.into(),
        Some(Host::Ipv6(address)) => address.into(),
        Some(Host::Domain(_)) | None => return Ok(()),
    };
    rule.check(address).map_err(obleth_core::net::Blocked::reason)
}

/// What is wrong with a secret that would go to another origin than the one it was stored for.
pub(super) const MOVED: &str = "is stored for another origin: give it again with the new address, or take it away (the role admin may keep it)";

/// Whether both lead to one origin: scheme, host and port (RFC 6454 §4). None is one of its own.
pub(super) fn same_origin(one: Option<&str>, other: Option<&str>) -> bool {
    let origin = |url: &str| Url::parse(url).ok().map(|url| url.origin());
    match (one, other) {
        (Some(one), Some(other)) => one == other || origin(one).is_some_and(|one| Some(one) == origin(other)),
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |one, other| same_origin(Some(one), Some(other));
        assert!(same("https://a/v1", "https://a:443/v2/") && same("http://A:80", "http://a/x"));
        for other in ["http://a", "https://b", "https://a:444", "https://a.b", "nothing"] {
            assert!(!same("https://a", other), "{other}");
        }
        assert!(same_origin(None, None));
        assert!(!same_origin(None, Some("http://a")) && !same_origin(Some("http://a"), None));
    }

    #[test]
    fn an_address_is_known_in_every_notation() {
        let rule = Outbound::default();
        for host in [
            "169.254.169.254",
            "2852039166",
            "0xa9fea9fe",
            "0251.0376.0251.0376",
            "169.254.43518",
            "0",
            "0.0.0.0",
            "[::]",
            "[fe80::1]",
            "[::ffff:169.254.169.254]",
            "[::ffff:a9fe:a9fe]",
            "[fd00:ec2::254]",
            "169。254。169。254",
            "255.255.255.255",
        ] {
            for scheme in ["http", "https"] {
                let url = format!("{scheme}://{host}:8080/v1");
                assert!(Url::parse(&url).is_ok(), "{url}");
                assert!(check_literal(&rule, &url).is_err(), "{url}");
            }
        }
        for host in ["127.0.0.1", "10.0.0.1", "[::1]", "[fd00::1]", "localhost", "vllm.internal", "8.8.8.8"] {
            assert_eq!(check_literal(&rule, &format!("http://{host}/v1")), Ok(()), "{host}");
        }
    }
}
