//! The address of the client that makes a request: the connection's own, or the one that trusted
//! proxies name in `X-Forwarded-For`.
//!
//! It is found once per request, by the outermost middleware, and kept with the request. Rate
//! limits, sessions, the audit trail, `/metrics` and the log all read it there.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str;

use actix_web::http::header::HeaderMap;
use actix_web::{HttpMessage, HttpRequest};
use ipnet::IpNet;

/// The header field that is believed, from trusted proxies only.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// Header fields that say that a request was passed on for somebody else.
const FORWARDING: [&str; 3] = [FORWARDED_FOR, "forwarded", "x-real-ip"];
/// Stands for every client without a known address where an address is needed. It is in the network
/// for discarding (RFC 6666), which nobody sends from.
const UNKNOWN: IpAddr = IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0));

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress {
    /// `None`: it came through a trusted proxy that names no address that can be read.
    ip: Option<IpAddr>,
    /// Somebody passed it on who is no trusted proxy. The address is theirs, and the client is
    /// elsewhere.
    passed_on: bool,
}

impl ClientAddress {
    /// The address that the outermost middleware has found for this request.
    pub fn of(request: &HttpRequest) -> Self {
        let found = request.extensions().get::<Self>().copied();
        found.unwrap_or(Self { ip: None, passed_on: false })
    }

    /// Finds the address of a request that `peer` has sent.
    ///
    /// From a trusted proxy, `X-Forwarded-For` is read from the right, over all of its lines:
    /// trusted proxies are skipped, and the first other entry is the client. An entry that is no
    /// address ends the search: what stands left of it is the client's own word. Where all entries
    /// are trusted proxies, the leftmost of them has made the request. Without any forwarding
    /// header the proxy's machine has made it.
    pub fn find(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
        let passed_on = FORWARDING.iter().any(|name| headers.contains_key(*name));
        let Some(peer) = peer.map(|address| address.to_canonical()) else {
            return Self { ip: None, passed_on };
        };
        if !is_trusted(&peer) || !passed_on {
            return Self { ip: Some(peer), passed_on };
        }
        let lines: Vec<&[u8]> = headers.get_all(FORWARDED_FOR).map(|line| line.as_bytes()).collect();
        let mut found = None;
        for entry in lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b',')) {
            found = parse(entry);
            if !found.is_some_and(|address| is_trusted(&address)) {
                break;
            }
        }
        Self { ip: found, passed_on: false }
    }

    /// The address as lists show it; `None` where it is not known.
    pub fn shown(self) -> Option<String> {
        self.ip.map(|address| address.to_string())
    }

    /// The address, where it is known and the client's own.
    pub fn known(self) -> Option<IpAddr> {
        self.ip.filter(|_| !self.passed_on)
    }

    /// The address that rate limits count by. Clients without a known one share one.
    pub fn counted(self) -> IpAddr {
        self.ip.unwrap_or(UNKNOWN)
    }

    /// Whether it is known to be in one of these networks.
    pub fn is_near(self, networks: &[IpNet]) -> bool {
        !self.passed_on && self.ip.is_some_and(|ip| networks.iter().any(|network| network.contains(&ip)))
    }

    /// The peer that has passed the request on although it is no trusted proxy.
    pub fn untrusted_proxy(self) -> Option<IpAddr> {
        self.ip.filter(|_| self.passed_on)
    }
}

/// `unknown` where the address is not known.
impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(address) => address.fmt(f),
            None => f.write_str("unknown"),
        }
    }
}

/// Reads an entry: an address, in brackets or not, with a port or without.
fn parse(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().map(|address| address.ip());
    Some(bare.parse::<IpAddr>().or_else(|_| with_port()).ok()?.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn find(peer: &str, forwarded: &[&[u8]], trusted: &[&str]) -> ClientAddress {
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for line in forwarded {
            let name = HeaderName::from_static(FORWARDED_FOR);
            headers.append(name, HeaderValue::from_bytes(line).unwrap());
        }
        ClientAddress::find(Some(peer.parse().unwrap()), &headers, &trusted)
    }

    #[test]
    fn a_forwarded_address_counts_only_from_a_trusted_proxy() {
        assert_eq!(find("9.9.9.9", &[b"1.2.3.4"], &[]).to_string(), "9.9.9.9");
        assert_eq!(find("10.0.0.1", &[b"1.2.3.4"], &["10.0.0.0/8"]).to_string(), "1.2.3.4");
        assert_eq!(find("10.0.0.1", &[b"6.6.6.6, 1.2.3.4"], &["10.0.0.0/8"]).to_string(), "1.2.3.4");
        assert_eq!(find("::ffff:10.0.0.1", &[b"1.2.3.4"], &["10.0.0.0/8"]).to_string(), "1.2.3.4");
        assert_eq!(find("9.9.9.9", &[b"1.2.3.4"], &[]).untrusted_proxy(), "9.9.9.9".parse().ok());
        assert_eq!(find("10.0.0.1", &[b"1.2.3.4"], &["10.0.0.0/8"]).untrusted_proxy(), None);
    }

    #[test]
    fn an_entry_has_a_port_or_none_and_brackets_or_none() {
        for (entry, address) in [
            ("192.0.2.7", Some("192.0.2.7")),
            ("192.0.2.7:4711", Some("192.0.2.7")),
            (" \t192.0.2.7\t ", Some("192.0.2.7")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("::ffff:192.0.2.7", Some("192.0.2.7")),
            ("192.0.2.7:65536", None),
            ("192.0.2.7:", None),
            ("[192.0.2.7", None),
            ("192.0.2.007", None),
            ("", None),
            ("unknown", None),
            ("_hidden", None),
            ("\u{e4}", None),
        ] {
            assert_eq!(parse(entry.as_bytes()), address.map(|text| text.parse().unwrap()), "{entry:?}");
        }
        assert_eq!(parse(b"192.0.2.7\xff"), None);
    }
}
