//! Names for passkeys whose owners give them none: of the password manager or system that made one,
//! where it says so, else of the kind of authenticator.

use serde::Deserialize;
use serde_cbor_2::Value;
use uuid::Uuid;

/// The AAGUIDs of common authenticators, which each of them publishes. An authenticator may leave
/// it out.
const MAKERS: [(&str, &str); 16] = [
    ("fbfc3007-154e-4ecc-8c0b-6e020557d7bd", "iCloud Keychain"),
    ("dd4ec289-e01d-41c9-bb89-70fa845d4bf2", "iCloud Keychain"),
    ("ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4", "Google Password Manager"),
    ("adce0002-35bc-c60a-648b-0b25f1f05503", "Chrome on Mac"),
    ("08987058-cadc-4b81-b6e1-30de50dcbe96", "Windows Hello"),
    ("9ddd1817-af5a-4672-a2b9-3e3dd95000a9", "Windows Hello"),
    ("6028b017-b1d4-4c02-b4b3-afcdafc96bb2", "Windows Hello"),
    ("53414d53-554e-4700-0000-000000000000", "Samsung Pass"),
    ("bada5566-a7aa-401f-bd96-45619a55120d", "1Password"),
    ("d548826e-79b4-db40-a3d8-11116f7e8349", "Bitwarden"),
    ("531126d6-e717-415c-9320-3d9aa6981239", "Dashlane"),
    ("0ea242b4-43c4-4a1b-8b17-dd6d0b6baec6", "Keeper"),
    ("b84e4048-15dc-4dd0-8640-f4f60813c8af", "NordPass"),
    ("f3809540-7f14-49c1-a8b3-8f813b225541", "Enpass"),
    ("fdb141b2-5d84-443e-8a35-4698c205a502", "KeePassXC"),
    ("50726f74-6f6e-5061-7373-50726f746f6e", "Proton Pass"),
];
/// Where the AAGUID is in what an authenticator says of a new credential (WebAuthn, section 6.1):
/// behind the hash of the site, the flags and the counter.
const AAGUID: std::ops::Range<usize> = 37..53;

#[derive(Deserialize)]
struct Attestation {
    #[serde(rename = "authData")]
    auth_data: Value,
}

/// A name for a new passkey that is not among the `taken` ones.
pub(super) fn derive(attestation_object: &[u8], transports: &[String], taken: &[&str]) -> String {
    let name = maker(attestation_object).unwrap_or_else(|| kind(transports));
    let mut numbered = name.to_owned();
    let mut number = 1;
    while taken.contains(&numbered.as_str()) {
        number += 1;
        numbered = format!("{name} {number}");
    }
    numbered
}

fn maker(attestation_object: &[u8]) -> Option<&'static str> {
    let attestation: Attestation = serde_cbor_2::from_slice(attestation_object).ok()?;
    let Value::Bytes(auth_data) = attestation.auth_data else { return None };
    let aaguid = Uuid::from_slice(auth_data.get(AAGUID)?).ok()?.to_string();
    MAKERS.iter().find(|(known, _)| *known == aaguid).map(|(_, name)| *name)
}

/// By the ways in which the browser reaches it.
fn kind(transports: &[String]) -> &'static str {
    let has = |wanted: &[&str]| transports.iter().any(|transport| wanted.contains(&transport.as_str()));
    if has(&["internal"]) {
        "Built-in passkey"
    } else if has(&["usb", "nfc", "ble", "smart-card"]) {
        "Security key"
    } else if has(&["hybrid"]) {
        "Phone"
    } else {
        "Passkey"
    }
}
