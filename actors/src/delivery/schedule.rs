//! Which peers are served, and which wait: no clock, no database.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use vellum_protocol::UnixMillis;

use crate::peer::{Served, Turn};

/// Requests in flight to peers that are proven, together.
const TO_PROVEN: u32 = 768;
/// Requests in flight to all others: those that have failed last, or have taken nothing for an
/// hour. Each of these peers has one.
const TO_OTHERS: u32 = 256;

/// The peers with something to send, by domain.
pub(super) struct Schedule {
    peers: HashMap<String, State>,
    /// Those that wait for a time.
    waiting: BTreeSet<(UnixMillis, String)>,
    proven: Places,
    others: Places,
}

enum State {
    /// Something will be due.
    Waiting { at: UnixMillis, proven: bool },
    /// Something is due; it waits for a place.
    Ready,
    /// Its send loop runs.
    Active(Turn),
}

/// The places of one kind of peers, and who waits for one.
struct Places {
    most: usize,
    active: usize,
    /// The one that has waited longest comes first.
    ready: VecDeque<String>,
    others_wait: Arc<AtomicBool>,
}

impl Schedule {
    /// Nobody waits. Each proven peer may have so many requests in flight.
    pub fn new(in_flight_per_peer: u32) -> Self {
        let places = |peers: u32| Places {
            most: usize::try_from(peers.max(1)).unwrap_or(1),
            active: 0,
            ready: VecDeque::new(),
            others_wait: Arc::default(),
        };
        let (proven, others) = (places(TO_PROVEN / in_flight_per_peer.max(1)), places(TO_OTHERS));
        Self { peers: HashMap::new(), waiting: BTreeSet::new(), proven, others }
    }

    /// Notes that something is due for a peer at this time.
    pub fn note(&mut self, domain: String, at: UnixMillis, proven: bool, now: UnixMillis) {
        match self.peers.get(&domain) {
            // Its loop looks for itself, since it may just have looked for the last time.
            Some(State::Active(turn)) => return turn.more.notify_one(),
            Some(State::Ready) => return,
            Some(State::Waiting { at, .. }) => {
                self.waiting.remove(&(*at, domain.clone()));
            }
            None => {}
        }
        if at <= now {
            self.places(proven).ready.push_back(domain.clone());
            self.peers.insert(domain, State::Ready);
        } else {
            self.waiting.insert((at, domain.clone()));
            self.peers.insert(domain, State::Waiting { at, proven });
        }
    }

    /// The peers whose send loops are to be started now.
    pub fn start(&mut self, now: UnixMillis) -> Vec<(String, Turn)> {
        while let Some((at, domain)) = self.waiting.first().filter(|(at, _)| *at <= now).cloned() {
            self.waiting.remove(&(at, domain.clone()));
            if let Some(State::Waiting { proven, .. }) = self.peers.insert(domain.clone(), State::Ready) {
                self.places(proven).ready.push_back(domain);
            }
        }
        let mut started = Vec::new();
        for proven in [true, false] {
            let places = self.places(proven);
            let free = places.most.saturating_sub(places.active).min(places.ready.len());
            let domains: Vec<_> = places.ready.drain(..free).collect();
            places.active += free;
            places.others_wait.store(!places.ready.is_empty(), Ordering::Relaxed);
            let others_wait = Arc::clone(&places.others_wait);
            for domain in domains {
                let turn = Turn { proven, more: Arc::default(), others_wait: Arc::clone(&others_wait) };
                self.peers.insert(domain.clone(), State::Active(turn.clone()));
                started.push((domain, turn));
            }
        }
        started
    }

    /// Notes that the send loop of a peer has ended.
    pub fn end(&mut self, domain: String, served: Served, now: UnixMillis) {
        let Some(State::Active(turn)) = self.peers.remove(&domain) else { return };
        self.places(turn.proven).active -= 1;
        // What was noted after the loop looked last is due.
        let more = has_permit(&turn.more).then_some(now);
        if let Some(at) = more.or(served.next) {
            self.note(domain, at, served.proven, now);
        }
    }

    /// When the first of the waiting peers is due.
    pub fn next(&self) -> Option<UnixMillis> {
        self.waiting.first().map(|(at, _)| *at)
    }

    /// Whether a send loop runs.
    pub fn is_active(&self) -> bool {
        self.proven.active + self.others.active > 0
    }

    fn places(&mut self, proven: bool) -> &mut Places {
        if proven { &mut self.proven } else { &mut self.others }
    }
}

fn has_permit(notify: &Notify) -> bool {
    use futures_util::FutureExt;
    notify.notified().now_or_never().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: UnixMillis = UnixMillis(1_700_000_000_000);

    fn started(schedule: &mut Schedule, now: UnixMillis) -> Vec<String> {
        schedule.start(now).into_iter().map(|(domain, _)| domain).collect()
    }

    fn served(next: Option<UnixMillis>, proven: bool) -> Served {
        Served { next, proven }
    }

    #[test]
    fn a_peer_is_served_when_it_is_due_and_forgotten_when_nothing_is() {
        let mut schedule = Schedule::new(4);
        schedule.note("a".into(), T0.plus_millis(5), true, T0);
        schedule.note("b".into(), T0, true, T0);
        assert_eq!(started(&mut schedule, T0), ["b"]);
        assert_eq!(schedule.next(), Some(T0.plus_millis(5)));
        schedule.note("a".into(), T0.plus_millis(3), true, T0);
        assert_eq!(schedule.next(), Some(T0.plus_millis(3)), "what was noted last counts");
        assert!(started(&mut schedule, T0.plus_millis(2)).is_empty());
        assert_eq!(started(&mut schedule, T0.plus_millis(3)), ["a"]);
        schedule.end("a".into(), served(None, true), T0);
        schedule.end("b".into(), served(Some(T0.plus_millis(9)), true), T0);
        assert_eq!((schedule.peers.len(), schedule.next()), (1, Some(T0.plus_millis(9))));
        assert!(!schedule.is_active());
    }

    #[test]
    fn whoever_has_waited_longest_gets_the_next_place_and_peers_that_fail_take_none_of_the_others() {
        let mut schedule = Schedule::new(TO_PROVEN / 2);
        for n in 0..4 {
            schedule.note(format!("well{n}"), T0, true, T0);
        }
        for n in 0..2 * TO_OTHERS {
            schedule.note(format!("away{n}"), T0, false, T0);
        }
        let all = schedule.start(T0);
        let well: Vec<_> = all.iter().filter(|(_, turn)| turn.proven).collect();
        assert_eq!(well.iter().map(|(domain, _)| domain.as_str()).collect::<Vec<_>>(), ["well0", "well1"]);
        assert_eq!(all.len() - well.len(), TO_OTHERS as usize, "one request each");
        assert!(well[0].1.others_wait.load(Ordering::Relaxed));
        schedule.end("well1".into(), served(Some(T0), true), T0);
        assert_eq!(started(&mut schedule, T0), ["well2"]);
        schedule.end("well0".into(), served(Some(T0), false), T0);
        assert_eq!(started(&mut schedule, T0), ["well3"], "the one that fails now waits with the others");
        schedule.end("well2".into(), served(None, true), T0);
        assert_eq!(started(&mut schedule, T0), ["well1"]);
        assert!(!well[0].1.others_wait.load(Ordering::Relaxed));
    }

    #[test]
    fn what_is_queued_while_a_peer_is_served_is_not_forgotten() {
        let mut schedule = Schedule::new(4);
        schedule.note("a".into(), T0, true, T0);
        let turn = schedule.start(T0).remove(0).1;
        schedule.note("a".into(), T0.plus_millis(1), true, T0);
        assert!(has_permit(&turn.more), "the loop looks when that is due");
        schedule.note("a".into(), T0.plus_millis(1), true, T0);
        schedule.end("a".into(), served(None, true), T0);
        assert_eq!(started(&mut schedule, T0), ["a"]);
    }
}
