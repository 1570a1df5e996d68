//! `POST /federation/inbox`: envelopes from other nodes (wire protocol, section 5).

use actix_web::http::StatusCode;
use actix_web::web;
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use serde_json::{Map, json};
use vellum_actors::Error;
use vellum_actors::inbox::{self, Inbound};
use vellum_protocol::MessageType;
use vellum_protocol::server_request::{
    HEADER_NONCE, HEADER_PROTOCOL_VERSION, HEADER_SERVER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, INBOX_PATH,
};

use super::body::AnyBody;
use super::client_address::ClientAddress;
use super::endpoint::Endpoint;
use super::error::Problem;
use super::openapi::federation as docs;
use super::{App, limits};

/// Paths of this file.
pub fn endpoints() -> Vec<Endpoint> {
    vec![Endpoint::at(INBOX_PATH).post(docs::receive(), receive)]
}

async fn receive(app: web::Data<App>, request: HttpRequest, body: AnyBody) -> Result<HttpResponse, Problem> {
    // A charset parameter is fine; any other type is not (wire protocol, section 5).
    if !request.content_type().eq_ignore_ascii_case("application/json") {
        let detail = "The body must be application/json.";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", detail));
    }
    let header = |name: &str| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let inbound = Inbound {
        server_id: header(HEADER_SERVER_ID),
        protocol_version: header(HEADER_PROTOCOL_VERSION),
        nonce: header(HEADER_NONCE),
        timestamp: header(HEADER_TIMESTAMP),
        signature: header(HEADER_SIGNATURE),
        body: body.to_vec(),
        client_ip: ClientAddress::of(&request).shown(),
    };
    let peer = inbound.server_id.clone();
    let received = inbox::receive(&app.node, inbound, &app.limiters.of_request(&request)).await;
    if matches!(received, Err(Error::TooManyEnvelopes { .. })) {
        limits::note_sender(&request, peer);
    }
    let (message_type, received) = received?;
    let mut answer = Map::new();
    answer.insert("success".into(), json!(true));
    if message_type == MessageType::RelationshipRevoke {
        answer.insert("applied".into(), json!(received.applied));
    }
    if message_type == MessageType::FriendInvite && received.friends {
        answer.insert("friends".into(), json!(true));
    }
    Ok(HttpResponse::Accepted().json(answer))
}
