use super::*;

fn open() -> Outbound {
    Outbound::default()
}

fn strict(allowed: &[&str]) -> Outbound {
    Outbound { block_private: true, allowed: allowed.iter().map(|text| text.parse().unwrap()).collect() }
}

fn check(rule: &Outbound, text: &str) -> Result<(), Blocked> {
    rule.check(text.parse().unwrap())
}

#[test]
fn some_addresses_are_never_connected_to() {
    // Not even when they are listed.
    let everything = strict(&["0.0.0.0/0", "::/0"]);
    for text in [
        "0.0.0.0",
        "0.1.2.3",
        "169.254.0.1",
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
        "::",
        "fe80::1",
        "febf::1",
        "ff02::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "::ffff:169.254.169.254",
        "::ffff:0.0.0.0",
        "::ffff:0:169.254.169.254",
        "::169.254.169.254",
        "64:ff9b::169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "64:ff9b:1::169.254.169.254",
        "64:ff9b:1:ffff::a9fe:a9fe",
        // Teredo, of a server whose address says nothing.
        "2001:0:102:304::5601:5601",
        "2001:db8::5efe:169.254.169.254",
        "2600::200:5efe:169.254.169.254",
    ] {
        for rule in [&open(), &strict(&[]), &everything] {
            assert_eq!(check(rule, text), Err(Blocked::Never), "{text}");
        }
    }
}

#[test]
fn private_addresses_are_allowed_unless_the_operator_is_strict() {
    for text in [
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "127.0.0.1",
        "127.255.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "198.18.0.1",
        "198.19.255.255",
        "192.0.2.1",
        "240.0.0.1",
        "192.88.99.1",
        "3fff::1",
        "3fff:fff::1",
        "5f00::1",
        "2600::5efe:10.0.0.1",
        "::1",
        "fc00::1",
        "fd12:3456::1",
        "fec0::1",
        "2001:db8::1",
        "64:ff9b:1::10.0.0.1",
        "64:ff9b:1::8.8.8.8",
        "::ffff:10.0.0.1",
        "::ffff:127.0.0.1",
        "64:ff9b::10.0.0.1",
        "2002:0a00:0001::1",
    ] {
        assert_eq!(check(&open(), text), Ok(()), "{text}");
        assert_eq!(check(&strict(&[]), text), Err(Blocked::Private), "{text}");
    }
    for text in ["8.8.8.8", "172.15.0.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::8.8.8.8"]
    {
        assert_eq!((check(&open(), text), check(&strict(&[]), text)), (Ok(()), Ok(())), "{text}");
    }
}

#[test]
fn what_is_listed_is_allowed_and_nothing_beside_it() {
    let rule = strict(&["10.1.0.0/16", "127.0.0.1", "fd12::/16"]);
    for text in ["10.1.0.0", "10.1.255.255", "127.0.0.1", "::ffff:10.1.2.3", "fd12::1"] {
        assert_eq!(check(&rule, text), Ok(()), "{text}");
    }
    for text in ["10.0.255.255", "10.2.0.0", "127.0.0.2", "::1", "fd13::1"] {
        assert_eq!(check(&rule, text), Err(Blocked::Private), "{text}");
    }
    assert_eq!(check(&strict(&["0.0.0.0/0"]), "10.0.0.1"), Ok(()));
    assert_eq!(check(&strict(&["0.0.0.0/0"]), "fd00::1"), Err(Blocked::Private), "the other family");
    assert_eq!(check(&strict(&["::/0"]), "fd00::1"), Ok(()));
}

#[test]
fn networks_are_read_strictly() {
    for text in ["10.0.0.0/8", "10.0.0.0/0", "10.0.0.1/32", "fd00::/8", "::/0", "::1/128"] {
        assert_eq!(text.parse::<Network>().map(|network| network.to_string()), Ok(text.to_owned()));
    }
    assert_eq!("127.0.0.1".parse::<Network>().unwrap().to_string(), "127.0.0.1/32");
    for text in
        ["", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/+8", "fd00::/129", "a/8", "10.0.0.0/8/8"]
    {
        assert!(text.parse::<Network>().is_err(), "{text}");
    }
}
