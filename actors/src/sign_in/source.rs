//! Where somebody signs in from: the network of their address, and their browser's device cookie.
//! Both are kept as keyed hashes with the accounts that they have signed in to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rand::RngExt;
use secrecy::{ExposeSecret, SecretString};
use vellum_protocol::UnixMillis;
use vellum_store::{StoreError, Tx, UserId, known_sources};

use super::SignInSettings;
use super::code::{hex, keyed_hash};

/// How long a device cookie lives, and how long an account knows a source that it does not see
/// again, in milliseconds. No browser keeps a cookie for longer.
pub const KNOWN_MILLIS: i64 = 400 * 86_400_000;

/// Where a session is opened from.
#[derive(Debug, Clone, Default)]
pub struct Device {
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// Its address.
    pub ip: Option<String>,
    /// The name that the device has chosen for itself, for its wrap secret.
    pub device_id: Option<String>,
    /// The device cookie of a browser (see [`device_cookie`]).
    pub cookie: Option<SecretString>,
}

/// The hashes of a request's sources. Empty for one that it does not have.
#[derive(Clone, Default)]
pub(crate) struct Sources {
    network: String,
    cookie: String,
}

impl Sources {
    pub fn of(settings: &SignInSettings, device: &Device) -> Self {
        let hash = |purpose, value: &str| hex(&keyed_hash(settings, purpose, &[value]));
        let network = device.ip.as_deref().and_then(network);
        let network = network.map(|network| hash("vellum network v1", &network.to_string()));
        let cookie =
            device.cookie.as_ref().map(|cookie| hash("vellum device cookie v1", cookie.expose_secret()));
        Self { network: network.unwrap_or_default(), cookie: cookie.unwrap_or_default() }
    }

    /// Those that the account with this address knows.
    pub async fn known_to(&self, tx: &mut Tx, email_folded: &str) -> Result<Vec<String>, StoreError> {
        let known = known_sources::among(tx, email_folded, [&self.network, &self.cookie]).await?;
        // The network is counted first, so that the cookie is left when strangers of the same
        // network have tried.
        Ok([&self.network, &self.cookie]
            .into_iter()
            .filter(|source| known.contains(source))
            .cloned()
            .collect())
    }

    /// Makes them known to an account.
    pub async fn remember(&self, tx: &mut Tx, user: &UserId, now: UnixMillis) -> Result<(), StoreError> {
        for source in [&self.network, &self.cookie] {
            if !source.is_empty() {
                known_sources::see(tx, user, source, now).await?;
            }
        }
        Ok(())
    }
}

/// The /24 network of an IPv4 address, or the /48 network of an IPv6 address.
fn network(ip: &str) -> Option<IpAddr> {
    Some(match ip.parse::<IpAddr>().ok()?.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
        }
    })
}

/// The device cookie of a browser: the one that it has presented, or a new one. A cookie that
/// somebody has planted gains them five tries a day at most.
#[must_use]
pub fn device_cookie(presented: Option<&str>) -> SecretString {
    let is_ours = |cookie: &&str| {
        cookie.len() == 64 && cookie.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let cookie = presented.filter(is_ours).map(str::to_owned);
    cookie.unwrap_or_else(|| hex(&rand::rng().random::<[u8; 32]>())).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_are_one_source() {
        let same = |one, other| network(one) == network(other);
        assert!(same("192.0.2.1", "192.0.2.254") && !same("192.0.2.1", "192.0.3.1"));
        assert!(same("192.0.2.1", "::ffff:192.0.2.9"), "an IPv4 address in IPv6 clothing");
        assert!(same("2001:db8:1:2::1", "2001:db8:1:3::1") && !same("2001:db8:1::1", "2001:db8:2::1"));
        assert_eq!(network("unknown"), None);
    }

    #[test]
    fn a_device_cookie_is_kept_only_if_it_looks_like_ours() {
        let ours = "0123456789abcdef".repeat(4);
        assert_eq!(device_cookie(Some(&ours)).expose_secret(), ours);
        for other in [None, Some(""), Some("short"), Some("Z".repeat(64).as_str())] {
            let made = device_cookie(other);
            assert!(made.expose_secret().len() == 64 && Some(made.expose_secret()) != other, "{other:?}");
        }
    }
}
