//! Empty answers to what existing clients ask for when they start, about things that this node does
//! not have: integrations, vehicles, map layers, payments. Such a client does not leave its sign-in
//! page without them. `http.legacy_client_stubs = false` takes these paths away.

use actix_web::HttpResponse;
use serde_json::json;

use super::caller::Caller;
use super::endpoint::Endpoint;
use super::openapi::legacy_client as docs;

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::at("/integrations/available").get(docs::list("availableIntegrations").signed_in(), no_rows),
        // Also without a session, as where these clients come from.
        Endpoint::at("/integrations/configured").get(docs::list("configuredIntegrations"), no_public_rows),
        Endpoint::at("/vehicles").get(docs::list("vehicles").signed_in(), no_rows),
        Endpoint::at("/vehicles/").get(docs::list("vehiclesWithSlash").signed_in(), no_rows),
        Endpoint::at("/library/layers").get(docs::list("layers").signed_in(), no_rows),
        Endpoint::at("/library/layers/groups").get(docs::list("layerGroups").signed_in(), no_rows),
        Endpoint::at("/subscriptions/config").get(docs::payments(), no_payments),
    ]
}

async fn no_rows(_: Caller) -> HttpResponse {
    super::private(&json!([]))
}

async fn no_public_rows() -> HttpResponse {
    super::private(&json!([]))
}

/// Clients read `billingEnabled`.
async fn no_payments() -> HttpResponse {
    super::private(&json!({ "enabled": false, "billingEnabled": false }))
}
