//! What texts from outside may be: characters, nonces, base64, the number of values.

use vellum_protocol::json::{MOST_VALUES, has_too_many_values};
use vellum_protocol::text::{has_control_characters, without_control_characters};
use vellum_protocol::{
    Alias, Domain, Handle, Json, JsonError, MessageError, Nonce, ReceivedMessage, UserDocument, base64,
};

#[test]
fn control_characters_are_those_of_c0_and_c1() {
    let refused = |range: std::ops::RangeInclusive<char>| {
        assert!(range.clone().all(|c| has_control_characters(&format!("a{c}b"))), "{range:?}");
    };
    refused('\0'..='\u{1f}');
    refused('\u{7f}'..='\u{9f}');
    for taken in [' ', '~', '\u{a0}', '\u{ad}', '\u{200d}', '\u{200f}', 'é', '\u{feff}', '🦀', '\u{e000}']
    {
        assert!(!has_control_characters(&taken.to_string()), "{taken:?}");
    }
}

#[test]
fn names_lose_their_control_characters_and_lines_become_one() {
    for (text, kept) in [
        ("Ann", "Ann"),
        ("A\0n\u{85}n\u{202e}", "Ann"),
        ("\u{202a}\u{202b}\u{202c}\u{202d}A\u{2066}n\u{2067}\u{2068}n\u{2069}", "Ann"),
        ("\nAnn\r\nB.\t", "Ann  B."),
        ("\0 \u{1b}", ""),
        ("👩\u{200d}🚀", "👩\u{200d}🚀"),
    ] {
        assert_eq!(without_control_characters(text), kept, "{text:?}");
    }
}

#[test]
fn a_nonce_is_base64_of_8_to_64_bytes_and_has_one_spelling() {
    for length in 0..80 {
        let text = base64::encode(&vec![0xa5; length]);
        let nonce = Nonce::parse(&text).map(Nonce::into_text);
        assert_eq!(nonce.ok(), (8..=64).contains(&length).then_some(text), "{length} bytes");
    }
    let one = Nonce::parse("nLAovUnvUjjtfmooEX72qg==").unwrap();
    for other in ["nLAovUnvUjjtfmooEX72qg", " nLAo vUnvUjjtfmooEX72qg==\n", "nLAovUnvUjjtfmooEX72qh"] {
        assert_eq!(Nonce::parse(other), Ok(one.clone()), "{other:?}");
    }
    let padded = format!("{}nLAovUnvUjjtfmooEX72qg==", " ".repeat(177));
    for none in ["", "nLAo", "nLAovUnvUjjtfmooEX72qg=", "nLAovUnv-jjtfmooEX72qg==", "\0", padded.as_str()] {
        assert!(Nonce::parse(none).is_err(), "{none:?}");
    }
}

#[test]
fn base64_has_one_form_and_other_texts_are_left_alone() {
    for (text, canonical) in [
        ("", ""),
        (" \n", ""),
        (" ", " "),
        ("AgE=", "AgE="),
        ("AgE", "AgE"),
        ("Ag\nE", "AgE="),
        ("AgEA AgE= ", "AgEAAgE="),
        ("A g\tE\r\n=\x0c", "AgE="),
        ("AgEA\nAgEA", "AgEAAgEA"),
        // Words, and what no encoder has written.
        ("sealed by 118", "sealed by 118"),
        ("sealed by 1008", "sealed by 1008"),
        ("not sealed", "not sealed"),
        ("new", "new"),
        ("sealed anew!", "sealed anew!"),
        ("Ag\n\0E=", "Ag\n\0E="),
        ("A", "A"),
        ("AgE=\u{b}", "AgE=\u{b}"),
        ("AgE-", "AgE-"),
    ] {
        assert_eq!(base64::canonical(text.to_owned()), canonical, "{text:?}");
    }
}

#[test]
fn values_are_counted_without_building_them() {
    let list = |member: &str, count: usize| format!("[{}]", vec![member; count].join(","));
    for (document, values) in [
        (list("0", MOST_VALUES - 1), MOST_VALUES),
        (list("0", MOST_VALUES), MOST_VALUES + 1),
        (list("[0]", MOST_VALUES / 2), MOST_VALUES + 1),
        (list("{\"a\":0}", MOST_VALUES / 2), MOST_VALUES + 1),
        (list("[ ]", MOST_VALUES - 1), MOST_VALUES),
        (list("{}", MOST_VALUES), MOST_VALUES + 1),
        (list("\"[,{\\\\\\\",\"", MOST_VALUES - 1), MOST_VALUES),
        (list("\"\\\\\"", MOST_VALUES), MOST_VALUES + 1),
        ("0".into(), 1),
    ] {
        let begin: String = document.chars().take(30).collect();
        assert_eq!(has_too_many_values(document.as_bytes()), values > MOST_VALUES, "{begin}");
        let read = Json::parse(document.as_bytes());
        match read {
            Ok(_) => assert!(values <= MOST_VALUES, "{begin} is read"),
            Err(JsonError::Refused { what, .. }) => {
                assert!(values > MOST_VALUES && what.contains("100,000"), "{begin}: {what}");
            }
            Err(other) => panic!("{begin}: {other}"),
        }
    }
}

#[test]
fn a_message_of_version_1_is_told_from_others_by_its_signature_whatever_nonce_it_brings() {
    let secret = vellum_protocol::SigningSecret::from_seed([7; 32]);
    let signature = secret.sign(b"anything").to_base64();
    let message = |extra: serde_json::Value| {
        let mut members = serde_json::json!({
            "from": "bob@b.example", "to": "ann@a.example", "timestamp": "2026-11-23T10:00:00.000Z",
            "signature": signature, "type": "FRIEND_INVITE",
        });
        members.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        ReceivedMessage::from_body(&Json::try_from(members).unwrap()).unwrap().replay_key()
    };
    let plain = message(serde_json::json!({})).unwrap();
    assert_eq!(message(serde_json::json!({ "nonce": "nLAovUnvUjjtfmooEX72qg==" })).unwrap(), plain);
    let of_two = |nonce: &str| message(serde_json::json!({ "protocol_version": 2, "nonce": nonce }));
    assert_eq!(of_two("nLAovUnvUjjtfmooEX72qg").unwrap(), "nLAovUnvUjjtfmooEX72qg==");
    assert!(matches!(of_two("nLAo"), Err(MessageError::MalformedNonce(_))));
    assert_eq!(of_two(""), Err(MessageError::MissingV2));
}

#[test]
fn a_user_document_with_an_unusable_name_or_picture_is_usable_without_them() {
    let secret = vellum_protocol::SigningSecret::from_seed([7; 32]);
    let handle = Handle::new(Alias::parse("bob").unwrap(), Domain::parse("b.example").unwrap());
    let read = |name: &str, picture: &str| {
        let document = serde_json::json!({
            "handle": handle, "signingKey": secret.public(), "inbox": "https://b.example/federation/inbox",
            "name": name, "picture": picture,
        });
        let document = UserDocument::parse(&Json::try_from(document).unwrap()).unwrap();
        (document.name, document.picture)
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(read("Bob", "https://p.example/b.png"), (some("Bob"), some("https://p.example/b.png")));
    assert_eq!(read("Bob", "HTTPS://p.example/é"), (some("Bob"), some("HTTPS://p.example/é")));
    for picture in ["", "http://p.example/", "https:/p", "ééé", "https://p.example/a b", "//p.example/"] {
        assert_eq!(read("B\0ob", picture), (some("Bob"), None), "{picture:?}");
    }
}
