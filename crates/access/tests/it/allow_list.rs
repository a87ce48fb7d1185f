//! Who asks, behind which proxies, and whether that address may connect.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use marketprism_access::{AccessControl, Client, Config, network};
use marketprism_model::Secret;
use proptest::prelude::*;

use crate::rig::{Rig, SECRET, word};

fn rig(allowed: &[&str], proxies: &[&str]) -> Rig {
    let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    Rig::with(&Config {
        access_control: AccessControl {
            enabled: true,
            allowed_ips: owned(allowed),
            trusted_proxies: owned(proxies),
        },
        ..Config::default()
    })
}

fn headers(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let value = HeaderValue::from_bytes(line.as_bytes()).expect("a header's value");
        headers.append(HeaderName::from_static("x-forwarded-for"), value);
    }
    headers
}

fn client(rig: &Rig, peer: &str, lines: &[&str]) -> Client {
    rig.access.client(peer.parse().expect(peer), &headers(lines))
}

#[test]
fn the_header_is_read_from_the_right_and_only_from_trusted_proxies() {
    let rig = rig(&["192.0.2.0/24"], &["10.0.0.0/8", "fd00::/8", "127.0.0.1"]);
    let long = format!("192.0.2.7,{}", "x".repeat(100_000));
    let many = format!("192.0.2.7{}", ", 10.0.0.1".repeat(1000));
    let cases: &[(&str, &[&str], &str)] = &[
        // Peers that are no proxies: whatever they write changes nothing.
        ("203.0.113.5", &[], "203.0.113.5"),
        ("203.0.113.5", &["192.0.2.7"], "203.0.113.5"),
        ("203.0.113.5", &["127.0.0.1", "10.0.0.1"], "203.0.113.5"),
        // One proxy.
        ("10.0.0.1", &["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", &["203.0.113.5"], "203.0.113.5"),
        ("10.0.0.1", &["192.0.2.7, 203.0.113.5"], "203.0.113.5"),
        ("10.0.0.1", &["127.0.0.1, 203.0.113.5"], "203.0.113.5"),
        // Several proxies, several lines.
        ("10.0.0.1", &["192.0.2.7, 203.0.113.5, 10.0.0.2"], "203.0.113.5"),
        ("10.0.0.1", &["192.0.2.7", "203.0.113.5, 10.0.0.2"], "203.0.113.5"),
        ("10.0.0.1", &["203.0.113.5", "10.0.0.2"], "203.0.113.5"),
        ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        // Spellings.
        ("10.0.0.1", &[" 203.0.113.5\t"], "203.0.113.5"),
        ("10.0.0.1", &["203.0.113.5:4711"], "203.0.113.5"),
        ("10.0.0.1", &["2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
        ("10.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", &["::ffff:203.0.113.5"], "203.0.113.5"),
        ("::ffff:10.0.0.1", &["203.0.113.5"], "203.0.113.5"),
        ("fd00::1", &["203.0.113.5, ::ffff:10.0.0.2"], "203.0.113.5"),
        // Garbage stops at the last good hop.
        ("10.0.0.1", &["192.0.2.7, unknown"], "10.0.0.1"),
        ("10.0.0.1", &["192.0.2.7, garbage, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", &[""], "10.0.0.1"),
        ("10.0.0.1", &["192.0.2.7,"], "10.0.0.1"),
        ("10.0.0.1", &["192.0.2.7,,10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", &["192.0.2.7:"], "10.0.0.1"),
        ("10.0.0.1", &["192.0.2.7:99999"], "10.0.0.1"),
        ("10.0.0.1", &["192.0.2.7:+80"], "10.0.0.1"),
        ("10.0.0.1", &["[192.0.2.7]"], "10.0.0.1"),
        ("10.0.0.1", &["[2001:db8::1"], "10.0.0.1"),
        ("10.0.0.1", &["fe80::1%eth0"], "10.0.0.1"),
        ("10.0.0.1", &["192.0.2.007"], "10.0.0.1"),
        ("10.0.0.1", &["0xc0000207"], "10.0.0.1"),
        ("10.0.0.1", &["é"], "10.0.0.1"),
        ("10.0.0.1", &[&long], "10.0.0.1"),
        ("10.0.0.1", &[&many], "10.0.0.1"),
    ];
    for (peer, lines, expected) in cases {
        let shown: Vec<String> = lines.iter().map(|line| line.chars().take(60).collect()).collect();
        let found = client(&rig, peer, lines);
        assert_eq!(found.address.to_string(), *expected, "{peer} with {shown:?}");
    }
}

#[test]
fn without_trusted_proxies_the_header_counts_for_nothing() {
    let rig = rig(&["192.0.2.0/24"], &[]);
    for peer in ["127.0.0.1", "10.0.0.1", "203.0.113.5"] {
        let found = client(&rig, peer, &["192.0.2.7"]);
        assert_eq!(
            (found.address.to_string().as_str(), found.is_direct),
            (peer, true)
        );
    }
}

#[test]
fn other_headers_than_the_one_count_for_nothing() {
    let rig = rig(&["192.0.2.0/24"], &["10.0.0.1"]);
    let mut others = HeaderMap::new();
    for (name, value) in [
        ("forwarded", "for=192.0.2.7"),
        ("x-real-ip", "192.0.2.7"),
        ("true-client-ip", "192.0.2.7"),
        ("x-client-ip", "192.0.2.7"),
        ("x-marketprism-client", "v1;0;192.0.2.7;direct;AAAA"),
    ] {
        others.insert(name, HeaderValue::from_static(value));
    }
    let found = rig
        .access
        .client("10.0.0.1".parse().expect("an address"), &others);
    assert_eq!(found.address.to_string(), "10.0.0.1");
}

#[test]
fn the_list_admits_what_it_names_and_loopback_unless_a_proxy_named_somebody_else() {
    let rig = rig(
        &[
            "10.0.0.0/8",
            "192.0.2.7",
            "2001:db8::/32",
            "::ffff:172.16.0.0/108",
        ],
        &["127.0.0.1", "10.0.0.9"],
    );
    let chain = ["127.0.0.1"; 40].join(", ");
    let cases: &[(&str, &[&str], &str)] = &[
        ("10.255.255.255", &[], "in"),
        ("11.0.0.0", &[], "address"),
        ("192.0.2.7", &[], "in"),
        ("192.0.2.8", &[], "address"),
        ("172.31.255.255", &[], "in"),
        ("172.32.0.0", &[], "address"),
        ("::ffff:10.1.2.3", &[], "in"),
        ("2001:db8:ffff::1", &[], "in"),
        ("2001:db9::1", &[], "address"),
        ("127.0.0.1", &[], "in"),
        ("127.9.9.9", &[], "in"),
        ("::1", &[], "in"),
        ("::ffff:127.0.0.1", &[], "in"),
        // The proxy of this machine passes others on.
        ("127.0.0.1", &["203.0.113.5"], "address"),
        ("127.0.0.1", &["127.0.0.1, 203.0.113.5"], "address"),
        ("127.0.0.1", &["10.1.1.1"], "in"),
        ("127.0.0.1", &["garbage"], "address"),
        ("127.0.0.1", &[""], "address"),
        ("127.0.0.1", &["garbage, 127.0.0.1"], "address"),
        ("127.0.0.1", &["127.0.0.1"], "in"),
        ("127.0.0.1", &[&chain], "address"),
        ("10.0.0.9", &["203.0.113.5"], "address"),
        // What a proxy elsewhere calls loopback is its own machine, not this one.
        ("10.0.0.9", &["127.0.0.1"], "address"),
        ("10.0.0.9", &["127.0.0.1, 127.0.0.1"], "address"),
        // A forged loopback from an address that is no proxy.
        ("203.0.113.5", &["127.0.0.1"], "address"),
    ];
    for (peer, lines, expected) in cases {
        let admitted = rig.access.admit(&client(&rig, peer, lines));
        assert_eq!(word(&admitted), *expected, "{peer} with {lines:?}");
    }
    assert_eq!(
        rig.figure("marketprism_access_refusals_total{reason=\"address\"}"),
        14
    );
}

#[test]
fn without_a_list_every_address_may_connect() {
    let rig = Rig::new();
    assert_eq!(word(&rig.access.admit(&client(&rig, "203.0.113.5", &[]))), "in");
}

fn vouched(rig: &Rig, word: &[HeaderValue]) -> String {
    let mut headers = HeaderMap::new();
    for word in word {
        headers.append("x-marketprism-client", word.clone());
    }
    let peer: IpAddr = "10.0.0.77".parse().expect("an address");
    let client = rig.access.client(peer, &headers);
    format!(
        "{}{}",
        client.address,
        if client.is_direct { "" } else { " named" }
    )
}

#[test]
fn a_replicas_word_is_believed_for_thirty_seconds_and_no_forged_one_is() {
    let leader = rig(&["192.0.2.0/24"], &[]);
    let standby = Rig::on(&Config::default(), leader.store.clone(), leader.clock.clone(), 3);
    for (peer, expected) in [
        ("192.0.2.7", "192.0.2.7"),
        ("::1", "::1"),
        ("2001:db8::5", "2001:db8::5"),
    ] {
        let (name, word) = standby.access.vouch(&Client::direct(peer.parse().expect(peer)));
        assert_eq!(name, "x-marketprism-client");
        assert_eq!(vouched(&leader, &[word]), expected);
    }
    let mut behind_proxy = Client::direct("127.0.0.1".parse().expect("an address"));
    behind_proxy.is_direct = false;
    let (_, word) = standby.access.vouch(&behind_proxy);
    assert_eq!(vouched(&leader, &[word]), "127.0.0.1 named");

    let (_, good) = standby
        .access
        .vouch(&Client::direct("192.0.2.7".parse().expect("an address")));
    let text = good.to_str().expect("ASCII");
    let forged = [
        text.replace("192.0.2.7", "192.0.2.8"),
        text.replace(";direct;", ";named;"),
        text.replace("v1;", "v2;"),
        text.rsplit_once(';').expect("parts").0.to_owned(),
        format!("{text}A"),
        format!("{text};"),
        "192.0.2.7".to_owned(),
        String::new(),
        ";".repeat(10_000),
    ];
    for forged in forged {
        let word = HeaderValue::try_from(&forged).expect("a header's value");
        assert_eq!(vouched(&leader, &[word]), "10.0.0.77", "{forged}");
    }
    assert_eq!(
        vouched(&leader, &[good.clone(), good.clone()]),
        "10.0.0.77",
        "two words are none"
    );
    leader.pass(Duration::from_secs(30));
    assert_eq!(vouched(&leader, std::slice::from_ref(&good)), "192.0.2.7");
    leader.pass(Duration::from_millis(1));
    assert_eq!(vouched(&leader, std::slice::from_ref(&good)), "10.0.0.77");
    leader.clock.jump_to(crate::rig::START - Duration::from_secs(60));
    assert_eq!(vouched(&leader, &[good]), "10.0.0.77", "a word from the future");

    let (_, word) = standby
        .access
        .vouch(&Client::direct("192.0.2.7".parse().expect("an address")));
    assert_eq!(vouched(&leader, std::slice::from_ref(&word)), "192.0.2.7");
    leader
        .access
        .set_config(&Config::default(), Secret::new(format!("{SECRET}-new")));
    assert_eq!(vouched(&leader, &[word]), "10.0.0.77", "another secret");
}

proptest! {
    #[test]
    fn an_untrusted_peer_is_itself_whatever_it_writes(lines in proptest::collection::vec("[ -~]{0,80}", 0..4)) {
        thread_local!(static RIG: Rig = rig(&["192.0.2.0/24"], &["10.0.0.0/8"]));
        RIG.with(|rig| {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            assert_eq!(client(rig, "203.0.113.5", &lines).address.to_string(), "203.0.113.5");
        });
    }

    #[test]
    fn what_a_client_writes_itself_never_hides_the_hop_that_the_proxy_added(
        written in "[ -~]{0,80}", hop in any::<u32>()
    ) {
        thread_local!(static RIG: Rig = rig(&["192.0.2.0/24"], &["10.0.0.1"]));
        let hop = IpAddr::V4(hop.into());
        prop_assume!(hop.to_string() != "10.0.0.1");
        RIG.with(|rig| {
            let line = format!("{written}, {hop}");
            assert_eq!(client(rig, "10.0.0.1", &[&line]).address, hop);
        });
    }

    #[test]
    fn networks_are_read_without_a_panic_and_hold_their_own_address(
        text in "\\PC{0,40}", address in any::<u32>(), bits in 0u8..=40
    ) {
        _ = network(&text);
        let address = std::net::Ipv4Addr::from(address);
        let plain = network(&format!("{address}/{bits}"));
        prop_assert_eq!(plain.is_ok(), bits <= 32);
        let mapped = network(&format!("::ffff:{address}/{}", u32::from(bits) + 96));
        prop_assert_eq!(&mapped, &plain.clone().or_else(|_| mapped.clone()));
        if let Ok(network) = plain {
            prop_assert!(network.contains(IpAddr::V4(address)));
        }
    }
}
