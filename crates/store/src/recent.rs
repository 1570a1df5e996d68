//! What was read a moment ago, kept in memory: the sessions and users that requests ask for again and again. SQLite only, where
//! this process is the one that changes them; nodes that share a PostgreSQL could not tell each other in time.
//!
//! Nothing here is ever older than an answered change. Functions that change a user, or what belongs to one, say so
//! ([`Tx::touch`](crate::Tx)). After the commit, and before anybody is answered, the writer tells it to
//! [`Recent::forget`], which moves on a counter that the user shares with some others; what was kept under an earlier count is
//! not used again. A reader takes the counts before it reads, so that a commit in between keeps what it has read from being kept.
//!
//! Another program that changes the file is noticed after [`LONGEST_KEPT`]. The commands of `vellum` only add
//! users and sessions, and what is not there is not kept.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use crate::UserId;
use crate::sessions::{Known, TokenHash};
use crate::users::User;

/// How long a row is used without being read again.
const LONGEST_KEPT: Duration = Duration::from_secs(1);
/// How many rows of each kind are kept: those of everybody who is likely to ask within [`LONGEST_KEPT`]. A user takes about 500
/// bytes, a session a little more.
const MOST_KEPT: usize = 8192;
/// Counters that users share, by chance. With so many, a change makes one in a thousand others be read again.
const COUNTERS: usize = 1024;

/// Rows read lately. Clones share them.
#[derive(Clone)]
pub(crate) struct Recent(Arc<Kept>);

struct Kept {
    sessions: Cache<TokenHash, Row<Known>>,
    users: Cache<UserId, Row<User>>,
    /// By folded alias.
    aliases: Cache<String, Row<User>>,
    /// How many commits have touched anybody.
    commits: AtomicU64,
    /// How many have touched somebody of this number.
    touched: Box<[AtomicU64]>,
    numbers: RandomState,
}

/// A row with what has to be true for it to be used.
struct Row<T> {
    value: Arc<T>,
    owner: usize,
    count: u64,
    read_at: Instant,
}

impl<T> Clone for Row<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), ..*self }
    }
}

/// The moment before a read: what is read after it may be kept if nothing was touched in between.
#[derive(Clone, Copy)]
pub(crate) struct Before {
    commits: u64,
    at: Instant,
}

impl Recent {
    pub fn new() -> Self {
        let touched = (0..COUNTERS).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Kept {
            sessions: Cache::new(MOST_KEPT),
            users: Cache::new(MOST_KEPT),
            aliases: Cache::new(MOST_KEPT),
            commits: AtomicU64::new(0),
            touched,
            numbers: RandomState::new(),
        }))
    }

    pub fn session(&self, token: &TokenHash) -> Option<Arc<Known>> {
        self.current(self.0.sessions.get(token)?)
    }

    pub fn user(&self, id: &UserId) -> Option<Arc<User>> {
        self.current(self.0.users.get(id)?)
    }

    pub fn user_by_alias(&self, folded: &str) -> Option<Arc<User>> {
        self.current(self.0.aliases.get(folded)?)
    }

    /// To be called before a read whose outcome is to be kept.
    pub fn before(&self) -> Before {
        Before { commits: self.0.commits.load(Ordering::SeqCst), at: Instant::now() }
    }

    pub fn keep_session(&self, before: Before, token: &TokenHash, known: &Arc<Known>) {
        if let Some(row) = self.row(before, &known.session.user_id, known) {
            self.0.sessions.insert(*token, row);
        }
    }

    pub fn keep_user(&self, before: Before, user: &Arc<User>) {
        if let Some(row) = self.row(before, &user.id, user) {
            self.0.users.insert(user.id.clone(), row);
        }
    }

    pub fn keep_alias(&self, before: Before, folded: &str, user: &Arc<User>) {
        if let Some(row) = self.row(before, &user.id, user) {
            self.0.aliases.insert(folded.to_owned(), row);
        }
    }

    /// To be called after a commit that touched these users, before anybody hears of it. Nothing that was read before it
    /// is used from now on.
    pub fn forget(&self, touched: &[UserId]) {
        if touched.is_empty() {
            return;
        }
        // In this order: whoever sees a counter of the new count sees also that there was a commit.
        self.0.commits.fetch_add(1, Ordering::SeqCst);
        for user in touched {
            self.0.touched[self.number(user)].fetch_add(1, Ordering::SeqCst);
        }
    }

    fn number(&self, user: &UserId) -> usize {
        // Below COUNTERS, so it is a usize.
        usize::try_from(self.0.numbers.hash_one(user) % COUNTERS as u64).unwrap_or(0)
    }

    fn current<T>(&self, row: Row<T>) -> Option<Arc<T>> {
        let untouched = self.0.touched[row.owner].load(Ordering::SeqCst) == row.count;
        (untouched && row.read_at.elapsed() < LONGEST_KEPT).then_some(row.value)
    }

    fn row<T>(&self, before: Before, owner: &UserId, value: &Arc<T>) -> Option<Row<T>> {
        let owner = self.number(owner);
        let count = self.0.touched[owner].load(Ordering::SeqCst);
        let row = Row { value: value.clone(), owner, count, read_at: before.at };
        (self.0.commits.load(Ordering::SeqCst) == before.commits).then_some(row)
    }
}
