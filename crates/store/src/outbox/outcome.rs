//! How an attempt to deliver ends: one type, from the peer's answer to the row's owner.

use vellum_protocol::UnixMillis;

use super::Leased;
use crate::statement::Statement;
use crate::{StoreError, Tx};

/// How an attempt to deliver an envelope has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The peer has carried it out.
    Delivered {
        /// Whether the peer says that the two are friends now, since both had invited each other.
        friends: bool,
    },
    /// The peer refuses for good.
    Rejected {
        /// The peer's words.
        reason: String,
    },
    /// Another attempt follows.
    Retry(Retry),
    /// The owner took the row back.
    Withdrawn,
}

/// Why an attempt failed, and when the next one is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// What went wrong, in words for the owner and the operator.
    pub reason: String,
    /// The same for operators alone, where the owner is not told everything.
    pub cause: Option<String>,
    /// What has failed.
    pub scope: FailureScope,
    /// No attempt before this time: first what the peer asked for, then what the retry policy says.
    pub at: Option<UnixMillis>,
    /// Whether the peer may have carried it out: the answer was lost, or made no sense.
    pub maybe_arrived: bool,
}

/// What a failed attempt says something about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureScope {
    /// This envelope: the peer's node has refused it.
    Envelope,
    /// The peer or the way to it: every other envelope would fail as well.
    Peer,
    /// This node: it says nothing of peer or envelope.
    Node,
}

impl Outcome {
    /// The word that nodes on one database send each other.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered { .. } => "delivered",
            Self::Rejected { .. } => "rejected",
            Self::Retry(_) => "postponed",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// Reads the word. Reasons and times are in the row, not in the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let (reason, scope) = (String::new(), FailureScope::Envelope);
        let retry = Retry { reason: String::new(), cause: None, scope, at: None, maybe_arrived: false };
        [Self::Delivered { friends: false }, Self::Rejected { reason }, Self::Retry(retry), Self::Withdrawn]
            .into_iter()
            .find(|outcome| outcome.as_str() == word)
    }
}

/// Records how an attempt ended, if its lease token still stands. Returns whether it did; if not,
/// nothing changed.
pub async fn record_outcome(
    tx: &mut Tx,
    leased: &Leased,
    outcome: &Outcome,
    now: UnixMillis,
) -> Result<bool, StoreError> {
    let change = match outcome {
        // Owners see a list of revocations only, so no other refusal is kept.
        Outcome::Rejected { reason } if leased.subject.is_empty() => {
            let reject = Statement::new(
                "update outbox set state = 'rejected', last_error = $1, last_attempt_at = $2,
                     attempts = attempts + 1, next_attempt_at = null, lease_holder = null, lease_until = null
                 where id = $3 and lease_holder = $4",
            );
            reject.bind(reason).bind(now)
        }
        Outcome::Delivered { .. } | Outcome::Rejected { .. } => {
            Statement::new("delete from outbox where id = $1 and lease_holder = $2")
        }
        Outcome::Retry(retry) => {
            let postpone = Statement::new(
                "update outbox set state = 'queued', last_error = $1, last_attempt_at = $2,
                     attempts = attempts + 1, refusals = refusals + $3, next_attempt_at = $4,
                     maybe_arrived = case when $5 = 1 then 1 else maybe_arrived end,
                     lease_holder = null, lease_until = null
                 where id = $6 and lease_holder = $7",
            );
            let postpone = postpone.bind(&retry.reason).bind(now);
            let postpone = postpone.bind(i64::from(retry.scope == FailureScope::Envelope));
            postpone.bind(retry.at.unwrap_or(now)).bind(i64::from(retry.maybe_arrived))
        }
        // The row is gone already.
        Outcome::Withdrawn => return Ok(false),
    };
    Ok(tx.change(change.bind(&leased.id).bind(&leased.token)).await? == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_reads_as_the_word_that_it_is_sent_as() {
        for word in ["delivered", "rejected", "postponed", "withdrawn"] {
            assert_eq!(Outcome::parse(word).map(|outcome| outcome.as_str()), Some(word));
        }
        assert_eq!(Outcome::parse("lost"), None);
    }
}
