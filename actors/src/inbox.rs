//! The checks that an inbound envelope passes before it becomes a message to a user.
//!
//! Cheap checks come before dear ones, and nothing is remembered before it is proven:
//!
//! ```text
//!   headers ▸ version ▸ time ▸ limit ▸ peer's pinned key ▸ server signature                   (the request)
//!   ▸ shape ▸ recipient here ▸ sender there ▸ time ▸ sender's key ▸ signature           (the message)
//!   ▸ recipient's UserActor, and in its transaction: nonce unseen
//! ```
//!
//! The request's nonce is remembered in the transaction of what the message does, so that one commit suffices. A message that is
//! refused leaves it behind all the same, and whatever else is wrong with it, a repeated request is told that it is one.
//!
//! Size and the rate limit by address come even before, in front of this module; the limit by sending server
//! is looked at once the server is named, and counts once it has signed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use vellum_protocol::server_request::{INBOX_PATH, PROTOCOL_VERSION};
use vellum_protocol::timestamp::is_fresh;
use vellum_protocol::{
    Domain, Handle, Json, MessageError, MessageType, Nonce, ReceivedMessage, ServerRequest, Signature,
    Timestamp, UnixMillis,
};
use vellum_store::UserId;
use vellum_store::friendships::RemoteUser;
use vellum_store::transport_nonces::TransportNonce;

pub use crate::refusal::Refusal;

use crate::Error;
use crate::measure;
use crate::node::{Node, REVOCATION_WINDOW_MILLIS};
use crate::peer::{LookupFor, PeerError};
use crate::user::{Receive, Received, Source, remember};

/// How long a transport nonce is remembered: twice the time in which its request is fresh.
const NONCE_MILLIS: i64 = 600_000;
/// The longest reason of a refusal in the log, in characters.
const LONGEST_REASON: usize = 300;

/// A request to the inbox, as it came.
#[derive(Debug, Clone, Default)]
pub struct Inbound {
    /// `X-Parchment-Server-Id`
    pub server_id: String,
    /// `X-Parchment-Protocol-Version`
    pub protocol_version: String,
    /// `X-Parchment-Nonce`
    pub nonce: String,
    /// `X-Parchment-Timestamp`
    pub timestamp: String,
    /// `X-Parchment-Server-Signature`
    pub signature: String,
    /// The body.
    pub body: Vec<u8>,
    /// The address that it came from, for the log.
    pub client_ip: Option<String>,
}

/// How many requests a sending server may make. The one who names a server need not be that server, so a
/// request counts only once its signature has been verified; but from then on the limit is looked at before
/// anything dear is done.
pub trait SenderLimit {
    /// Whether another request of the server would be taken; if not, when it would.
    ///
    /// # Errors
    /// The time to wait.
    fn check(&self, server: &Domain) -> Result<(), Duration>;

    /// Counts a request that the server has signed.
    ///
    /// # Errors
    /// The time to wait: this one is over the limit.
    fn count(&self, server: &Domain) -> Result<(), Duration>;

    /// Notes that a request was the server's own, sent now: its nonce is remembered, so it is no replay.
    fn spoke(&self, server: &Domain);
}

/// No limit.
impl SenderLimit for () {
    fn check(&self, _: &Domain) -> Result<(), Duration> {
        Ok(())
    }

    fn count(&self, _: &Domain) -> Result<(), Duration> {
        Ok(())
    }

    fn spoke(&self, _: &Domain) {}
}

fn over_limit(looked_at: Result<(), Duration>) -> Result<(), Error> {
    looked_at.map_err(|retry_after| Error::TooManyEnvelopes { retry_after })
}

fn auth(reason: impl Into<String>) -> Error {
    Refusal::Auth(reason.into()).into()
}

/// Takes a request to the inbox: checks it, and has the recipient's actor carry it out.
///
/// # Errors
/// [`Error::Message`] with the reason that the peer is told; [`Error::Busy`] and the like when this node
/// cannot take it now.
pub async fn receive(
    node: &Arc<Node>,
    inbound: Inbound,
    limit: &impl SenderLimit,
) -> Result<(MessageType, Received), Error> {
    let mut refused = RefusedRequest::of(&inbound);
    let server = inbound.server_id.clone();
    let done = check_and_deliver(node, inbound, limit, &mut refused.account_id).await;
    if let Err(error) = &done {
        let reason = measure::refusal(error);
        tracing::debug!(peer = %server, reason, %error, "envelope refused");
    }
    measure::inbox(done.as_ref().map(|_| ()));
    if let Err(Error::Message(refusal)) = &done {
        refused.log(refusal);
    }
    done
}

/// What the log says of a request that is refused.
struct RefusedRequest {
    client_ip: Option<String>,
    /// The server that it names, which need not have sent it.
    peer: Option<Domain>,
    /// The recipient, if it came that far.
    account_id: Option<UserId>,
}

impl RefusedRequest {
    fn of(inbound: &Inbound) -> Self {
        let peer = Domain::parse(&inbound.server_id).ok();
        Self { client_ip: inbound.client_ip.clone(), peer, account_id: None }
    }

    fn log(self, refusal: &Refusal) {
        let Self { client_ip, peer, account_id } = self;
        let (peer, account_id) = (peer.map(|peer| peer.folded()), account_id.as_ref().map(UserId::as_str));
        // It may quote the request.
        let reason: String = refusal.to_string().chars().take(LONGEST_REASON).collect();
        if matches!(refusal, Refusal::TooManyInvitations | Refusal::InvitationExists) {
            tracing::info!(client_ip, account_id, peer, reason, "invitation refused");
        } else {
            tracing::info!(client_ip, account_id, peer, reason, "message refused");
        }
    }
}

/// Checks a request and carries its message out. Notes the recipient as soon as it is known.
async fn check_and_deliver(
    node: &Arc<Node>,
    inbound: Inbound,
    limit: &impl SenderLimit,
    account: &mut Option<UserId>,
) -> Result<(MessageType, Received), Error> {
    let now = node.clock.now();
    let body = Json::parse(&inbound.body).map_err(|error| Refusal::NotJson(error.to_string()))?;
    let (server, nonce) = authenticate(node, &inbound, &body, limit, now).await?;
    let until = now.plus_millis(NONCE_MILLIS);
    let nonce = TransportNonce { sender: server.folded(), nonce: nonce.into_text(), until };
    let (message_type, received) = match check(node, &body, &server, &nonce, now).await {
        Ok(Checked::For(recipient, receive)) => {
            *account = Some(recipient.clone());
            (receive.message_type, node.ask(&recipient, *receive).await?)
        }
        Ok(Checked::ForNobody(message_type)) => {
            remember_nonce(node, nonce, now).await?;
            (message_type, Received::default())
        }
        Err(refused) => {
            remember_nonce(node, nonce, now).await?;
            limit.spoke(&server);
            return Err(refused);
        }
    };
    limit.spoke(&server);
    tracing::info!(peer = %server.folded(), %message_type, applied = received.applied, "took an envelope");
    Ok((message_type, received))
}

/// A message that may be carried out.
enum Checked {
    For(UserId, Box<Receive>),
    /// A revocation for somebody who is not here: nobody has to be told, so there is nothing left to end.
    ForNobody(MessageType),
}

/// Checks the message itself.
async fn check(
    node: &Arc<Node>,
    body: &Json,
    server: &Domain,
    nonce: &TransportNonce,
    now: UnixMillis,
) -> Result<Checked, Error> {
    let message = ReceivedMessage::from_body(body).map_err(|error| Refusal::Shape(error.to_string()))?;
    message.check_structure().map_err(Refusal::from)?;
    let (from, to) = (message.sender().map_err(Refusal::from)?, message.recipient().map_err(Refusal::from)?);
    if !node.context.is_local(&to) {
        return Err(Refusal::RecipientElsewhere.into());
    }
    if from.domain().folded() != server.folded() {
        return Err(Refusal::ForeignSender.into());
    }
    let timestamp = message.timestamp().map_err(Refusal::from)?;
    if !in_time(&message, timestamp.instant(), now) {
        return Err(Refusal::Skew.into());
    }
    let (message_type, sender) = verified(node, &message, &from).await?;
    match node.user_by_alias(to.alias()).await? {
        Some(recipient) => {
            let source = Source::Request(nonce.clone());
            let receive = as_command(&message, message_type, sender, to, timestamp.instant(), source)?;
            Ok(Checked::For(recipient.id.clone(), Box::new(receive)))
        }
        None if message_type == MessageType::RelationshipRevoke => Ok(Checked::ForNobody(message_type)),
        None => Err(Refusal::RecipientNotFound.into()),
    }
}

fn as_command(
    message: &ReceivedMessage,
    message_type: MessageType,
    sender: RemoteUser,
    to: Handle,
    signed_at: UnixMillis,
    source: Source,
) -> Result<Receive, Refusal> {
    // In the one spelling of its bytes: in another it is no other signature, and no other envelope.
    let signature = Signature::parse(message.signature())
        .map_or_else(|_| message.signature().to_owned(), |signature| signature.to_base64());
    let (nonce, payload) = (message.replay_key()?, message.payload().clone());
    Ok(Receive { message_type, sender, to, nonce, signed_at, payload, signature, source })
}

/// Proves that the request was sent by the server it names, and now. Gives the server and its
/// nonce.
async fn authenticate(
    node: &Arc<Node>,
    inbound: &Inbound,
    body: &Json,
    limit: &impl SenderLimit,
    now: UnixMillis,
) -> Result<(Domain, Nonce), Error> {
    let Inbound { server_id, protocol_version, nonce, timestamp, signature, .. } = inbound;
    if [server_id, protocol_version, nonce, timestamp, signature].into_iter().any(String::is_empty) {
        return Err(auth("Missing federation headers"));
    }
    if *protocol_version != PROTOCOL_VERSION.to_string() {
        return Err(auth("Unsupported protocol version"));
    }
    let server = Domain::parse(server_id).map_err(|_| auth("Malformed server id"))?;
    if server.folded() == node.domain.folded() {
        return Err(auth("This server does not send to itself"));
    }
    let remembered = Nonce::parse(nonce).map_err(|_| auth("Malformed nonce"))?;
    let fresh = Timestamp::parse(timestamp).is_ok_and(|at| is_fresh(at.instant(), now));
    if !fresh {
        return Err(auth("Timestamp outside acceptable skew"));
    }
    over_limit(limit.check(&server))?;
    let manifest = match node.peers.introduce(&server).await {
        Ok(manifest) => manifest,
        Err(error) => return Err(unknown_server(node, &server, &error).await),
    };
    let signature =
        Signature::parse(signature).map_err(|_| auth(format!("Malformed server signature from {server}")))?;
    let request = ServerRequest {
        method: "POST",
        path: INBOX_PATH,
        body_hash: &body.sha256_base64(),
        nonce,
        timestamp,
        peer_server_id: node.domain.as_str(),
        sender_server_id: server_id,
        protocol_version: PROTOCOL_VERSION,
    };
    // Right here: it takes about as long as handing it to another thread would.
    request
        .verify(&manifest.public_key, &signature)
        .map_err(|_| auth(format!("Invalid server signature from {server}")))?;
    over_limit(limit.count(&server))?;
    Ok((server, remembered))
}

/// Nothing is known of who asks yet, so the answer does not tell how our request to that server
/// went: that would be a way to probe networks that only this node can reach. The log has it. A
/// server that was met before is told when it is worth its while to come again.
async fn unknown_server(node: &Node, server: &Domain, error: &PeerError) -> Error {
    tracing::info!(%server, %error, "a sending server could not be identified");
    if let Some(ours) = error.ours() {
        return ours;
    }
    match error {
        PeerError::NotAdmitted(_) => auth(format!("This server does not federate with {server}")),
        PeerError::PinMismatch(_) => auth(format!("The key of {server} has changed")),
        other => {
            let met = node.federation.is_pinned(server).await.unwrap_or(false);
            let passing = other.passing().filter(|_| met);
            passing.unwrap_or_else(|| auth(format!("Could not fetch the manifest of {server}")))
        }
    }
}

/// Remembers the nonce of a request that changes nothing else.
async fn remember_nonce(node: &Arc<Node>, nonce: TransportNonce, now: UnixMillis) -> Result<(), Error> {
    let sender = nonce.sender.clone();
    let remembered: Result<bool, Error> =
        node.store.write(move |tx| async move { remember(tx, &nonce, now).await }.boxed()).await;
    if remembered? {
        node.context.wake_delivery_for([sender]);
    }
    Ok(())
}

/// Fresh, or a revocation that is late but within our window (wire protocol, section 5).
fn in_time(message: &ReceivedMessage, at: UnixMillis, now: UnixMillis) -> bool {
    let late_allowed = message.kind_text() == Some(MessageType::RelationshipRevoke.as_str());
    let age = now.since(at);
    is_fresh(at, now) || (late_allowed && (0..=REVOCATION_WINDOW_MILLIS).contains(&age))
}

/// Resolves the sender and verifies the message with their key of today. Kept keys get a second
/// chance: they are fetched anew once before a signature is called invalid.
async fn verified(
    node: &Arc<Node>,
    message: &ReceivedMessage,
    from: &Handle,
) -> Result<(MessageType, RemoteUser), Error> {
    let sender = resolve_sender(node, from, LookupFor::Message).await?;
    match message.verify(&sender.signing_key) {
        Ok(message_type) => return Ok((message_type, sender)),
        Err(MessageError::InvalidSignature) => {}
        Err(other) => return Err(Refusal::from(other).into()),
    }
    let sender = resolve_sender(node, from, LookupFor::MessageAgain).await?;
    let message_type = message.verify(&sender.signing_key).map_err(Refusal::from)?;
    Ok((message_type, sender))
}

async fn resolve_sender(node: &Arc<Node>, from: &Handle, why: LookupFor) -> Result<RemoteUser, Error> {
    let sender = node.peers.resolve_user(from, why).await.map_err(|error| {
        tracing::info!(%from, %error, "the sender of a message could not be resolved");
        error.passing().unwrap_or_else(|| Refusal::UnresolvedSender.into())
    })?;
    // Another spelling would be another sender to every list that compares handles exactly.
    if sender.handle == *from { Ok(sender) } else { Err(Refusal::UnresolvedSender.into()) }
}
