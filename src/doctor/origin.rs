//! The public origin: whether what others find there is this node.

use std::time::Duration;

use vellum_protocol::{Json, Manifest};

use super::Finding;
use crate::config::Settings;
use crate::data_dir::DataDir;

/// How long the way out and in may take.
const LIMIT: Duration = Duration::from_secs(10);

pub async fn check(settings: &Settings) -> Vec<Finding> {
    let Ok(origin) = settings.origin_at(settings.http.listen.port()) else {
        return vec![Finding::broken(
            "origin",
            "http.origin cannot be used",
            "set it to the node's public address",
        )];
    };
    let mut findings = Vec::new();
    if !origin.is_https() && !origin.domain().is_loopback() {
        let advice =
            "put a proxy with TLS in front, and set http.origin to https://…; other nodes refuse plain http";
        findings.push(Finding::broken("TLS", format!("{} is not https", origin.as_str()), advice));
    }
    let url = format!("{}/.well-known/parchment-server", origin.as_str());
    findings.push(match ask(&url).await {
        Ok(body) => judge(settings, &body),
        Err(reason) => {
            let advice = "is the node running? does the name lead to it, and does the proxy pass /.well-known on? \
                          does the certificate name it?";
            Finding::broken("origin", format!("{url}: {reason}"), advice)
        }
    });
    findings
}

async fn ask(url: &str) -> Result<Vec<u8>, String> {
    // It may be there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client =
        reqwest::Client::builder().no_proxy().timeout(LIMIT).build().map_err(|error| error.to_string())?;
    let answer = client.get(url).send().await.map_err(|error| innermost(&error))?;
    if !answer.status().is_success() {
        return Err(format!("answers {}", answer.status()));
    }
    answer.bytes().await.map(|bytes| bytes.to_vec()).map_err(|error| innermost(&error))
}

fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}

fn judge(settings: &Settings, body: &[u8]) -> Finding {
    let manifest = Json::parse(body).ok().and_then(|json| Manifest::parse(&json).ok());
    let Some(manifest) = manifest else {
        let advice = "the proxy answers itself, or leads somewhere else";
        return Finding::broken("origin", "what is there is no federation node", advice);
    };
    match DataDir::at(&settings.data_dir).find_identity(settings.identity_key.as_ref()) {
        Ok(Some(own)) if own.public() == manifest.public_key => {
            Finding::well("origin", format!("others find this node there, as {}", manifest.server_id))
        }
        Ok(Some(_)) => {
            let advice =
                "http.origin leads to another node, or this one runs with another data folder or key";
            Finding::broken("origin", "the node there shows another key than this data folder's", advice)
        }
        Ok(None) => Finding::broken(
            "origin",
            "a node answers there, and this data folder has no server key to compare it with",
            "see data_dir, and server.key in it",
        ),
        Err(error) => Finding::broken("keys", format!("{error:#}"), "see server.key in the data folder"),
    }
}
