//! Rules that the protocol states in words or by example, one table each.

use serde_json::{Value, json};
use vellum_protocol::envelope::EnvelopeContent;
use vellum_protocol::keys::{InvalidSignature, Judgement, Signature, judge};
use vellum_protocol::received::{EnvelopeVersion, ShapeError};
use vellum_protocol::timestamp::is_fresh;
use vellum_protocol::{
    Domain, EncryptionKey, Handle, HandleError, Json, JsonError, JsonObject, KeyError, KmVersion, Manifest,
    MessageError, MessageType, ReceivedMessage, SigningKey, SigningSecret, Timestamp, UnixMillis,
    UserDocument, base64, legacy_signable,
};

fn secret() -> SigningSecret {
    SigningSecret::from_seed([6; 32])
}

fn json_of(value: Value) -> Json {
    Json::try_from(value).unwrap()
}

#[test]
fn base64_is_read_as_leniently_as_stated_and_no_more() {
    for (text, bytes) in [
        ("", &[][..]),
        ("AA", &[0]),
        ("AA==", &[0]),
        ("AB==", &[0]),
        ("AAA", &[0, 0]),
        ("AAA=", &[0, 0]),
        ("/+8=", &[0xff, 0xef]),
        (" A\tA\n=\x0c=\r", &[0]),
    ] {
        assert_eq!(base64::decode(text).as_deref(), Ok(bytes), "{text:?}");
    }
    for text in [
        "A", "AAAAA", "AA=", "A===", "AAAA=", "====", "=", "A=A=", "A-A_", "AA\x0b", "AA\u{a0}", "é",
        "AA==AA==",
    ] {
        assert_eq!(base64::decode(text), Err(base64::Malformed), "{text:?}");
    }
    assert!(base64::decode_exact::<32>("").is_err(), "the empty text is of a wrong length");
}

/// The table of section 3, in the words of the protocol: text in, canonical text out.
#[test]
fn every_trap_of_canonical_json_is_avoided() {
    for (text, canonical) in [
        (r#"{"b":1,"10":2,"9":3}"#, r#"{"9":3,"10":2,"b":1}"#),
        (r#"{"\u0031":1,"a":1}"#, r#"{"1":1,"a":1}"#),
        (r#"{"4294967295":0,"5":1,"-0":2,"01":3}"#, r#"{"5":1,"-0":2,"01":3,"4294967295":0}"#),
        (r#"{"\ue000":1,"\ud83d\ude00":2}"#, "{\"😀\":2,\"\u{e000}\":1}"),
        (r#"{"a ":1,"a":2,"":3}"#, r#"{"":3,"a":2,"a ":1}"#),
        (r#"{"\u00e9":1,"z":2}"#, r#"{"z":2,"é":1}"#),
        ("[1.0,1e2,10.0e1,-5E-1,-0,-0.0]", "[1,100,100,-0.5,0,0]"),
        ("[1e20,1e21,0.000001,1e-7,123e-20]", "[100000000000000000000,1e+21,0.000001,1e-7,1.23e-18]"),
        ("[0.30000000000000004,1.0000000000000001,4.9e-324]", "[0.30000000000000004,1,5e-324]"),
        ("2e-324", "0"),
        (r#""\u001F\/\u000A""#, r#""\u001f/\n""#),
        (r#""\u007f\u2028\u00e9""#, "\"\u{7f}\u{2028}é\""),
        (r#""\uD83D\uDE00""#, "\"😀\""),
        (r#"{"toJSON":1,"constructor":2}"#, r#"{"constructor":2,"toJSON":1}"#),
    ] {
        assert_eq!(Json::parse(text.as_bytes()).unwrap().canonical(), canonical, "{text}");
    }
    for text in [
        "9007199254740993",
        "12345678901234567890",
        "1e400",
        "1.7976931348623159e308",
        r#""\uD83D""#,
        r#""\uD83Dx""#,
        r#""\uDE00\uD83D""#,
        r#"{"a":1,"a":2}"#,
        r#"{"a":{"__proto__":{"x":1}}}"#,
    ] {
        let read = Json::parse(text.as_bytes());
        assert!(matches!(read, Err(JsonError::Refused { .. })), "{text}: {read:?}");
    }
}

#[test]
fn levels_are_counted_and_the_stack_is_safe() {
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    assert!(Json::parse(nested(32).as_bytes()).is_ok());
    assert!(matches!(Json::parse(nested(33).as_bytes()), Err(JsonError::Refused { .. })));
    assert!(Json::parse("[".repeat(1_000_000).as_bytes()).is_err());
    assert!(Json::parse(r#"{"a":"#.repeat(1_000_000).as_bytes()).is_err());
    for text in [&b"\"\xff\""[..], b"\xff", b"\"\xed\xa0\x80\"", b"{\"\xc0\":1}"] {
        assert!(matches!(Json::parse(text), Err(JsonError::NotJson { .. })), "not UTF-8");
    }
}

#[test]
fn control_characters_are_escaped_in_and_out() {
    for control in '\0'..' ' {
        let raw = format!("\"{control}\"");
        assert!(matches!(Json::parse(raw.as_bytes()), Err(JsonError::NotJson { .. })), "{raw:?}");
        let canonical = Json::String(control.to_string()).canonical();
        assert_eq!(Json::parse(canonical.as_bytes()), Ok(Json::String(control.to_string())), "{canonical}");
    }
}

#[test]
fn integers_stay_integers_for_those_who_serialize() {
    let json = Json::parse(b"{\"a\":[7.0,-0.0,1.5,1e21,-9007199254740991]}").unwrap();
    assert_eq!(serde_json::to_string(&json).unwrap(), r#"{"a":[7,0,1.5,1e+21,-9007199254740991]}"#);
    assert_eq!(Value::from(json), json!({"a": [7, 0, 1.5, 1e21, -9_007_199_254_740_991_i64]}));
}

#[test]
fn domains_tell_host_port_and_whether_they_are_this_machine() {
    let domain = |text: &str| Domain::parse(text).unwrap();
    assert_eq!(
        (domain("b.example:8443").host(), domain("b.example:8443").port()),
        ("b.example", Ok(Some(8443)))
    );
    assert_eq!(domain("b.example").port(), Ok(None));
    assert_eq!(domain("b.example:65535").port(), Ok(Some(65535)));
    assert_eq!(domain("b.example:65536").port(), Err(HandleError::Port));
    assert_eq!(domain("b.example:0").port(), Err(HandleError::Port));
    for one_server_under_another_name in ["b.example:0443", "b.example:08443", "b.example:0000080"] {
        let port = domain(one_server_under_another_name).port();
        assert_eq!(port, Err(HandleError::Port), "{one_server_under_another_name}");
    }
    assert_eq!(domain("b.example:99999999999999999999").port(), Err(HandleError::Port));
    for (text, loopback) in [
        ("LocalHost:5001", true),
        ("127.0.0.1:6000", true),
        ("localhost.example", false),
        ("127.0.0.2", false),
        ("2130706433", false),
    ] {
        assert_eq!(domain(text).is_loopback(), loopback, "{text}");
    }
}

#[test]
fn times_are_rfc_3339_with_a_zone_and_nothing_else() {
    const AT: i64 = 1_790_000_000_000;
    for (text, millis) in [
        ("2026-09-21T14:13:20.000Z", AT),
        ("2026-09-21T14:13:20Z", AT),
        ("2026-09-21T14:13:20.5Z", AT + 500),
        ("2026-09-21T14:13:20.12399999999999999999999999Z", AT + 123),
        ("2026-09-21T16:13:20.000+02:00", AT),
        ("2026-09-21T08:43:20-05:30", AT),
        ("1970-01-01T00:00:00Z", 0),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ("0000-01-01T00:00:00+23:59", -62_167_219_200_000 - 86_340_000),
    ] {
        let time = Timestamp::parse(text).unwrap();
        assert_eq!((time.instant(), time.as_str()), (UnixMillis(millis), text));
    }
    for text in [
        "",
        "2026-09-21",
        "2026-09-21T14:13:20",
        "2026-09-21 14:13:20Z",
        "2026-09-21t14:13:20Z",
        "2026-09-21-14:13:20Z",
        "2026-09-21Z14:13:20Z",
        "2026-09-21T14:13:20z",
        "2026-09-21T14:13Z",
        "2026-09-21T14:13:20.Z",
        "2026-09-21T14:13:20,5Z",
        "2026-09-21T14:13:60Z",
        "2016-12-31T23:59:60Z",
        "2026-02-30T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-09-21T24:00:00Z",
        "2026-09-21T14:13:20+0200",
        "2026-09-21T14:13:20.000Z ",
        " 2026-09-21T14:13:20.000Z",
        "2026-09-21T14:13:20.000Z\n",
        "+002026-09-21T14:13:20Z",
        "Mon, 21 Sep 2026 14:13:20 GMT",
        "1790000000000",
    ] {
        assert!(Timestamp::parse(text).is_err(), "{text:?}");
    }
    assert_eq!(Timestamp::at(UnixMillis(AT + 7)).as_str(), "2026-09-21T14:13:20.007Z");
    for (difference, fresh) in
        [(0, true), (300_000, true), (-300_000, true), (300_001, false), (-300_001, false)]
    {
        assert_eq!(is_fresh(UnixMillis(AT + difference), UnixMillis(AT)), fresh, "{difference}");
    }
}

#[test]
fn a_key_that_was_checked_before_verifies_as_strictly_as_any_other() {
    let stored = |bytes: &[u8; 32]| SigningKey::parse_checked(&base64::encode(bytes)).unwrap();
    let key = stored(secret().public().as_bytes());
    assert_eq!(key.verify(b"text", &secret().sign(b"text")), Ok(()));
    assert_eq!(key.verify(b"other", &secret().sign(b"text")), Err(InvalidSignature));
    // Under lenient rules this signature is good for every text, if the key is the identity.
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut good_for_all = [0; 64];
    good_for_all[..32].copy_from_slice(&identity);
    // The identity as 1 + p, too.
    let mut unreduced = [0xff; 32];
    (unreduced[0], unreduced[31]) = (0xee, 0x7f);
    for key in [identity, unreduced].map(|bytes| stored(&bytes)) {
        assert_eq!(key.verify(b"text", &Signature::from_bytes(good_for_all)), Err(InvalidSignature));
    }
    assert_eq!(SigningKey::parse_checked("AA=="), Err(KeyError::Malformed));
}

#[test]
fn weak_and_malformed_keys_are_told_apart_and_secrets_stay_unseen() {
    let filled = |first: u8, others: u8, last: u8| {
        let mut bytes = [others; 32];
        (bytes[0], bytes[31]) = (first, last);
        bytes
    };
    assert_eq!(SigningKey::parse("AA=="), Err(KeyError::Malformed));
    assert_eq!(SigningKey::parse("!"), Err(KeyError::Malformed));
    assert_eq!(SigningKey::from_bytes(&filled(1, 0, 0)), Err(KeyError::LowOrder), "the identity");
    assert_eq!(SigningKey::from_bytes(&filled(0xee, 0xff, 0x7f)), Err(KeyError::NotAPoint), "1 as p + 1");
    assert_eq!(SigningKey::from_bytes(&filled(2, 0, 0)), Err(KeyError::NotAPoint), "not on the curve");
    assert_eq!(EncryptionKey::parse("AA=="), Err(KeyError::Malformed));
    assert!(EncryptionKey::from_bytes(&filled(9, 0, 0)).is_ok(), "the base point");
    // The sign bit of an X25519 key is ignored, so zero has two spellings; p is zero once more.
    for zero in [filled(0, 0, 0), filled(0, 0, 0x80), filled(0xed, 0xff, 0x7f)] {
        assert_eq!(EncryptionKey::from_bytes(&zero), Err(KeyError::LowOrder));
    }
    let key = secret().public();
    let spaced = format!("\"{}\"", key.to_base64().trim_end_matches('='));
    assert_eq!(serde_json::from_str::<SigningKey>(&spaced).unwrap(), key);
    assert_eq!(serde_json::to_value(key).unwrap(), json!(key.to_base64()), "written in canonical form");
    let seed = SigningSecret::from_seed([0xab; 32]);
    assert_eq!(*seed.expose_seed(), [0xab; 32]);
    assert_eq!(format!("{seed:?}"), "SigningSecret(..)");
}

/// The owner of a key can make such a signature on purpose, and implementations disagree about it. This one
/// was computed from the equation, with R the identity and s = H(R, A, M) · a.
#[test]
fn a_signature_whose_nonce_is_of_small_order_is_refused_although_its_equation_holds() {
    let made = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAmeM3tFrysPavF6GdVgpPRLanVMYg906WIbwgAmzduAQ==";
    let key = secret().public().to_base64();
    assert_eq!(key, "iodf/x6zhFFXes1a/uQFRWVo3XyJ4JCGOgVXvHr0nxc=", "the key it was computed for");
    assert_eq!(judge(b"hello", made, &key), Judgement::Invalid);
}

#[test]
fn a_version_1_text_begins_with_its_type_or_with_index_keys() {
    let fields = json_of(json!({"type": "B", "10": 1, "9": 2, "01": 3, "a": {"type": "C"}}));
    let text = legacy_signable("A", fields.as_object().unwrap());
    assert_eq!(text, r#"{"9":2,"10":1,"type":"A","01":3,"a":{"type":"C"}}"#);
    assert_eq!(legacy_signable("A", &JsonObject::new()), r#"{"type":"A"}"#);
}

#[test]
fn versions_of_keys_begin_at_one() {
    assert_eq!((KmVersion::new(0), KmVersion::new(-1)), (None, None));
    assert_eq!(KmVersion::new(1), Some(KmVersion::FIRST));
    assert_eq!(KmVersion::FIRST.next().get(), 2);
    assert_eq!(serde_json::to_string(&KmVersion::FIRST).unwrap(), "1");
    assert!(serde_json::from_str::<KmVersion>("0").is_err());
}

fn message(kind: MessageType) -> JsonObject {
    let content = EnvelopeContent {
        message_type: kind,
        message_version: 1,
        from: Handle::parse("alice@a.example").unwrap(),
        to: Handle::parse("bob@b.example").unwrap(),
        nonce: "bm9uY2U=".to_owned(),
        timestamp: Timestamp::parse("2026-11-23T10:00:00.000Z").unwrap(),
        payload: JsonObject::new(),
    };
    content.sign(&secret()).to_json().as_object().unwrap().clone()
}

/// The message with one member changed; `None` takes it out.
fn with(mut message: JsonObject, member: &str, value: Option<Value>) -> JsonObject {
    match value {
        Some(value) => drop(message.insert(member, json_of(value))),
        None => drop(message.remove(member)),
    }
    message
}

fn receive(message: JsonObject) -> Result<ReceivedMessage, ShapeError> {
    ReceivedMessage::from_body(&Json::Object(message))
}

#[test]
fn a_body_of_the_wrong_shape_is_told_by_the_member() {
    let wrong = [
        ("from", None),
        ("to", Some(json!(1))),
        ("timestamp", Some(Value::Null)),
        ("signature", None),
        ("type", Some(json!(1))),
        ("message_type", Some(Value::Null)),
        ("nonce", Some(json!([]))),
        ("protocol_version", Some(json!("2"))),
        ("message_version", Some(Value::Null)),
        ("payload", Some(Value::Null)),
        ("payload", Some(json!([]))),
    ];
    for (member, value) in wrong {
        let error = receive(with(message(MessageType::FriendInvite), member, value.clone())).unwrap_err();
        assert_eq!(error.member, member, "{value:?}");
    }
    for body in [json!([]), json!("a"), Value::Null] {
        assert_eq!(ReceivedMessage::from_body(&json_of(body)).unwrap_err().member, "body");
    }
    let stranger = with(message(MessageType::FriendInvite), "role", Some(json!("editor")));
    let received = receive(stranger).unwrap();
    assert_eq!(received.verify(&secret().public()), Ok(MessageType::FriendInvite), "it is not signed");
    assert!(received.payload().is_empty(), "and not looked at");
}

#[test]
fn a_structure_needs_a_type_a_signature_and_two_handles() {
    let good = || message(MessageType::FriendInvite);
    assert_eq!(receive(good()).unwrap().check_structure(), Ok(()));
    for (member, value) in [
        ("from", json!("")),
        ("from", json!("alice")),
        ("to", json!("bob@b.example\n")),
        ("signature", json!("")),
        ("message_type", json!("")),
    ] {
        let error = receive(with(good(), member, Some(value))).unwrap().check_structure().unwrap_err();
        assert_eq!(error.to_string(), "Invalid message structure", "{member}");
    }
    let late = receive(with(good(), "timestamp", Some(json!("2026-11-23")))).unwrap();
    assert_eq!(late.timestamp().unwrap_err().to_string(), "Message timestamp outside acceptable skew");
    let both = receive(with(good(), "type", Some(json!("REALTIME_EVENT")))).unwrap();
    assert_eq!(both.kind_text(), Some("FRIEND_INVITE"));
}

#[test]
fn the_version_is_exactly_two_or_left_out() {
    for (version, chosen) in [
        (Some(json!(2)), Ok(EnvelopeVersion::Two)),
        (Some(json!(2.0)), Ok(EnvelopeVersion::Two)),
        (None, Ok(EnvelopeVersion::One)),
        (Some(json!(2.5)), Err(MessageError::Version)),
        (Some(json!(99)), Err(MessageError::Version)),
        (Some(json!(-2)), Err(MessageError::Version)),
    ] {
        let changed = with(message(MessageType::FriendInvite), "protocol_version", version);
        assert_eq!(receive(changed).unwrap().version(), chosen);
    }
}

#[test]
fn the_first_failure_answers_in_the_protocols_words() {
    let key = secret().public();
    let answer = |message: JsonObject| match receive(message).unwrap().verify(&key) {
        Ok(kind) => kind.to_string(),
        Err(error) => error.to_string(),
    };
    let good = || message(MessageType::FriendInvite);
    assert_eq!(answer(good()), "FRIEND_INVITE");
    for member in ["nonce", "message_type"] {
        for value in [None, Some(json!(""))] {
            // An empty or missing type of version 2 is not made up for by `type`.
            let changed = with(with(good(), member, value), "type", Some(json!("FRIEND_INVITE")));
            assert_eq!(answer(changed), "v2 message missing nonce or message_type");
        }
    }
    assert!(
        answer(with(good(), "signature", Some(json!("AA==")))).starts_with("Malformed signature input: ")
    );
    assert_eq!(answer(with(good(), "to", Some(json!("carol@b.example")))), "Invalid signature");
    // An unknown type is told to nobody without a good signature.
    let unknown = with(good(), "message_type", Some(json!("UNKNOWN")));
    assert_eq!(answer(unknown.clone()), "Invalid signature");
    let text = vellum_protocol::envelope::signable_of_members(&unknown);
    let signature = secret().sign(text.as_bytes()).to_base64();
    assert_eq!(
        answer(with(unknown, "signature", Some(json!(signature)))),
        "Unsupported message type: UNKNOWN"
    );
}

#[test]
fn version_1_is_taken_for_three_types_and_without_a_payload() {
    let key = secret().public();
    for kind in ["FRIEND_INVITE", "FRIEND_ACCEPT", "FRIEND_REJECT", "RELATIONSHIP_REVOKE", "RESOURCE_SHARE"] {
        let fields =
            json!({"from": "alice@a.example", "to": "bob@b.example", "timestamp": "2026-11-23T10:00:00Z"});
        let fields = json_of(fields).as_object().unwrap().clone();
        let signature = secret().sign(legacy_signable(kind, &fields).as_bytes()).to_base64();
        let body = with(with(fields, "type", Some(json!(kind))), "signature", Some(json!(signature)));
        let verdict = receive(body.clone()).unwrap().verify(&key);
        match MessageType::parse(kind).filter(|_| kind.starts_with("FRIEND")) {
            Some(known) => assert_eq!(verdict, Ok(known)),
            None => assert_eq!(verdict, Err(MessageError::UnsupportedType(kind.to_owned()))),
        }
        let empty = with(body.clone(), "payload", Some(json!({})));
        assert_eq!(receive(empty).unwrap().verify(&key), verdict);
        let full = with(body, "payload", Some(json!({"x": 1})));
        assert_eq!(receive(full).unwrap().verify(&key), Err(MessageError::LegacyPayload));
    }
}

#[test]
fn a_manifest_is_usable_with_what_it_must_have_and_written_as_it_is_read() {
    let ours = Manifest::of_this_node(Domain::parse("a.example").unwrap(), secret().public(), 60);
    let written = serde_json::to_value(&ours).unwrap();
    assert_eq!(written["key_transparency_anchor"], Value::Null);
    assert_eq!(written["protocol_versions"], json!([2]));
    assert_eq!(Manifest::parse(&json_of(written.clone())).unwrap(), ours);
    assert_eq!(ours.revocation_window().unwrap().as_secs(), 60);

    let least = json!({
        "server_id": "b.example", "public_key": secret().public().to_base64(),
        "protocol_versions": [1.5, "2", 3, 2], "unknown": {}, "revocation_window_seconds": 60,
    });
    let read = Manifest::parse(&json_of(least)).unwrap();
    assert_eq!((read.protocol_versions.as_slice(), read.minimum_protocol_version), (&[3, 2][..], None));
    assert_eq!(read.revocation_window(), None, "the capability is not listed");

    for (member, value) in [
        ("server_id", json!("")),
        ("server_id", json!("b.example/path")),
        ("public_key", json!("")),
        ("public_key", json!("AA==")),
        ("protocol_versions", json!(2)),
        ("protocol_versions", json!([1, 3])),
    ] {
        let mut other = written.clone();
        other[member] = value;
        assert!(Manifest::parse(&json_of(other)).is_err(), "{member}");
    }
}

#[test]
fn a_user_document_may_lack_an_encryption_key_and_nothing_else_that_counts() {
    let written = json!({
        "handle": "Alice@a.example", "signingKey": secret().public().to_base64(), "encryptionKey": "",
        "inbox": "https://a.example/federation/inbox",
    });
    let user = UserDocument::parse(&json_of(written.clone())).unwrap();
    assert_eq!((user.handle.as_str(), user.encryption_key), ("Alice@a.example", None));
    assert_eq!(serde_json::to_value(&user).unwrap(), written);
    for (member, value) in [
        ("handle", json!("alice")),
        ("signingKey", json!("")),
        ("signingKey", json!(base64::encode(&[1; 31]))),
        ("encryptionKey", json!(base64::encode(&[0; 32]))),
        ("inbox", Value::Null),
    ] {
        let mut other = written.clone();
        other[member] = value;
        assert!(UserDocument::parse(&json_of(other)).is_err(), "{member}");
    }
}
