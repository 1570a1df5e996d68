//! What a change is about, and so beside which others it may be run (see `abreast`).

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use crate::UserId;

/// What a change concerns, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Concern {
    /// An account, but for the ways into it; what a session was shown of the account's keys belongs
    /// to the account.
    User(UserId),
    /// Whoever signs in with this e-mail address, folded.
    Address(String),
    /// One leased row of an account's outbox, and the record of the peer that it is for. No two changes are about the same row.
    LeasedRow(UserId),
}

impl From<&UserId> for Concern {
    fn from(user: &UserId) -> Self {
        Self::User(user.clone())
    }
}

/// What the changes that are run side by side concern.
#[derive(Default)]
pub(crate) struct Taken {
    users: HashMap<UserId, Beside>,
    addresses: HashSet<String>,
}

/// What may still be run beside the changes about one user.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    /// Others that are about a row each: they all are so far.
    Rows,
    Nothing,
}

impl Taken {
    /// Whether a change may be run beside those before; it is one of them, then. If not, none that comes later is run
    /// before it.
    pub fn take(&mut self, whom: &Concern) -> bool {
        let (user, beside) = match whom {
            Concern::Address(address) => return self.addresses.insert(address.clone()),
            Concern::User(user) => (user, Beside::Nothing),
            Concern::LeasedRow(user) => (user, Beside::Rows),
        };
        match self.users.entry(user.clone()) {
            Entry::Vacant(free) => {
                free.insert(beside);
                true
            }
            Entry::Occupied(others) if (*others.get(), beside) == (Beside::Rows, Beside::Rows) => true,
            Entry::Occupied(mut others) => {
                others.insert(Beside::Nothing);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: fn(UserId) -> Concern, user: &str) -> Concern {
        kind(UserId::from(user.to_owned()))
    }

    fn taken(all: &[Concern]) -> Vec<bool> {
        let mut taken = Taken::default();
        all.iter().map(|whom| taken.take(whom)).collect()
    }

    #[test]
    fn each_user_and_each_address_has_one_place() {
        let all = [
            of(Concern::User, "ann"),
            of(Concern::User, "bob"),
            of(Concern::User, "ann"),
            Concern::Address("ann".into()),
            Concern::Address("ann".into()),
        ];
        assert_eq!(taken(&all), [true, true, false, true, false]);
    }

    #[test]
    fn rows_of_one_user_are_beside_each_other_and_beside_no_other_change_of_theirs() {
        let (row, user) = (of(Concern::LeasedRow, "ann"), of(Concern::User, "ann"));
        assert_eq!(taken(&[row.clone(), row.clone(), of(Concern::User, "bob")]), [true, true, true]);
        assert_eq!(taken(&[user.clone(), row.clone(), row.clone()]), [true, false, false]);
        assert_eq!(taken(&[row.clone(), user, row]), [true, false, false], "the last one does not overtake");
    }
}
