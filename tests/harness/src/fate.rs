//! What became of a request: done, refused, or nobody knows.

use vellum_client::{ClientError, Problem};

use crate::ledger::{Invariant, Ledger};

/// The status with which a node gives up reading a request.
pub const TOO_SLOW: u16 = 408;

/// What became of a request.
#[derive(Debug)]
pub enum Fate<T> {
    /// It was done.
    Done(T),
    /// It was refused, so nothing has changed.
    Refused(Box<Problem>),
    /// Nobody knows.
    Unknown,
}

impl<T> Fate<T> {
    /// Judges an answer. A node in trouble (5xx, or 408 when it was too slow to read) says nothing about what it has done.
    pub fn of(answer: Result<T, ClientError>, ledger: &Ledger) -> Self {
        match answer {
            Ok(value) => Self::Done(value),
            Err(ClientError::Refused(problem)) if problem.status < 500 && problem.status != TOO_SLOW => {
                Self::Refused(problem)
            }
            Err(ClientError::UnexpectedAnswer { status, reason }) => {
                ledger.broken(
                    Invariant::NoStrangeRefusal,
                    format!("an answer with status {status} is not understood: {reason}"),
                );
                Self::Unknown
            }
            Err(_) => Self::Unknown,
        }
    }

    /// What there is to go on with.
    pub fn done(self) -> Option<T> {
        match self {
            Self::Done(value) => Some(value),
            _ => None,
        }
    }
}
