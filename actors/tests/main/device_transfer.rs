//! Handing the seed to a new device: what the clock ends.

use vellum_actors::user::{BeginTransfer, FetchTransfer, UploadTransfer};
use vellum_actors::{Error, housekeeping};
use vellum_store::TransferId;
use vellum_store::device_transfers::{self, Upload};

use crate::support::{Person, World};

async fn begin(person: &Person) -> Result<TransferId, Error> {
    let begun = BeginTransfer { receiver_key: "receiver".to_owned() };
    person.node.ask(&person.id, begun).await.map(|transfer| transfer.id)
}

async fn upload(person: &Person, id: &TransferId) -> Result<(), Error> {
    let upload = Upload {
        sender_key: "sender".to_owned(),
        sealed_seed: "sealed".to_owned(),
        sender_signature: "signed".to_owned(),
    };
    person.node.ask(&person.id, UploadTransfer { id: id.clone(), upload }).await
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
    let fetched = ann.node.ask(&ann.id, FetchTransfer { id: early.clone() }).await;
    assert!(matches!(fetched, Err(Error::TransferOver)));

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
