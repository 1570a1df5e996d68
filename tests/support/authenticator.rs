//! A software authenticator, and the browser in front of it: what a person with a passkey has. It follows
//! WebAuthn Level 2 (attestation `none`, ES256) and shares no code with the node.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use rand::RngExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// User present, user verified.
const PRESENT_AND_VERIFIED: u8 = 0x05;
/// The answer carries a new credential.
const NEW_CREDENTIAL: u8 = 0x40;

/// One passkey in a device. Tests may change what it says about itself.
pub struct Authenticator {
    /// The origin that the browser is at.
    pub origin: String,
    /// How often it has signed.
    pub counter: u32,
    /// Flags of its answers.
    pub flags: u8,
    /// Which make it says that it is of; zeros of none.
    pub aaguid: [u8; 16],
    credential_id: Vec<u8>,
    key: SigningKey,
    user_handle: Option<String>,
}

impl Authenticator {
    /// A device whose browser is at this origin, with no passkey yet.
    pub fn at(origin: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            counter: 0,
            flags: PRESENT_AND_VERIFIED,
            aaguid: [0; 16],
            credential_id: rand::rng().random::<[u8; 16]>().to_vec(),
            key: SigningKey::from_slice(&rand::rng().random::<[u8; 32]>()).unwrap(),
            user_handle: None,
        }
    }

    /// The passkey's id as clients write it.
    pub fn credential_id(&self) -> String {
        encode(&self.credential_id)
    }

    /// What `navigator.credentials.create()` answers, as JSON.
    pub fn create(&mut self, options: &Value) -> Value {
        self.user_handle = Some(options["user"]["id"].as_str().unwrap().to_owned());
        let point = self.key.verifying_key().to_sec1_point(false);
        let mut data = self.data(&options["rp"]["id"], NEW_CREDENTIAL);
        data.extend(self.aaguid);
        data.extend(u16::try_from(self.credential_id.len()).unwrap().to_be_bytes());
        data.extend(&self.credential_id);
        // COSE: EC2, ES256, P-256, x, y.
        data.extend([0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20]);
        data.extend(point.x().unwrap());
        data.extend([0x22, 0x58, 0x20]);
        data.extend(point.y().unwrap());
        // CBOR: {"fmt": "none", "attStmt": {}, "authData": data}.
        let mut attestation = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x58".to_vec();
        attestation.push(u8::try_from(data.len()).unwrap());
        attestation.extend(&data);
        json!({
            "id": self.credential_id(),
            "rawId": self.credential_id(),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": { "credProps": { "rk": true }, "prf": { "enabled": true } },
            "response": {
                "attestationObject": encode(&attestation),
                "clientDataJSON": encode(&self.client_data("webauthn.create", options)),
                "transports": ["internal", "hybrid"],
            },
        })
    }

    /// What `navigator.credentials.get()` answers, as JSON.
    pub fn get(&mut self, options: &Value) -> Value {
        self.counter += 1;
        let data = self.data(&options["rpId"], 0);
        let client_data = self.client_data("webauthn.get", options);
        let mut signed = data.clone();
        signed.extend(Sha256::digest(&client_data));
        let signature: DerSignature = self.key.sign(&signed);
        json!({
            "id": self.credential_id(),
            "rawId": self.credential_id(),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": { "prf": { "results": { "first": "c2VjcmV0" } } },
            "response": {
                "authenticatorData": encode(&data),
                "clientDataJSON": encode(&client_data),
                "signature": encode(signature.as_bytes()),
                "userHandle": self.user_handle,
            },
        })
    }

    fn data(&self, rp_id: &Value, more_flags: u8) -> Vec<u8> {
        let mut data = Sha256::digest(rp_id.as_str().unwrap()).to_vec();
        data.push(self.flags | more_flags);
        data.extend(self.counter.to_be_bytes());
        data
    }

    fn client_data(&self, kind: &str, options: &Value) -> Vec<u8> {
        let data = json!({
            "type": kind, "challenge": options["challenge"], "origin": self.origin, "crossOrigin": false,
        });
        data.to_string().into_bytes()
    }
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
