//! One user's commands, one after the other; the bounded mailbox; panics; idle actors.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use vellum_actors::user::{Scope, UserCommand};
use vellum_actors::{Clock, Error, Node};
use vellum_store::UserId;

use crate::support::{Site, T0, Wire, in_time, until, wait_for};

async fn site() -> (Site, Clock) {
    let clock = Clock::steered(T0);
    (Site::start_without_delivery("a.example", &clock, &Wire::default()).await, clock)
}

/// Counts who is inside at the same time.
#[derive(Clone, Default)]
struct Room {
    inside: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    visits: Arc<AtomicUsize>,
}

/// Goes in, stays for a while, with waits of every kind, and leaves.
struct Visit(Room);

impl UserCommand for Visit {
    type Output = ();
    const NAME: &'static str = "visit";

    async fn run(self, scope: Scope) -> Result<(), Error> {
        let Room { inside, most, visits } = self.0;
        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        drop(scope.node.store.read().await?);
        tokio::time::sleep(Duration::from_millis(1)).await;
        inside.fetch_sub(1, Ordering::SeqCst);
        visits.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Tells that it has begun, and ends when it is told how.
struct Hold {
    begun: oneshot::Sender<()>,
    end: oneshot::Receiver<End>,
}

enum End {
    Well,
    Panic,
}

impl UserCommand for Hold {
    type Output = ();
    const NAME: &'static str = "hold";

    async fn run(self, _: Scope) -> Result<(), Error> {
        self.begun.send(()).unwrap();
        match self.end.await.unwrap() {
            End::Well => Ok(()),
            End::Panic => panic!("a command that panics, on purpose"),
        }
    }
}

/// A command that is held open.
struct Held {
    end: oneshot::Sender<End>,
    answer: JoinHandle<Result<(), Error>>,
}

impl Held {
    async fn start(node: &Arc<Node>, user: &UserId) -> Self {
        let ((begun, has_begun), (end, ends)) = (oneshot::channel(), oneshot::channel());
        let answer = ask(node, user, Hold { begun, end: ends });
        in_time(has_begun).await.unwrap();
        Self { end, answer }
    }

    async fn end(self, how: End) -> Result<(), Error> {
        assert!(self.end.send(how).is_ok());
        in_time(self.answer).await.unwrap()
    }
}

/// Sends a command at once; its answer can be waited for.
fn ask<C: UserCommand>(node: &Arc<Node>, user: &UserId, command: C) -> JoinHandle<Result<C::Output, Error>> {
    let (node, user) = (Arc::clone(node), user.clone());
    tokio::spawn(async move { node.ask(&user, command).await })
}

fn send_visits(
    node: &Arc<Node>,
    user: &UserId,
    count: usize,
    room: &Room,
) -> Vec<JoinHandle<Result<(), Error>>> {
    (0..count).map(|_| ask(node, user, Visit(room.clone()))).collect()
}

async fn all_well(answers: Vec<JoinHandle<Result<(), Error>>>) -> bool {
    in_time(join_all(answers)).await.into_iter().all(|answer| matches!(answer, Ok(Ok(()))))
}

#[actix::test]
async fn commands_of_one_user_run_strictly_one_at_a_time() {
    let (site, _) = site().await;
    let (user, room) = (site.account("alice").await, Room::default());
    assert!(all_well(send_visits(&site.node, &user, 64, &room)).await);
    assert_eq!(room.visits.load(Ordering::SeqCst), 64);
    assert_eq!(room.most.load(Ordering::SeqCst), 1);
}

#[actix::test]
async fn two_users_do_not_wait_for_each_other() {
    let (site, _) = site().await;
    // With more users than arbiters, some share a thread with the held one.
    let alice = site.account("alice").await;
    let held = Held::start(&site.node, &alice).await;
    for name in ["bob", "carl", "dan", "eve"] {
        let (user, room) = (site.account(name).await, Room::default());
        assert!(all_well(send_visits(&site.node, &user, 32, &room)).await, "{name}");
    }
    assert!(!held.answer.is_finished());
    held.end(End::Well).await.unwrap();
}

#[actix::test]
async fn a_full_mailbox_is_answered_busy_and_loses_nothing_that_it_took() {
    let (site, _) = site().await;
    let (user, room) = (site.account("alice").await, Room::default());
    let held = Held::start(&site.node, &user).await;
    let answers = send_visits(&site.node, &user, 64 + 20, &room);
    // The held one has the first of 64 places.
    wait_for(
        "the rest are refused",
        || async { answers.iter().filter(|answer| answer.is_finished()).count() },
        |seen| *seen == 21,
    )
    .await;
    assert_eq!(room.visits.load(Ordering::SeqCst), 0);
    held.end(End::Well).await.unwrap();
    let answers = in_time(join_all(answers)).await;
    let busy = |answer: &&Result<Result<(), Error>, _>| matches!(answer, Ok(Err(Error::Busy { retry_after })) if *retry_after > Duration::ZERO);
    assert_eq!(answers.iter().filter(busy).count(), 21);
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Ok(Ok(())))).count(), 63);
    assert_eq!(room.visits.load(Ordering::SeqCst), 63);
    assert!(all_well(send_visits(&site.node, &user, 64, &room)).await, "the places are free again");
}

#[actix::test]
async fn a_full_mailbox_of_one_user_is_no_other_users_trouble() {
    let (site, _) = site().await;
    let (alice, bob) = (site.account("alice").await, site.account("bob").await);
    let held = Held::start(&site.node, &alice).await;
    let room = Room::default();
    let mut waiting = send_visits(&site.node, &alice, 64, &room);
    until("alice's last one is refused", || async { waiting.iter().any(JoinHandle::is_finished) }).await;
    let refused = waiting.iter().position(JoinHandle::is_finished).unwrap();
    assert!(matches!(waiting.remove(refused).await.unwrap(), Err(Error::Busy { .. })));
    assert!(all_well(send_visits(&site.node, &bob, 64, &room)).await);
    held.end(End::Well).await.unwrap();
    assert!(all_well(waiting).await);
}

#[actix::test]
async fn a_panicking_command_is_answered_and_those_behind_it_are_carried_out() {
    let (site, _) = site().await;
    let (user, room) = (site.account("alice").await, Room::default());
    for _ in 0..3 {
        let held = Held::start(&site.node, &user).await;
        let behind = send_visits(&site.node, &user, 20, &room);
        assert!(matches!(held.end(End::Panic).await, Err(Error::Internal)));
        assert!(all_well(behind).await);
    }
    assert_eq!(room.most.load(Ordering::SeqCst), 1, "still one at a time");
    assert_eq!(site.node.directory.len(), 1);
}

/// Panics before there is a future to poll.
struct PanicAtOnce;

impl UserCommand for PanicAtOnce {
    type Output = ();
    const NAME: &'static str = "panic_at_once";

    fn run(self, _: Scope) -> impl Future<Output = Result<(), Error>> + Send {
        if T0.0 > 0 {
            panic!("before the future, on purpose");
        }
        std::future::ready(Ok(()))
    }
}

#[actix::test]
async fn a_command_that_panics_before_its_future_exists_is_answered_like_any_other_panic() {
    let (site, _) = site().await;
    let (user, room) = (site.account("alice").await, Room::default());
    let answer = in_time(site.node.ask(&user, PanicAtOnce)).await;
    assert!(matches!(answer, Err(Error::Internal)), "{answer:?}");
    assert!(all_well(send_visits(&site.node, &user, 2, &room)).await);
}

#[actix::test]
async fn an_idle_actor_is_let_go_after_a_minute_and_started_again_when_needed() {
    let (site, clock) = site().await;
    let (user, room) = (site.account("alice").await, Room::default());
    assert!(site.node.directory.is_empty());
    assert!(all_well(send_visits(&site.node, &user, 2, &room)).await);
    clock.advance(59_999);
    assert_eq!(site.node.directory.sweep(clock.now()), 0);
    clock.advance(1);
    assert_eq!(site.node.directory.sweep(clock.now()), 1);
    assert!(site.node.directory.is_empty());
    assert!(all_well(send_visits(&site.node, &user, 10, &room)).await);
    assert_eq!((site.node.directory.len(), room.most.load(Ordering::SeqCst)), (1, 1));
}

#[actix::test]
async fn an_actor_with_commands_waiting_is_never_let_go() {
    let (site, clock) = site().await;
    let (busy, idle) = (site.account("alice").await, site.account("bob").await);
    let room = Room::default();
    assert!(all_well(send_visits(&site.node, &idle, 1, &room)).await);
    let held = Held::start(&site.node, &busy).await;
    let waiting = send_visits(&site.node, &busy, 5, &room);
    clock.advance(1_000_000);
    assert_eq!(site.node.directory.sweep(clock.now()), 1, "the idle one only");
    assert_eq!(site.node.directory.len(), 1);
    held.end(End::Well).await.unwrap();
    assert!(all_well(waiting).await);
    clock.advance(60_000);
    assert_eq!(site.node.directory.sweep(clock.now()), 1, "now it is idle too");
}

#[actix::test]
async fn commands_and_sweeps_at_the_same_time_lose_no_command() {
    let (site, clock) = site().await;
    let (user, room) = (site.account("alice").await, Room::default());
    for _ in 0..50 {
        let answers = send_visits(&site.node, &user, 4, &room);
        clock.advance(100_000);
        site.node.directory.sweep(clock.now());
        tokio::task::yield_now().await;
        site.node.directory.sweep(clock.now());
        assert!(all_well(answers).await);
        site.node.directory.sweep(clock.now());
    }
    assert_eq!(room.visits.load(Ordering::SeqCst), 200);
    assert_eq!(room.most.load(Ordering::SeqCst), 1, "two actors of one user never work side by side");
}
