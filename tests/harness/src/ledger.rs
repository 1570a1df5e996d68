//! What is seen of the nodes from outside: what devices have signed, what was seen on the network, and every promise
//! that was seen broken. It is written by people and by the network, and read by whoever judges.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// What was acknowledged is there.
    NothingLost,
    /// Everything opens with the keys that it says it is sealed under; one of two rotations wins.
    NoMixedKeys,
    /// A revocation has ended the other side, or is in its owner's list.
    RevocationsAppliedOrVisible,
    /// A revocation ends nothing newer.
    NewerSurvives,
    /// Two are friends on both sides or on none.
    Symmetric,
    /// Nothing is sent after a discard was answered.
    DiscardIsFinal,
    /// What a node sends, its user has signed.
    OnlySigned,
    /// No request between nodes is taken twice.
    NonceOnce,
    /// What can be sent is sent; no row is stuck.
    QueueDrains,
    /// A database that was put back is recognised.
    RestoreRecognised,
    /// A session that was ended is over.
    SessionsEnd,
    /// What is allowed is not refused, and answers can be read.
    NoStrangeRefusal,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NothingLost => "no acknowledged change is lost",
            Self::NoMixedKeys => "no mixed key state",
            Self::RevocationsAppliedOrVisible => "every signed revocation is applied or visible",
            Self::NewerSurvives => "no relationship newer than the revocation is ended",
            Self::Symmetric => "friendships are symmetric",
            Self::DiscardIsFinal => "nothing is delivered after an answered discard",
            Self::OnlySigned => "no envelope leaves a node unsigned",
            Self::NonceOnce => "no nonce is accepted twice",
            Self::QueueDrains => "no row is stuck",
            Self::RestoreRecognised => "a database that was put back is recognised",
            Self::SessionsEnd => "an ended session is over",
            Self::NoStrangeRefusal => "what is allowed is not refused",
        })
    }
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// What was seen.
    pub seen: String,
}

/// An envelope, told apart from every other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EnvelopeName {
    /// Who signed it.
    pub from: String,
    /// For whom.
    pub to: String,
    /// The envelope's nonce.
    pub nonce: String,
    /// The signature.
    pub signature: String,
}

/// All that was seen.
#[derive(Debug, Default)]
pub struct Ledger {
    signed: Mutex<HashSet<EnvelopeName>>,
    /// Revocations by envelope nonce, by who signed them for whom.
    revocations: Mutex<HashMap<(String, String), Vec<String>>>,
    discarded: Mutex<HashSet<String>>,
    accepted: Mutex<HashMap<(usize, String), u32>>,
    violations: Mutex<Vec<Violation>>,
    counts: Mutex<BTreeMap<(&'static str, String), u64>>,
    moments: AtomicU64,
}

impl Ledger {
    /// A moment later than all before.
    pub fn moment(&self) -> u64 {
        self.moments.fetch_add(1, Ordering::SeqCst)
    }

    /// Counts one more of a kind of thing.
    pub fn count(&self, kind: &'static str, what: impl Into<String>) {
        *lock(&self.counts).entry((kind, what.into())).or_default() += 1;
    }

    /// Everything that was counted, by kind and name.
    pub fn counts(&self) -> BTreeMap<(&'static str, String), u64> {
        lock(&self.counts).clone()
    }

    /// A promise was kept, or not.
    pub fn check(&self, invariant: Invariant, holds: bool, seen: impl FnOnce() -> String) {
        self.count("check", invariant.to_string());
        if !holds {
            self.broken(invariant, seen());
        }
    }

    /// A promise was broken.
    pub fn broken(&self, invariant: Invariant, seen: String) {
        lock(&self.violations).push(Violation { invariant, seen });
    }

    /// What was seen broken since the last time somebody asked.
    pub fn take_violations(&self) -> Vec<Violation> {
        std::mem::take(&mut lock(&self.violations))
    }

    /// Whether something is broken that nobody has asked for yet.
    pub fn is_broken(&self) -> bool {
        !lock(&self.violations).is_empty()
    }

    /// A device has signed this, and is about to give it to its node.
    pub fn signs(&self, envelope: EnvelopeName, is_revocation: bool) {
        if is_revocation {
            let pair = (envelope.from.clone(), envelope.to.clone());
            lock(&self.revocations).entry(pair).or_default().push(envelope.nonce.clone());
        }
        lock(&self.signed).insert(envelope);
    }

    /// A discard was answered: what has been signed so far for this peer must not be sent any more.
    pub fn discards(&self, from: &str, to: &str) {
        let signed = lock(&self.revocations).remove(&(from.to_owned(), to.to_owned())).unwrap_or_default();
        lock(&self.discarded).extend(signed);
    }

    /// Whether this envelope's owner has been told that it is discarded.
    pub fn is_discarded(&self, envelope_nonce: &str) -> bool {
        lock(&self.discarded).contains(envelope_nonce)
    }

    /// A node has sent this.
    pub fn sent(&self, node: usize, envelope: &EnvelopeName) {
        let known = lock(&self.signed).contains(envelope);
        self.check(Invariant::OnlySigned, known, || {
            format!(
                "node {node} sent an envelope from {} to {} that its user has not signed",
                envelope.from, envelope.to
            )
        });
    }

    /// A node has accepted a request with this nonce.
    pub fn accepted(&self, node: usize, transport_nonce: &str) {
        let times = {
            let mut accepted = lock(&self.accepted);
            let times = accepted.entry((node, transport_nonce.to_owned())).or_default();
            *times += 1;
            *times
        };
        self.check(Invariant::NonceOnce, times == 1, || {
            format!("node {node} accepted the request with the nonce {transport_nonce} {times} times")
        });
    }

    /// A node has lost its memory, and with it what it has accepted.
    pub fn forgets(&self, node: usize) {
        lock(&self.accepted).retain(|(of, _), _| *of != node);
    }
}

/// Nobody panics while holding one of these, and if so there is nothing to protect any more.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
