//! The OpenAPI document: made from the same list of endpoints that requests are routed by, so that what is
//! not documented cannot be reached. A file here describes what the file of the same name in `http` does.
//!
//! [`shape`] is the language that bodies are described in, [`operation`] that of operations; the rest is
//! `utoipa`'s.

pub mod admin_peers;
pub mod admin_queue;
pub mod device_transfer;
pub mod documentation;
pub mod federation;
pub mod friends;
pub mod health;
pub mod legacy_client;
pub mod library_collections;
pub mod me_blobs;
pub mod metrics;
mod operation;
pub mod passkeys;
mod problem;
mod samples;
pub mod sessions;
mod shape;
pub mod sharing;
mod signed;
pub mod users;
pub mod users_me;
pub mod users_me_audit;
pub mod users_me_devices;
pub mod users_me_km_version;
pub mod users_me_preferences;
pub mod users_me_revocations;
pub mod users_me_revocations_events;
pub mod users_me_usage;
pub mod users_me_wrapped_keys;
pub mod well_known;

pub use operation::Operation;

use utoipa::openapi::path::{HttpMethod, PathItem, PathsBuilder};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder};

use super::caller::COOKIE;
use super::endpoint::Endpoint;

const DESCRIPTION: &str = "A federation node: it keeps who people are to the network, and carries what they sign. \
    Bodies are JSON in UTF-8; times are RFC 3339 in UTC. A request that changes something and is authenticated by cookie must \
    carry an `Origin` that is the node's own or a configured client's. Every refusal is an `application/problem+json` with a stable `code`.";

/// The document of these endpoints.
pub fn document(endpoints: &[Endpoint]) -> OpenApi {
    let mut components = ComponentsBuilder::new();
    for (name, scheme) in security_schemes() {
        components = components.security_scheme(name, scheme);
    }
    for (name, schema) in problem::shape().components() {
        components = components.schema(name, schema);
    }
    let mut paths = PathsBuilder::new();
    for endpoint in endpoints {
        let path = endpoint.documented_path();
        for (method, operation) in endpoint.operations() {
            for (name, schema) in operation.shapes().flat_map(shape::Shape::components) {
                components = components.schema(name, schema);
            }
            for (name, refusal) in operation.shared_refusals(method) {
                components = components.response(name, refusal);
            }
            let described = operation.describe(method, &path);
            paths = paths.path(path.as_str(), PathItem::new(http_method(method), described));
        }
    }
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("Vellum")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(license));
    OpenApiBuilder::new().info(info.build()).paths(paths.build()).components(Some(components.build())).build()
}

/// The document as the node serves it and `docs/openapi.json` keeps it.
///
/// # Errors
/// Never in practice: all of it can be written as JSON.
pub fn text(endpoints: &[Endpoint]) -> Result<String, serde_json::Error> {
    document(endpoints).to_pretty_json().map(|text| text + "\n")
}

fn security_schemes() -> [(&'static str, SecurityScheme); 2] {
    let bearer =
        HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("The session's token.")).build();
    let cookie = ApiKeyValue::with_description(COOKIE, "The session's token, kept by a browser.");
    [("bearer", SecurityScheme::Http(bearer)), ("cookie", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)))]
}

fn http_method(name: &str) -> HttpMethod {
    match name {
        "POST" => HttpMethod::Post,
        "PUT" => HttpMethod::Put,
        "PATCH" => HttpMethod::Patch,
        "DELETE" => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::Value;

    use super::*;
    use crate::http::endpoints;

    fn parsed() -> Value {
        serde_json::from_str(&text(&endpoints()).unwrap()).unwrap()
    }

    /// Every operation, with its method and path.
    fn operations(document: &Value) -> Vec<(String, Value)> {
        let paths = document["paths"].as_object().unwrap();
        let of_path = |(path, item): (&String, &Value)| {
            let item = item.as_object().unwrap().clone();
            let path = path.clone();
            item.into_iter().map(move |(method, operation)| (format!("{method} {path}"), operation))
        };
        paths.iter().flat_map(of_path).collect()
    }

    #[test]
    fn the_document_in_docs_is_the_one_that_the_code_makes() {
        let kept = include_str!("../../../docs/openapi.json");
        assert!(
            kept == text(&endpoints()).unwrap(),
            "renew it: cargo run -- openapi > docs/openapi.json, and look at the difference"
        );
    }

    #[test]
    fn every_operation_says_what_it_does_and_shows_how() {
        let document = parsed();
        let mut ids = HashSet::new();
        for (name, operation) in operations(&document) {
            for field in ["operationId", "summary", "description"] {
                assert!(operation[field].as_str().is_some_and(|text| !text.is_empty()), "{name}: {field}");
            }
            assert!(
                ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
                "{name}: its id twice"
            );
            assert_eq!(operation["x-codeSamples"].as_array().unwrap().len(), 4, "{name}");
            if let Some(body) = operation.get("requestBody") {
                assert!(body["content"]["application/json"].get("example").is_some(), "{name}: no example");
                for status in ["413", "422"] {
                    assert!(operation["responses"].get(status).is_some(), "{name}: {status}");
                }
            }
            for (status, answer) in operation["responses"].as_object().unwrap() {
                let answer = match answer.get("$ref").and_then(Value::as_str) {
                    Some(reference) => document.pointer(&reference[1..]).unwrap(),
                    None => answer,
                };
                for content in answer["content"].as_object().into_iter().flatten() {
                    assert!(content.1.get("example").is_some(), "{name}: {status} has no example");
                }
            }
            if operation.get("security").is_some_and(|list| list.as_array().unwrap().len() == 2) {
                assert!(operation["responses"].get("401").is_some(), "{name}: 401");
            }
        }
    }

    #[test]
    fn every_parameter_of_a_path_is_described_and_every_reference_leads_somewhere() {
        let document = parsed();
        for (name, operation) in operations(&document) {
            let path = name.split_once(' ').unwrap().1;
            let in_path = path.matches('{').count();
            let described = operation["parameters"].as_array().into_iter().flatten();
            assert_eq!(described.filter(|parameter| parameter["in"] == "path").count(), in_path, "{name}");
        }
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
        }
    }
}
