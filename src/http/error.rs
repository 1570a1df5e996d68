//! The one place where a refusal becomes an HTTP answer: `application/problem+json` (RFC 9457), with
//! `message` and `error` for existing clients and `code` for programs.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde_json::{Map, Value, json};
use vellum_actors::Error;
use vellum_actors::inbox::Refusal;
use vellum_store::StoreError;

/// Of a body with thousands of wrong fields these are named.
const MOST_FIELD_ERRORS: usize = 100;

/// One wrong field of a body, a path or a query.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldError {
    /// The field, with indices for members of arrays: `items[3].nonce`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// An answer that says no. Boxed, since every handler's result has room for one.
#[derive(Debug, Clone)]
pub struct Problem(Box<Contents>);

#[derive(Debug, Clone)]
struct Contents {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    retry_after: Option<u64>,
    allow: Option<String>,
    extra: Map<String, Value>,
}

impl Problem {
    /// A problem with a stable code and a sentence for people.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Contents {
            status,
            code,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
            allow: None,
            extra: Map::new(),
        }))
    }

    /// 422: these fields are missing or of a wrong type.
    pub fn validation(mut errors: Vec<FieldError>) -> Self {
        errors.truncate(MOST_FIELD_ERRORS);
        let mut fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        fields.dedup();
        let detail = format!("The request is not valid: {}.", fields.join(", "));
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", detail);
        problem.0.errors = errors;
        problem
    }

    /// 401: no valid session.
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "You are not signed in, or your session has ended.",
        )
    }

    /// 403: the session may not do this.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 404: there is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// 405: the path exists, the method does not.
    pub fn method_not_allowed(allow: String) -> Self {
        let detail = format!("This path takes {allow}.");
        let mut problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
        problem.0.allow = Some(allow);
        problem
    }

    /// 429: too many requests; come back after `seconds`.
    pub fn too_many(seconds: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "Too many requests. Wait a while.")
            .after(seconds)
    }

    /// 413: more JSON values than are read.
    pub fn too_many_values(most: usize) -> Self {
        let detail = format!("The body must have at most {most} JSON values.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_values", detail)
    }

    /// 503: not now; come back after `seconds`.
    pub fn unavailable(seconds: u64, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).after(seconds)
    }

    /// 500: nothing that the client could do better.
    pub fn internal() -> Self {
        let detail = "Something went wrong inside the node. It was logged.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    fn after(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// Adds a member for programs.
    fn with(mut self, name: &str, value: Value) -> Self {
        self.0.extra.insert(name.to_owned(), value);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.0.status.as_u16(), self.0.code, self.0.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.0.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut body = Map::new();
        body.insert("type".into(), json!("about:blank"));
        body.insert("title".into(), json!(self.0.status.canonical_reason().unwrap_or("Too Early")));
        body.insert("status".into(), json!(self.0.status.as_u16()));
        body.insert("detail".into(), json!(self.0.detail));
        body.insert("message".into(), json!(self.0.detail));
        body.insert("code".into(), json!(self.0.code));
        if !self.0.errors.is_empty() {
            body.insert("errors".into(), json!(self.0.errors));
        }
        // Clients of collections read this where others read `message`.
        body.insert("error".into(), json!(self.0.detail));
        body.extend(self.0.extra.clone());
        let mut answer = HttpResponse::build(self.0.status);
        answer.insert_header((header::CACHE_CONTROL, "no-store"));
        if let Some(seconds) = self.0.retry_after {
            answer.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        if let Some(allow) = self.0.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
            answer.insert_header((header::ALLOW, allow));
        }
        answer.content_type("application/problem+json").body(Value::Object(body).to_string())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (status, code) = match &error {
            Error::Store(error) => return store_problem(error),
            Error::Message(refusal) => return refusal_problem(refusal),
            Error::Busy { retry_after } => {
                return Self::unavailable(
                    retry_after.as_secs().max(1),
                    "Too many requests wait for this user.",
                );
            }
            Error::TooManyEnvelopes { retry_after } => return Self::too_many(retry_after.as_secs() + 1),
            Error::LookupLimited { retry_after } => {
                return Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", error.to_string())
                    .after(retry_after.as_secs() + 1);
            }
            Error::TooManyLookups { retry_after } | Error::SenderUnavailable { retry_after } => {
                return Self::unavailable(retry_after.as_secs().max(1), error.to_string());
            }
            Error::TooManyUnknownPeers => {
                return Self::unavailable(10, "Too many unknown servers introduce themselves at once.");
            }
            Error::TooManyEmails => return Self::unavailable(10, "Too many emails wait to be sent."),
            Error::Stopping => return Self::unavailable(5, "The node is stopping."),
            Error::Internal => return Self::internal(),
            Error::RotationConflict { current } => {
                return Self::new(StatusCode::CONFLICT, "rotation_conflict", error.to_string())
                    .with("currentKmVersion", json!(current.get()));
            }
            Error::ServerRolledBack { current } => {
                return Self::new(StatusCode::CONFLICT, "server_rolled_back", error.to_string())
                    .with("currentKmVersion", json!(current.get()));
            }
            Error::IncompleteRotation(missing) => {
                let missing = json!({
                    "blobs": missing.blobs, "collections": missing.collections, "slots": missing.slots,
                });
                return Self::new(StatusCode::CONFLICT, "incomplete_rotation", error.to_string())
                    .with("missing", missing);
            }
            Error::FutureKmVersion { current } => {
                return Self::new(StatusCode::BAD_REQUEST, "invalid_km_version", error.to_string())
                    .with("currentKmVersion", json!(current.get()));
            }
            Error::StaleKmVersion { current } => {
                return Self::new(StatusCode::CONFLICT, "stale_km_version", error.to_string())
                    .with("currentKmVersion", json!(current.get()));
            }
            Error::QuotaExceeded { quota, used, limit } => {
                return Self::new(StatusCode::PAYLOAD_TOO_LARGE, "quota_exceeded", error.to_string())
                    .with("quota", json!(quota))
                    .with("used", json!(used))
                    .with("limit", json!(limit));
            }
            Error::BlobChanged => (StatusCode::PRECONDITION_FAILED, "blob_changed"),
            Error::CollectionNotFound => (StatusCode::NOT_FOUND, "collection_not_found"),
            Error::NotAFriend => (StatusCode::BAD_REQUEST, "not_a_friend"),
            Error::ShareNotFound => (StatusCode::NOT_FOUND, "share_not_found"),
            Error::PayloadRequired => (StatusCode::BAD_REQUEST, "payload_required"),
            Error::ShareRefused => (StatusCode::BAD_REQUEST, "share_refused"),
            Error::UnknownRole => (StatusCode::BAD_REQUEST, "unknown_role"),
            Error::RoleAboveOwn => (StatusCode::FORBIDDEN, "forbidden"),
            Error::UnknownCredential => (StatusCode::BAD_REQUEST, "unknown_credential"),
            Error::PasskeysUnavailable => (StatusCode::BAD_REQUEST, "passkeys_unavailable"),
            Error::PasskeyRefused => (StatusCode::UNAUTHORIZED, "passkey_refused"),
            Error::RegistrationRefused => (StatusCode::BAD_REQUEST, "registration_refused"),
            Error::PasskeyExists => (StatusCode::CONFLICT, "passkey_exists"),
            Error::TooManyPasskeys => (StatusCode::CONFLICT, "too_many_passkeys"),
            Error::PasskeyNotFound => (StatusCode::NOT_FOUND, "passkey_not_found"),
            Error::TransferNotFound => (StatusCode::NOT_FOUND, "transfer_not_found"),
            Error::TransferOfAnother => (StatusCode::FORBIDDEN, "forbidden"),
            Error::TransferOver => (StatusCode::GONE, "transfer_over"),
            Error::TransferFilled => (StatusCode::CONFLICT, "transfer_filled"),
            // 425, Too Early: what existing clients wait on.
            Error::TransferEmpty => (too_early(), "transfer_empty"),
            Error::TooManyTransfers { retry_after } => {
                return Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", error.to_string())
                    .after(retry_after.as_secs().max(1));
            }
            Error::DeviceNotFound => (StatusCode::NOT_FOUND, "device_not_found"),
            Error::TooManyDevices => (StatusCode::CONFLICT, "too_many_devices"),
            Error::InvalidAlias => (StatusCode::BAD_REQUEST, "invalid_alias"),
            Error::AliasTaken => (StatusCode::CONFLICT, "alias_taken"),
            Error::AliasInUse => (StatusCode::CONFLICT, "alias_in_use"),
            Error::InvalidKey { .. } | Error::EqualKeys => (StatusCode::BAD_REQUEST, "invalid_key"),
            Error::RotationRequired => (StatusCode::CONFLICT, "rotation_required"),
            Error::IdentityIncomplete => (StatusCode::BAD_REQUEST, "identity_incomplete"),
            Error::NotPending => (StatusCode::NOT_FOUND, "not_pending"),
            Error::InvalidHandle(_) | Error::HandleSpelling(_) => (StatusCode::BAD_REQUEST, "invalid_handle"),
            Error::OwnHandle => (StatusCode::BAD_REQUEST, "self"),
            Error::AlreadyFriends => (StatusCode::BAD_REQUEST, "already_friends"),
            Error::AlreadyInvited => (StatusCode::BAD_REQUEST, "already_invited"),
            Error::TooManyInvitations => (StatusCode::BAD_REQUEST, "too_many_invitations"),
            Error::KeyChanged => (StatusCode::CONFLICT, "key_changed"),
            Error::FriendNotFound => (StatusCode::NOT_FOUND, "friend_not_found"),
            Error::UserNotFound => (StatusCode::BAD_REQUEST, "user_not_found"),
            Error::PeerUnreachable(_) => (StatusCode::BAD_GATEWAY, "peer_unreachable"),
            Error::PeerNotAdmitted(_) => (StatusCode::FORBIDDEN, "peer_not_admitted"),
            Error::UnknownPeer(_) => (StatusCode::NOT_FOUND, "unknown_peer"),
            Error::KeyNotOffered => (StatusCode::CONFLICT, "key_not_offered"),
            Error::NotQueued => (StatusCode::NOT_FOUND, "not_queued"),
            Error::EnvelopeRequired => (StatusCode::BAD_REQUEST, "envelope_required"),
            Error::BadSignature => (StatusCode::BAD_REQUEST, "bad_signature"),
            Error::StaleTimestamp => (StatusCode::BAD_REQUEST, "stale_timestamp"),
            Error::InvalidNonce => (StatusCode::BAD_REQUEST, "invalid_nonce"),
            Error::InvitationNotFound => (StatusCode::BAD_REQUEST, "invitation_not_found"),
            Error::FriendshipNotFound => (StatusCode::BAD_REQUEST, "friendship_not_found"),
            Error::SessionNotFound => (StatusCode::NOT_FOUND, "session_not_found"),
            Error::WrongCode => (StatusCode::UNAUTHORIZED, "wrong_code"),
            Error::EmailTaken => (StatusCode::CONFLICT, "email_taken"),
            Error::NoSuchUser | Error::SessionEnded => return Self::unauthorized(),
        };
        Self::new(status, code, error.to_string())
    }
}

impl Problem {
    /// 503: the node is not ready, for whatever reason. What the database says stays in the log.
    pub fn not_ready(error: &StoreError) -> Self {
        match error {
            StoreError::Denied(_) => {
                Self::unavailable(10, "The node lacks a right in its database. Its log says which.")
            }
            other => match store_problem(other) {
                problem if problem.0.status == StatusCode::SERVICE_UNAVAILABLE => problem,
                _ => Self::unavailable(10, "The database fails. The node's log says why."),
            },
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        store_problem(&error)
    }
}

/// 425, which this version of the HTTP types has no name for.
fn too_early() -> StatusCode {
    StatusCode::from_u16(425).unwrap_or(StatusCode::NOT_FOUND)
}

fn store_problem(error: &StoreError) -> Problem {
    match error {
        StoreError::Busy | StoreError::Closed | StoreError::Conflict => {
            Problem::unavailable(1, "The database is busy.")
        }
        // The store logs these once, and not for each request.
        StoreError::Unreachable(reason) => {
            tracing::debug!(reason, "the database cannot be reached");
            Problem::unavailable(2, "The database cannot be reached.")
        }
        StoreError::NotWritable { fault, reason } => {
            tracing::debug!(reason, "the database cannot be written");
            let detail = format!("Nothing can be stored now, since {fault}.");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "storage_unavailable", detail).after(10)
        }
        StoreError::InvalidText(_) => {
            let detail = "The request has a text that cannot be stored.";
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", detail)
        }
        other => {
            tracing::error!(error = %other, "a request failed in the database");
            Problem::internal()
        }
    }
}

/// Statuses of the inbox (wire protocol, section 5).
fn refusal_problem(refusal: &Refusal) -> Problem {
    let text = refusal.to_string();
    match refusal {
        Refusal::NotJson(_) => Problem::new(StatusCode::BAD_REQUEST, "not_json", text),
        Refusal::Shape(_) => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", text),
        Refusal::Auth(_) => Problem::new(StatusCode::UNAUTHORIZED, "federation_auth_failed", text)
            .with("supported_protocol_versions", json!([2])),
        _ => Problem::new(StatusCode::BAD_REQUEST, "message_refused", text),
    }
}
