//! Bytes of request bodies that the node holds at once: a bound for all, one for each user, and one
//! for each address that sends without a session.
//!
//! A body counts with what has come of it, until the handler is done with it. So an idle connection
//! takes nothing, and a body that drips takes its place from its own sender's other bodies. Users
//! together have three quarters of all, and strangers half: neither shuts the others out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vellum_store::UserId;

use super::error::Problem;

/// Seconds after which a body that found no place may come again.
const COME_AGAIN: u64 = 5;

/// The bounds, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// All bodies together. Those of users have three quarters of it and those without a session
    /// half, so that neither takes all places from the other.
    pub all: usize,
    /// The bodies of one user.
    pub per_user: usize,
    /// The bodies without a session that come from one address.
    pub per_address: usize,
}

impl Bounds {
    /// Raised where they are too low for a single upload of this length.
    #[must_use]
    pub fn for_uploads_of(self, longest_upload: usize) -> Self {
        let per_user = self.per_user.max(longest_upload);
        Self { all: self.all.max(2 * per_user), per_user, ..self }
    }
}

/// Whose body it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Sender {
    /// Somebody with a session.
    User(UserId),
    /// Nobody known, from this address.
    Address(IpAddr),
}

/// The bodies that are held.
#[derive(Clone)]
pub struct BodiesInFlight {
    bounds: Bounds,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    all: usize,
    without_session: usize,
    by_sender: HashMap<Sender, usize>,
}

impl BodiesInFlight {
    /// None is held.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, held: Arc::default() }
    }

    /// The place of a body that has no bytes yet.
    #[must_use]
    pub fn place(&self, sender: Sender) -> Place {
        Place { bodies: self.clone(), sender, bytes: 0 }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one body. It is free again when this is dropped.
pub struct Place {
    bodies: BodiesInFlight,
    sender: Sender,
    bytes: usize,
}

impl Place {
    /// Makes room for a body of this length.
    ///
    /// # Errors
    /// 503 with `Retry-After` when a bound is reached.
    pub fn extend_to(&mut self, length: usize) -> Result<(), Problem> {
        let more = length.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let Bounds { all, per_user, per_address } = self.bodies.bounds;
        let mut held = self.bodies.held();
        let by_sender = held.by_sender.get(&self.sender).copied().unwrap_or_default();
        let is_stranger = matches!(self.sender, Sender::Address(_));
        if by_sender + more > if is_stranger { per_address } else { per_user } {
            let detail = "Too many of your requests are being read. Wait until some are answered.";
            return Err(Problem::unavailable(COME_AGAIN, detail));
        }
        let (of_kind, most) = match is_stranger {
            true => (held.without_session, all / 2),
            false => (held.all - held.without_session, all / 4 * 3),
        };
        if held.all + more > all || of_kind + more > most {
            return Err(Problem::unavailable(COME_AGAIN, "Too many requests are being read."));
        }
        held.all += more;
        held.without_session += if is_stranger { more } else { 0 };
        *held.by_sender.entry(self.sender.clone()).or_default() += more;
        drop(held);
        self.bytes = length;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut held = self.bodies.held();
        held.all -= self.bytes;
        if matches!(self.sender, Sender::Address(_)) {
            held.without_session -= self.bytes;
        }
        if let Some(by_sender) = held.by_sender.get_mut(&self.sender) {
            *by_sender -= self.bytes;
            if *by_sender == 0 {
                held.by_sender.remove(&self.sender);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> BodiesInFlight {
        BodiesInFlight::new(Bounds { all: 100, per_user: 40, per_address: 20 })
    }

    fn user(name: &str) -> Sender {
        Sender::User(UserId::from(name.to_owned()))
    }

    fn address(last: u8) -> Sender {
        Sender::Address(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn each_sender_has_a_bound_and_all_have_one_and_a_place_is_given_back() {
        let bodies = places();
        let mut first = bodies.place(user("a"));
        assert!(first.extend_to(40).is_ok() && first.extend_to(10).is_ok() && first.extend_to(41).is_err());
        assert!(bodies.place(user("a")).extend_to(1).is_err(), "the same user");
        let (mut second, mut third) = (bodies.place(user("b")), bodies.place(user("c")));
        assert!(second.extend_to(35).is_ok() && third.extend_to(1).is_err(), "75 are the most of users");
        let (mut fourth, mut fifth) = (bodies.place(address(1)), bodies.place(address(2)));
        assert!(fourth.extend_to(20).is_ok() && fifth.extend_to(6).is_err(), "100 are the most of all");
        assert!(fifth.extend_to(5).is_ok());
        drop((first, second, third, fourth, fifth));
        assert!(bodies.held().by_sender.is_empty() && bodies.held().all == 0);
        assert!(bodies.place(user("a")).extend_to(40).is_ok());
    }

    #[test]
    fn those_without_a_session_leave_half_of_all_to_users() {
        let bodies = places();
        let mut strangers: Vec<Place> = (0..3).map(|last| bodies.place(address(last))).collect();
        assert!(strangers[0].extend_to(21).is_err(), "one address has 20");
        let taken: Vec<bool> = strangers.iter_mut().map(|place| place.extend_to(20).is_ok()).collect();
        assert_eq!(taken, [true, true, false], "together they have 50");
        let mut users: Vec<Place> = ["a", "b"].map(|name| bodies.place(user(name))).into();
        assert!(users[0].extend_to(40).is_ok() && users[1].extend_to(20).is_ok());
        drop((strangers, users));
        let held = bodies.held();
        assert_eq!((held.all, held.without_session, held.by_sender.len()), (0, 0, 0));
    }

    #[test]
    fn a_bound_is_never_too_low_for_one_upload() {
        let bounds = Bounds { all: 100, per_user: 40, per_address: 20 }.for_uploads_of(1000);
        assert_eq!((bounds.all, bounds.per_user, bounds.per_address), (2000, 1000, 20));
    }
}
