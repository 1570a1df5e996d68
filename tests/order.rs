//! Simultaneous changes of one user: the result equals some order of them.

use futures_util::future::join_all;
use serde_json::{Value, json};
use vellum_client::MasterSeed;
use vellum_client::http::Method;

use crate::support::{Person, TestNode};

/// One of the requests that are sent at once.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Change {
    Reset,
    Keys(u8),
    Alias(u8),
}

fn seed(number: u8) -> MasterSeed {
    MasterSeed::from_bytes([number; 32])
}

fn alias(number: u8) -> String {
    format!("alias_{number}")
}

async fn send(person: &Person, change: Change) -> (u16, Value) {
    match change {
        Change::Reset => {
            person
                .ask(Method::POST, "/users/me/identity/reset", json!({ "confirm": "erase-all-my-data" }))
                .await
        }
        Change::Keys(number) => {
            let seed = seed(number);
            let keys = json!({ "signingKey": seed.signing_secret().public(), "encryptionKey": seed.encryption_key() });
            person.ask(Method::PUT, "/users/me/keys", keys).await
        }
        Change::Alias(number) => {
            person.ask(Method::PATCH, "/users/me/alias", json!({ "alias": alias(number) })).await
        }
    }
}

/// The changes of one round. Each is different from every other, so the result tells who was last.
fn changes() -> Vec<Change> {
    (0..64)
        .map(|number| match number % 3 {
            0 => Change::Reset,
            1 => Change::Keys(number + 1),
            _ => Change::Alias(number + 1),
        })
        .collect()
}

/// Nothing is sealed and nobody knows the user, so in every order each change succeeds. Then the state is
/// that of some order if and only if: the alias is one of those sent; keys and version are those of one
/// registration, both of its keys together, or both absent, which a reset at the end leaves.
#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_simultaneous_changes_leave_the_state_of_some_order_of_them() {
    let node = TestNode::start().await;
    let person = node.user("ann").await;
    let mut ends_without_keys = 0;
    for round in 0..12 {
        let sent = changes();
        let answers = join_all(sent.iter().map(|change| send(&person, *change))).await;
        for (change, (status, answer)) in sent.iter().zip(&answers) {
            assert_eq!(*status, 200, "round {round}, {change:?}: {answer}");
            match change {
                Change::Reset => assert_eq!(*answer, json!({ "success": true, "pendingRevocations": 0 })),
                Change::Keys(_) => assert_eq!(*answer, json!({ "success": true, "kmVersion": 1 })),
                Change::Alias(number) => assert_eq!(answer["alias"], alias(*number)),
            }
        }
        let state = person.client.identity().await.unwrap();
        let aliases: Vec<String> = sent
            .iter()
            .filter_map(|change| if let Change::Alias(number) = change { Some(alias(*number)) } else { None })
            .collect();
        assert!(aliases.contains(&state.alias.as_ref().unwrap().to_string()), "an alias that was sent");
        assert_eq!(state.km_version.get(), 1);
        let pairs = sent.iter().filter_map(|change| {
            let Change::Keys(number) = change else { return None };
            Some((Some(seed(*number).signing_secret().public()), Some(seed(*number).encryption_key())))
        });
        let mut possible: Vec<_> = pairs.collect();
        possible.push((None, None));
        assert!(
            possible.contains(&(state.signing_key, state.encryption_key)),
            "keys of one registration, never mixed"
        );
        ends_without_keys += usize::from(state.signing_key.is_none());
    }
    assert!(ends_without_keys < 12, "not every round can have ended with a reset");
}

/// Each user's own changes keep an order too when they go on beside another's.
#[tokio::test(flavor = "multi_thread")]
async fn two_users_change_their_identities_beside_each_other() {
    let node = TestNode::start().await;
    let (ann, ben) = (node.user("ann").await, node.user("ben").await);
    let all =
        |person, offset: u8| join_all((0..32).map(move |number| send(person, Change::Keys(number + offset))));
    let (hers, his) = tokio::join!(all(&ann, 1), all(&ben, 101));
    assert!(hers.iter().chain(&his).all(|(status, _)| *status == 200));
    for (person, offset) in [(&ann, 1_u8), (&ben, 101)] {
        let state = person.client.identity().await.unwrap();
        let pairs = (0..32).map(|number| seed(number + offset));
        let found = pairs
            .filter(|seed| Some(seed.signing_secret().public()) == state.signing_key)
            .collect::<Vec<_>>();
        assert_eq!(found.len(), 1);
        assert_eq!(Some(found[0].encryption_key()), state.encryption_key);
    }
}
