//! Handing the seed to a new device: each step once, by its owner, and what the clock ends.

use vellum_actors::user::{BeginTransfer, CancelTransfer, FetchTransfer, UploadTransfer};
use vellum_actors::{Error, housekeeping};
use vellum_store::TransferId;
use vellum_store::device_transfers::{self, Transfer, Upload};

use crate::support::{Person, World};

async fn begin(person: &Person) -> Result<TransferId, Error> {
    let begun = BeginTransfer { receiver_key: "receiver".to_owned() };
    person.node.ask(&person.id, begun).await.map(|transfer| transfer.id)
}

async fn upload(person: &Person, id: &TransferId) -> Result<(), Error> {
    upload_with(person, id, "sealed").await
}

fn sealed(seed: &str) -> Upload {
    Upload {
        sender_key: "sender".to_owned(),
        sealed_seed: seed.to_owned(),
        sender_signature: "signed".to_owned(),
    }
}

async fn upload_with(person: &Person, id: &TransferId, seed: &str) -> Result<(), Error> {
    person.node.ask(&person.id, UploadTransfer { id: id.clone(), upload: sealed(seed) }).await
}

async fn fetch(person: &Person, id: &TransferId) -> Result<(Transfer, Upload), Error> {
    person.node.ask(&person.id, FetchTransfer { id: id.clone() }).await
}

async fn cancel(person: &Person, id: &TransferId) {
    person.node.ask(&person.id, CancelTransfer { id: id.clone() }).await.unwrap();
}

#[actix::test]
async fn a_seed_is_put_in_once_and_taken_out_once() {
    let world = World::new().await;
    let ann = world.a.person("ann").await;
    let id = begin(&ann).await.unwrap();
    assert!(matches!(fetch(&ann, &id).await, Err(Error::TransferEmpty)));
    upload_with(&ann, &id, "first").await.unwrap();
    assert!(matches!(upload_with(&ann, &id, "second").await, Err(Error::TransferFilled)));
    let (transfer, taken) = fetch(&ann, &id).await.unwrap();
    assert_eq!((transfer.id, transfer.user_id), (id.clone(), ann.id.clone()));
    assert_eq!((transfer.receiver_key.as_str(), taken), ("receiver", sealed("first")));
    assert!(matches!(fetch(&ann, &id).await, Err(Error::TransferOver)));
    assert!(matches!(upload(&ann, &id).await, Err(Error::TransferOver)));
}

#[actix::test]
async fn a_transfer_is_filled_emptied_and_given_up_by_its_owner_only() {
    let world = World::new().await;
    let (ann, amy) = (world.a.person("ann").await, world.a.person("amy").await);
    let id = begin(&ann).await.unwrap();
    assert!(matches!(upload(&amy, &id).await, Err(Error::TransferOfAnother)));
    upload(&ann, &id).await.unwrap();
    assert!(matches!(fetch(&amy, &id).await, Err(Error::TransferOfAnother)));
    cancel(&amy, &id).await;
    fetch(&ann, &id).await.expect("that was not hers to give up");
    let unknown = TransferId::generate();
    assert!(matches!(fetch(&ann, &unknown).await, Err(Error::TransferNotFound)));
    cancel(&ann, &unknown).await;

    let given_up = begin(&ann).await.unwrap();
    upload(&ann, &given_up).await.unwrap();
    cancel(&ann, &given_up).await;
    assert!(matches!(fetch(&ann, &given_up).await, Err(Error::TransferOver)));
}

#[actix::test]
async fn a_transfer_is_over_after_a_minute_and_what_it_held_is_removed() {
    let world = World::new().await;
    let ann = world.a.person("ann").await;
    let (early, late) = (begin(&ann).await.unwrap(), begin(&ann).await.unwrap());
    world.clock.advance(59_999);
    upload(&ann, &early).await.unwrap();
    world.clock.advance(1);
    assert!(matches!(upload(&ann, &late).await, Err(Error::TransferOver)));
    assert!(matches!(fetch(&ann, &early).await, Err(Error::TransferOver)));

    housekeeping::sweep(&ann.node).await.unwrap();
    let kept = device_transfers::by_id(&mut ann.node.store.read().await.unwrap(), &early).await.unwrap();
    assert!(
        kept.is_some_and(|transfer| transfer.consumed && transfer.upload.is_none()),
        "counted, but empty"
    );
}

#[actix::test]
async fn an_hour_after_the_first_of_three_transfers_another_may_begin() {
    let world = World::new().await;
    let ann = world.a.person("ann").await;
    for _ in 0..3 {
        begin(&ann).await.unwrap();
        world.clock.advance(600_000);
    }
    let Err(Error::TooManyTransfers { retry_after }) = begin(&ann).await else { panic!("a fourth began") };
    assert_eq!(retry_after.as_secs(), 1800);
    world.clock.advance(1_800_000);
    housekeeping::sweep(&ann.node).await.unwrap();
    begin(&ann).await.unwrap();
    assert!(matches!(begin(&ann).await, Err(Error::TooManyTransfers { .. })));
}
