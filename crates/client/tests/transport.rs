//! How the seed and shared things travel: slots, device storage, transfers, messages to friends.

use vellum_client::collection_share::{
    COLLECTION_CONTEXT, SharedCiphertext, open_collection_share, seal_collection_share, share_key,
};
use vellum_client::device_wrap::{DeviceWrapError, WrapSecret};
use vellum_client::friend_share::{
    FriendBinding, FriendShareError, open_from_friend, relationship_id, seal_for_friend,
};
use vellum_client::slot::{self, PRF_SALT, PasskeySlot, SlotError, WRAP_ALGORITHM};
use vellum_client::transfer::{TransferError, TransferReceiver, TransferSender, TransferUpload};
use vellum_client::{EncryptionSecret, MasterSeed, SealedData};
use vellum_protocol::{Handle, Signature, base64};

use crate::vectors::{
    binding, bytes32, each, encryption_key, is_valid, keys, rng, sealing_key, seed, signing_key, text,
};

#[test]
fn the_prf_salt_is_the_constant() {
    assert_eq!(base64::encode(&PRF_SALT), "MeCGtrfvVLrwofC6pnJ60BGjMbNpBl+cDomzyalFoHY=");
    let mut derived = [0; 32];
    hkdf::Hkdf::<sha2::Sha256>::new(None, b"parchment")
        .expand(b"parchment-prf-salt-v2", &mut derived)
        .unwrap();
    assert_eq!(PRF_SALT, derived);
    // The vectors name it in their description; a member of its own is compared where there is one.
    if let Some(salt) = keys().get("prfSalt") {
        assert_eq!(salt.as_str(), Some(base64::encode(&PRF_SALT).as_str()));
    }
}

#[test]
fn a_passkey_slot_opens() {
    each("slots", |case| {
        let slot: PasskeySlot = serde_json::from_value(case["slot"].clone()).unwrap();
        let user_id = text(case, "userId");
        let prf_output = base64::decode(text(case, "prfOutput")).unwrap();
        let signing_key = signing_key(case, "signingKey");
        let opened = slot.open(user_id, &prf_output, &signing_key);
        if !is_valid(case) {
            assert!(opened.is_err(), "{case}");
            return;
        }
        assert_eq!(slot::wrap_key(&prf_output), Ok(sealing_key(case, "wrapKey")));
        assert_eq!(slot.signable(user_id), text(case, "signable"));
        let seed = opened.unwrap();
        assert_eq!(seed.recovery_key().as_str(), text(case, "seed"));

        let again =
            PasskeySlot::seal(&seed, user_id, &slot.credential_id, &prf_output, &mut rng(20)).unwrap();
        let own_key = seed.signing_secret().public();
        assert_eq!(again.open(user_id, &prf_output, &own_key), Ok(seed));
        assert_eq!(serde_json::to_value(&again).unwrap()["wrapAlgo"], WRAP_ALGORITHM);
    });
}

#[test]
fn a_slot_opens_only_as_it_was_signed() {
    let mut rng = rng(21);
    let seed = MasterSeed::generate(&mut rng);
    let key = seed.signing_secret().public();
    let prf = [3; 32];
    let slot = PasskeySlot::seal(&seed, "user", "credential", &prf, &mut rng).unwrap();
    assert_eq!(slot.open("other", &prf, &key), Err(SlotError::BadSignature));
    let stranger = MasterSeed::generate(&mut rng).signing_secret().public();
    assert_eq!(slot.open("user", &prf, &stranger), Err(SlotError::BadSignature));
    assert!(matches!(slot.open("user", &[4; 32], &key), Err(SlotError::Open(_))));
    assert_eq!(slot.open("user", &[4; 15], &key), Err(SlotError::PrfTooShort(15)));
    for change in [
        |slot: &mut PasskeySlot| slot.credential_id.push('x'),
        |slot: &mut PasskeySlot| slot.wrap_algo.push('x'),
        |slot: &mut PasskeySlot| slot.wrapped_km.insert(0, ' '),
        |slot: &mut PasskeySlot| slot.slot_signature.clear(),
    ] {
        let mut changed = slot.clone();
        change(&mut changed);
        assert_eq!(changed.open("user", &prf, &key), Err(SlotError::BadSignature));
    }
}

#[test]
fn a_slot_wrapped_in_another_way_is_refused_even_when_signed() {
    let mut rng = rng(22);
    let seed = MasterSeed::generate(&mut rng);
    let mut slot = PasskeySlot::seal(&seed, "user", "credential", &[3; 32], &mut rng).unwrap();
    slot.wrap_algo = "none".to_owned();
    slot.slot_signature = seed.signing_secret().sign(slot.signable("user").as_bytes()).to_base64();
    let opened = slot.open("user", &[3; 32], &seed.signing_secret().public());
    assert_eq!(opened, Err(SlotError::UnknownAlgorithm));
}

#[test]
fn a_wrap_secret_gives_its_key() {
    each("wrap", |case| {
        let secret = WrapSecret::parse(text(case, "secret")).unwrap();
        assert_eq!(secret.wrap_key(), sealing_key(case, "wrapKey"));
        assert!(!format!("{secret:?}").contains(text(case, "secret")));
    });
    assert_eq!(WrapSecret::parse("AAAA").unwrap_err(), DeviceWrapError::BadSecret);
}

#[test]
fn a_device_keeps_the_seed() {
    each("deviceWrap", |case| {
        let secret = WrapSecret::from_bytes(bytes32(case, "secret"));
        let device = text(case, "deviceId");
        assert_eq!(secret.wrap_key(), sealing_key(case, "wrapKey"));
        let sealed = SealedData::parse(text(case, "envelope")).unwrap();
        let seed = secret.open(&sealed, device).unwrap();
        assert_eq!(seed.expose_bytes(), &bytes32(case, "seed"));
        assert_eq!(*secret.wrap_key().open(&sealed, &binding(case)).unwrap(), bytes32(case, "seed"));

        let again = secret.seal(&seed, device, &mut rng(23)).unwrap();
        assert_eq!(secret.open(&again, device), Ok(seed));
        assert!(secret.open(&again, "another-device").is_err());
    });
}

#[test]
fn what_is_not_a_seed_is_not_taken_for_one() {
    let secret = WrapSecret::from_bytes([5; 32]);
    let binding = vellum_client::Binding {
        user_id: "device-1",
        record_type: "seed-wrap",
        record_id: "local",
        key_context: "parchment-seed-wrap-v1",
    };
    let sealed = secret.wrap_key().seal(&[1; 31], &binding, &mut rng(24)).unwrap();
    assert_eq!(secret.open(&sealed, "device-1"), Err(DeviceWrapError::NotASeed));
}

#[test]
fn a_message_to_a_friend_opens() {
    each("ecies", |case| {
        let sender = signing_key(case, "senderSigningKey");
        let recipient = seed(case, "recipientSeed").encryption_secret();
        let bound = &case["binding"];
        let binding = FriendBinding {
            sender: text(bound, "senderId").to_owned(),
            recipient: text(bound, "recipientId").to_owned(),
            relationship_id: text(bound, "relationshipId").to_owned(),
            timestamp: text(bound, "timestamp").to_owned(),
        };
        let opened = open_from_friend(text(case, "blob"), &sender, &recipient, &binding);
        if is_valid(case) {
            assert_eq!(opened.unwrap().as_slice(), text(case, "plaintext").as_bytes());
            let (from, to) = (handle(&binding.sender), handle(&binding.recipient));
            assert_eq!(FriendBinding::new(&from, &to, &binding.timestamp), binding);
        } else {
            assert!(opened.is_err(), "{case}");
        }
    });
}

#[test]
fn only_the_friend_reads_and_every_change_is_noticed() {
    let mut rng = rng(25);
    let (alice, bob) = (MasterSeed::generate(&mut rng), MasterSeed::generate(&mut rng));
    let binding =
        FriendBinding::new(&handle("alice@a.example"), &handle("Bob@b.example"), "2026-09-21T14:13:20Z");
    let message =
        seal_for_friend(b"here", &alice.signing_secret(), &bob.encryption_key(), &binding, &mut rng).unwrap();
    let key = alice.signing_secret().public();
    let opened = open_from_friend(&message, &key, &bob.encryption_secret(), &binding).unwrap();
    assert_eq!(opened.as_slice(), b"here");

    let third = open_from_friend(&message, &key, &alice.encryption_secret(), &binding);
    assert!(matches!(third, Err(FriendShareError::Open(_))));
    let stranger =
        open_from_friend(&message, &bob.signing_secret().public(), &bob.encryption_secret(), &binding);
    assert_eq!(stranger, Err(FriendShareError::BadSignature));
    let later = FriendBinding { timestamp: "2026-09-21T14:13:21Z".to_owned(), ..binding.clone() };
    assert!(open_from_friend(&message, &key, &bob.encryption_secret(), &later).is_err());
    let bytes = base64::decode(&message).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        let changed = base64::encode(&changed);
        assert!(open_from_friend(&changed, &key, &bob.encryption_secret(), &binding).is_err(), "byte {at}");
    }
}

#[test]
fn a_signed_message_with_a_key_of_low_order_is_refused() {
    let mut rng = rng(26);
    let (alice, bob) = (MasterSeed::generate(&mut rng), MasterSeed::generate(&mut rng));
    let mut bytes = vec![0; 32];
    bytes.extend_from_slice(&[2, 1]);
    bytes.extend_from_slice(&[0; 40]);
    let signature = alice.signing_secret().sign(&bytes);
    bytes.extend_from_slice(signature.as_bytes());
    let binding = FriendBinding::new(&handle("alice@a.example"), &handle("bob@b.example"), "t");
    let key = alice.signing_secret().public();
    let opened = open_from_friend(&base64::encode(&bytes), &key, &bob.encryption_secret(), &binding);
    assert!(matches!(opened, Err(FriendShareError::NoSharedSecret(_))));
}

#[test]
fn a_relationship_has_one_id() {
    let (alice, bob) = (handle("alice@a.example"), handle("Bob@b.example:8443"));
    assert_eq!(relationship_id(&alice, &bob), "Bob@b.example:8443::alice@a.example");
    assert_eq!(relationship_id(&bob, &alice), relationship_id(&alice, &bob));
}

#[test]
fn a_shared_collection_opens() {
    each("friendShare", |case| {
        let (sender, recipient) = (seed(case, "senderSeed"), seed(case, "recipientSeed"));
        let own = recipient.encryption_secret();
        assert_eq!(*own.agree(&sender.encryption_key()).unwrap(), bytes32(case, "sharedSecret"));
        let key = share_key(&own, &sender.encryption_key(), text(case, "context")).unwrap();
        assert_eq!(key, sealing_key(case, "key"));
        if text(case, "context") != COLLECTION_CONTEXT {
            return;
        }
        let share: SharedCiphertext = serde_json::from_value(case.clone()).unwrap();
        let plaintext = text(case, "plaintext").as_bytes();
        for (one, other) in [(&sender, &recipient), (&recipient, &sender)] {
            let opened = open_collection_share(&share, &one.encryption_secret(), &other.encryption_key());
            assert_eq!(opened.unwrap().as_slice(), plaintext);
        }
        let again = seal_collection_share(plaintext, &own, &sender.encryption_key(), &mut rng(27)).unwrap();
        let opened = open_collection_share(&again, &sender.encryption_secret(), &own.public()).unwrap();
        assert_eq!(opened.as_slice(), plaintext);
    });
}

#[test]
fn a_transferred_seed_opens() {
    each("transfer", |case| {
        let secret = EncryptionSecret::from_bytes(bytes32(case, "receiverEphemeralPrivate"));
        let receiver = TransferReceiver::with_secret(secret);
        assert_eq!(receiver.public(), encryption_key(case, "receiverEphemeralPub"));
        let session = text(case, "sessionId");
        let upload: TransferUpload = serde_json::from_value(case.clone()).unwrap();
        assert_eq!(receiver.digits(session, &upload.sender_ephemeral_pub), text(case, "sas"));
        let key = signing_key(case, "senderSigningKey");
        let signable = text(case, "signable").as_bytes();
        assert!(key.verify(signable, &Signature::parse(text(case, "senderSignature")).unwrap()).is_ok());
        let seed = receiver.open(session, &upload, &key).unwrap();
        assert_eq!(seed.recovery_key().as_str(), text(case, "seed"));
        assert_eq!(receiver.open("another", &upload, &key), Err(TransferError::BadSignature));

        let mut rng = rng(28);
        let sender = TransferSender::begin(session, receiver.public(), &mut rng);
        assert_eq!(sender.digits(), receiver.digits(session, &sender.public()));
        let again = sender.send(&seed, &mut rng).unwrap();
        assert_eq!(receiver.open(session, &again, &seed.signing_secret().public()), Ok(seed));
    });
}

#[test]
fn a_transfer_is_for_one_receiver() {
    let mut rng = rng(29);
    let seed = MasterSeed::generate(&mut rng);
    let key = seed.signing_secret().public();
    let (receiver, other) = (TransferReceiver::begin(&mut rng), TransferReceiver::begin(&mut rng));
    let upload = TransferSender::begin("s", receiver.public(), &mut rng).send(&seed, &mut rng).unwrap();
    assert_eq!(other.open("s", &upload, &key), Err(TransferError::BadSignature));
    let mut swapped = upload.clone();
    swapped.sealed_seed =
        TransferSender::begin("s", receiver.public(), &mut rng).send(&seed, &mut rng).unwrap().sealed_seed;
    assert!(matches!(receiver.open("s", &swapped, &key), Err(TransferError::Open(_))));
    assert_eq!(receiver.open("s", &upload, &key), Ok(seed));
}

fn handle(text: &str) -> Handle {
    Handle::parse(text).unwrap()
}
