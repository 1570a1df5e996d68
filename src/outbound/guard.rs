//! Which addresses this node connects to when strangers say where.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// How the text of a refusal begins, to tell it from a failed look-up.
pub(super) const REFUSED: &str = "the address";

/// Decides about addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guard {
    /// Development: peers may be anywhere.
    pub allow_private: bool,
}

/// IPv4 networks that are not the public internet: this host, private, carrier's, loopback, link-local
/// (with the clouds' metadata service, which one of them has at a public address), documentation, benchmarks, old relays, multicast, reserved.
const NOT_PUBLIC_V4: [(Ipv4Addr, u8); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The part of IPv6 that is handed out as public; everything else is refused.
const PUBLIC_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// Inside it, what is not public or carries an IPv4 address of its own: documentation, Teredo and the
/// other special registrations, 6to4.
const NOT_PUBLIC_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

fn within(network: IpNet, address: IpAddr) -> bool {
    network.contains(&address)
}

impl Guard {
    /// Whether this node connects to the address.
    pub fn allows(self, address: IpAddr) -> bool {
        if self.allow_private {
            return true;
        }
        match address {
            IpAddr::V4(v4) => !NOT_PUBLIC_V4
                .iter()
                .any(|&(base, bits)| within(IpNet::V4(Ipv4Net::new_assert(base, bits)), IpAddr::V4(v4))),
            IpAddr::V6(v6) => {
                // An IPv4 address in IPv6 clothes, plain or for NAT64, is judged as what it is.
                if let Some(v4) = v6.to_ipv4_mapped().or_else(|| nat64(v6)) {
                    return self.allows(IpAddr::V4(v4));
                }
                let public = IpNet::V6(Ipv6Net::new_assert(PUBLIC_V6.0, PUBLIC_V6.1));
                within(public, address)
                    && !NOT_PUBLIC_V6
                        .iter()
                        .any(|&(base, bits)| within(IpNet::V6(Ipv6Net::new_assert(base, bits)), address))
            }
        }
    }

    /// Checks a URL whose host is an address and will not be resolved.
    pub fn check_literal(self, url: &Url) -> Result<(), String> {
        let host = url.host_str().unwrap_or_default();
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) if !self.allows(address) => Err(refusal(address)),
            _ => Ok(()),
        }
    }
}

/// The IPv4 address inside `64:ff9b::/96`.
fn nat64(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let prefix = [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];
    (octets[..12] == prefix).then(|| Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]))
}

fn refusal(address: IpAddr) -> String {
    format!("{REFUSED} {address} is not on the public internet")
}

/// How names are looked up.
pub trait Lookup: Send + Sync {
    /// The addresses of a name; their ports do not count.
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, std::io::Result<Vec<SocketAddr>>>;
}

/// By the operating system.
pub(super) struct SystemLookup;

impl Lookup for SystemLookup {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, std::io::Result<Vec<SocketAddr>>> {
        async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) }.boxed()
    }
}

/// Looks names up and leaves out what the guard refuses. The client dials exactly what it returns, so no
/// second look-up can give another address.
#[derive(Clone)]
pub(super) struct Resolver {
    pub guard: Guard,
    pub lookup: Arc<dyn Lookup>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { guard, lookup } = self.clone();
        Box::pin(async move {
            let found = lookup.addresses(name.as_str()).await?;
            let allowed: Vec<SocketAddr> = found.iter().copied().filter(|at| guard.allows(at.ip())).collect();
            match (allowed.is_empty(), found.first()) {
                (true, Some(refused)) => Err(refusal(refused.ip()).into()),
                (true, None) => Err("the name has no address".into()),
                (false, _) => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_dialled() {
        let guard = Guard { allow_private: false };
        for refused in [
            "127.0.0.1",
            "127.8.8.8",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "168.63.129.16",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "192.0.2.7",
            "198.51.100.1",
            "203.0.113.9",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b::203.0.113.9",
            "64:ff9b:1::1.1.1.1",
            "64:ff9b::1:1.1.1.1",
            "2002:7f00:1::",
            "::7f00:1",
            "fd00:ec2::254",
        ] {
            assert!(!guard.allows(refused.parse().unwrap()), "{refused}");
        }
        for allowed in ["1.1.1.1", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(guard.allows(allowed.parse().unwrap()), "{allowed}");
        }
    }

    #[test]
    fn public_hosts_are_dialled_through_nat64_where_there_is_no_ipv4() {
        let guard = Guard { allow_private: false };
        for public in ["64:ff9b::1.1.1.1", "64:ff9b::93.184.216.34", "64:ff9b::ac20:1"] {
            assert!(guard.allows(public.parse().unwrap()), "{public} is the address of a public host");
            let url = Url::parse(&format!("https://[{public}]/")).unwrap();
            assert_eq!(guard.check_literal(&url), Ok(()), "{url}");
        }
        for private in ["64:ff9b::10.0.0.1", "64:ff9b::192.168.1.1", "64:ff9b::100.64.0.1"] {
            assert!(!guard.allows(private.parse().unwrap()), "{private} is the address of a private host");
            let url = Url::parse(&format!("https://[{private}]/")).unwrap();
            assert!(guard.check_literal(&url).is_err(), "{url} is the address of a private host");
        }
    }

    #[test]
    fn a_literal_address_is_checked_although_it_is_never_resolved() {
        let guard = Guard { allow_private: false };
        for refused in
            ["https://127.0.0.1/", "https://2130706433/", "https://0x7f.1/", "https://169.254.169.254/"]
        {
            assert!(guard.check_literal(&Url::parse(refused).unwrap()).is_err(), "{refused}");
        }
        assert!(guard.check_literal(&Url::parse("https://node.example/").unwrap()).is_ok());
        let development = Guard { allow_private: true };
        assert!(development.check_literal(&Url::parse("http://127.0.0.1:5000/").unwrap()).is_ok());
    }
}
