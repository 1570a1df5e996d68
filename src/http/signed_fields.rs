//! The parts of an envelope that a client sends along: `signature`, `nonce`, `timestamp`,
//! `messageVersion` (wire protocol, section 7).

use vellum_actors::user::SignedFields;

use super::error::Problem;
use super::fields::Fields;

/// Reads fields that must be there.
pub fn required(fields: &mut Fields) -> SignedFields {
    let signature = fields.base64("signature");
    let nonce = fields.text("nonce");
    let timestamp = fields.text("timestamp");
    SignedFields { signature, nonce, timestamp, message_version: message_version(fields) }
}

/// Reads fields that existing clients leave out or send only in part: they sign version 1 with a time
/// that they do not transmit, so a signature alone is of no use and counts as none.
pub fn optional(fields: &mut Fields) -> Option<SignedFields> {
    let signature = fields.optional_base64("signature");
    let nonce = fields.optional_text("nonce");
    let timestamp = fields.optional_text("timestamp");
    let message_version = message_version(fields);
    match (signature, nonce, timestamp) {
        (Some(signature), Some(nonce), Some(timestamp)) => {
            Some(SignedFields { signature, nonce, timestamp, message_version })
        }
        _ => None,
    }
}

/// Reads a body that has nothing but these fields, if it is there at all.
///
/// # Errors
/// 422 for a body that is no object or has fields of wrong types.
pub fn of_optional_body(body: &[u8]) -> Result<Option<SignedFields>, Problem> {
    let mut fields = Fields::of_optional_body(body)?;
    let signed = optional(&mut fields);
    fields.finish()?;
    Ok(signed)
}

fn message_version(fields: &mut Fields) -> u32 {
    let Some(number) = fields.optional_integer("messageVersion") else {
        return 1;
    };
    u32::try_from(number).unwrap_or_else(|_| {
        fields.wrong("messageVersion", "must be an integer from 0 to 4294967295");
        1
    })
}
