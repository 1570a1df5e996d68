//! `vellum health`: asks the node of these settings whether it can work. A container's health check.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::{Context, block_on, print};

/// How long the node may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Runs the command.
pub fn run(context: &Context) -> anyhow::Result<()> {
    let settings = context.settings()?;
    let address = reachable(settings.http.listen);
    if address.port() == 0 {
        bail!("http.listen has port 0: which one the node got is not known here");
    }
    // reqwest's client wants a provider of TLS, also for plain http.
    let _ = rustls::crypto::ring::default_provider().install_default();
    block_on(async {
        let client = reqwest::Client::builder().no_proxy().timeout(LIMIT).tls_certs_only([]).build()?;
        let asked = client.get(format!("http://{address}/health/ready")).send().await;
        let answer = asked.with_context(|| format!("nothing answers at {address}"))?;
        let status = answer.status();
        if !status.is_success() {
            let problem: Value = answer.json().await.unwrap_or_default();
            bail!(
                "the node at {address} answers {status}: {}",
                problem["detail"].as_str().unwrap_or("no reason")
            );
        }
        print(&if context.json { json!({ "status": "ok" }).to_string() } else { "ok".to_owned() });
        Ok(())
    })
}

/// Where a node that listens on every address can be reached from here.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_on_every_address_is_asked_on_this_machines_own() {
        for (listen, asked) in
            [("0.0.0.0:5000", "127.0.0.1:5000"), ("[::]:5000", "[::1]:5000"), ("10.0.0.7:80", "10.0.0.7:80")]
        {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
