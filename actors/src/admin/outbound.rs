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

#[cfg(test)]
mod tests {
    use super::*;

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
