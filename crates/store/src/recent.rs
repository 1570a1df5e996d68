//! What was read a moment ago, kept in memory: the sessions and users that requests ask for again and again. SQLite only, where
//! this process is the one that changes them; nodes that share a PostgreSQL could not tell each other in time.
//!
//! Nothing here is ever older than an answered change. Functions that change a user, or what belongs to one, say so
//! ([`Tx::touch`](crate::Tx)). After the commit, and before anybody is answered, the writer tells it to
//! [`Recent::forget`], which moves on a counter that the user shares with some others; what was kept under an earlier count is
//! not used again. A reader takes the counts before it reads, so that a commit in between keeps what it has read from being kept.
//!
//! Another program may change the file, too. Whoever finds that nobody has looked for that in a while has the writer look, and does
//! not wait for it; what nobody has looked at for longer ([`LONGEST_UNSEEN`]) is not used. So such a change is noticed within a
//! second, and a node that nobody asks does nothing.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use crate::UserId;
use crate::sessions::{Known, TokenHash};
use crate::users::User;

/// How long what another program has changed may go unseen.
const LONGEST_UNSEEN: Duration = Duration::from_secs(1);
/// How long after a look the next one is due.
const LOOK_AFTER: Duration = Duration::from_millis(250);
/// How many rows of each kind are kept: a bound on memory. A user with a session and an alias takes about 1.3 KB, so all of them 43 MB.
const MOST_KEPT: usize = 32_768;
/// Counters that users share, by chance: with so many, a change hardly ever makes others be read again.
const COUNTERS: usize = 32_768;

/// A look for changes of other programs that has begun.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    at: u64,
}

/// Rows read lately. Clones share them.
#[derive(Clone)]
pub(crate) struct Recent(Arc<Kept>);

struct Kept {
    sessions: Cache<TokenHash, Row<Known>>,
    users: Cache<UserId, Row<User>>,
    /// By folded alias: which of `users` it is.
    aliases: Cache<String, Row<UserId>>,
    /// Of what `sessions` has.
    access: Touches,
    /// Of what `users` and `aliases` have.
    identities: Touches,
    /// How many changes of other programs have been seen.
    foreign: AtomicU64,
    numbers: RandomState,
    started: Instant,
    /// When the writer last looked for changes of other programs, in milliseconds since the start; 0 for never.
    looked_at: AtomicU64,
    /// Whether it has been told to look again.
    look_is_due: AtomicBool,
}

/// What of a user a change has touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Sessions, and what the user may do.
    Access,
    /// The user's own row.
    Identity,
}

/// How often something was touched.
struct Touches {
    /// By how many commits, whosever it was.
    commits: AtomicU64,
    /// By how many, of users with this number.
    counts: Box<[AtomicU64]>,
}

impl Touches {
    fn new() -> Self {
        Self { commits: AtomicU64::new(0), counts: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect() }
    }
}

/// A row with what has to be true for it to be used.
struct Row<T> {
    value: Arc<T>,
    owner: usize,
    count: u64,
    foreign: u64,
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
    foreign: u64,
}

impl Recent {
    pub fn new() -> Self {
        Self(Arc::new(Kept {
            sessions: Cache::new(MOST_KEPT),
            users: Cache::new(MOST_KEPT),
            aliases: Cache::new(MOST_KEPT),
            access: Touches::new(),
            identities: Touches::new(),
            foreign: AtomicU64::new(0),
            numbers: RandomState::new(),
            started: Instant::now(),
            looked_at: AtomicU64::new(0),
            look_is_due: AtomicBool::new(false),
        }))
    }

    pub fn session(&self, token: &TokenHash) -> Option<Arc<Known>> {
        self.current(&self.0.access, self.0.sessions.get(token)?)
    }

    pub fn user(&self, id: &UserId) -> Option<Arc<User>> {
        self.current(&self.0.identities, self.0.users.get(id)?)
    }

    pub fn user_by_alias(&self, folded: &str) -> Option<Arc<User>> {
        self.user(&*self.current(&self.0.identities, self.0.aliases.get(folded)?)?)
    }

    /// To be called before a read of this part of somebody, if its outcome is to be kept.
    pub fn before(&self, part: Part) -> Before {
        let commits = self.touches(part).commits.load(Ordering::SeqCst);
        Before { commits, foreign: self.0.foreign.load(Ordering::SeqCst) }
    }

    fn touches(&self, part: Part) -> &Touches {
        match part {
            Part::Access => &self.0.access,
            Part::Identity => &self.0.identities,
        }
    }

    pub fn keep_session(&self, before: Before, token: &TokenHash, known: &Arc<Known>) {
        if let Some(row) = self.row(&self.0.access, before, &known.session.user_id, known) {
            self.0.sessions.insert(*token, row);
        }
    }

    pub fn keep_user(&self, before: Before, user: &Arc<User>) {
        if let Some(row) = self.row(&self.0.identities, before, &user.id, user) {
            self.0.users.insert(user.id.clone(), row);
        }
    }

    /// Keeps a user that was read by alias, under both names.
    pub fn keep_alias(&self, before: Before, folded: String, user: &Arc<User>) {
        self.keep_user(before, user);
        if let Some(row) = self.row(&self.0.identities, before, &user.id, &Arc::new(user.id.clone())) {
            self.0.aliases.insert(folded, row);
        }
    }

    /// To be called after a commit that touched these parts of users, before anybody hears of it. Nothing of them that was
    /// read before it is used from now on.
    pub fn forget(&self, touched: &[(UserId, Part)]) {
        for part in [Part::Access, Part::Identity] {
            let touches = self.touches(part);
            let mut users = touched.iter().filter(|(_, of)| *of == part).peekable();
            if users.peek().is_some() {
                // In this order: whoever sees a counter of the new count sees also that there was a commit.
                touches.commits.fetch_add(1, Ordering::SeqCst);
            }
            for (user, _) in users {
                touches.counts[self.number(user)].fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// Whether it is time to have the writer look for changes of other programs. Says so once until it has.
    pub fn is_look_due(&self) -> bool {
        self.since_look() >= LOOK_AFTER && !self.0.look_is_due.swap(true, Ordering::SeqCst)
    }

    /// To be called before the writer looks.
    pub fn looking(&self) -> Look {
        Look { at: self.millis() }
    }

    /// To be called when it has looked. Nothing that was kept before is used any more if another program `has_changed` something.
    pub fn looked(&self, look: Look, has_changed: bool) {
        if has_changed {
            self.0.foreign.fetch_add(1, Ordering::SeqCst);
        }
        self.0.looked_at.store(look.at, Ordering::SeqCst);
        self.0.look_is_due.store(false, Ordering::SeqCst);
    }

    /// To be called when it could not look.
    pub fn look_again(&self) {
        self.0.look_is_due.store(false, Ordering::SeqCst);
    }

    fn since_look(&self) -> Duration {
        match self.0.looked_at.load(Ordering::SeqCst) {
            0 => Duration::MAX,
            at => Duration::from_millis(self.millis().saturating_sub(at)),
        }
    }

    /// Never 0.
    fn millis(&self) -> u64 {
        u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn number(&self, user: &UserId) -> usize {
        // Below COUNTERS, so it is a usize.
        usize::try_from(self.0.numbers.hash_one(user) % COUNTERS as u64).unwrap_or(0)
    }

    fn current<T>(&self, touches: &Touches, row: Row<T>) -> Option<Arc<T>> {
        let untouched = touches.counts[row.owner].load(Ordering::SeqCst) == row.count
            && self.0.foreign.load(Ordering::SeqCst) == row.foreign;
        (untouched && self.since_look() < LONGEST_UNSEEN).then_some(row.value)
    }

    fn row<T>(&self, touches: &Touches, before: Before, owner: &UserId, value: &Arc<T>) -> Option<Row<T>> {
        let owner = self.number(owner);
        let count = touches.counts[owner].load(Ordering::SeqCst);
        let row = Row { value: value.clone(), owner, count, foreign: before.foreign };
        (touches.commits.load(Ordering::SeqCst) == before.commits).then_some(row)
    }
}
