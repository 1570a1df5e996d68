//! What nodes on one database tell each other at once, by PostgreSQL's `LISTEN` and `NOTIFY`.
//!
//! A signal is sent by a transaction and heard when that is committed, so it never runs ahead of what it is
//! about. It may be missed (a connection broke), so nothing rests on it: whoever waits for one has another
//! way to find out, only later. Where nobody else is on the database nothing is sent.

use sqlx::postgres::PgListener;

use crate::postgres::Postgres;
use crate::statement::Statement;
use crate::{OutboxId, StoreError, Tx};

/// The channel. Nodes on one database are one node to the world, so there is only one.
const CHANNEL: &str = "vellum";

/// What a node tells the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// A row was removed that a node may have in hand: it is to stop.
    Withdraw {
        /// The row.
        row: OutboxId,
        /// The node that has leased it.
        holder: String,
    },
    /// It has stopped, if it had it in hand.
    Withdrawn {
        /// The row.
        row: OutboxId,
        /// The node that says so.
        holder: String,
    },
    /// An attempt with a row has ended.
    Outcome {
        /// The row.
        row: OutboxId,
        /// How.
        word: String,
        /// The node that made it.
        holder: String,
    },
}

impl Signal {
    fn to_text(&self) -> String {
        match self {
            Self::Withdraw { row, holder } => format!("withdraw {row} {holder}"),
            Self::Withdrawn { row, holder } => format!("withdrawn {row} {holder}"),
            Self::Outcome { row, word, holder } => format!("outcome {row} {holder} {word}"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let row = |id: &str| OutboxId::from(id.to_owned());
        match words[..] {
            ["withdraw", id, holder] => Some(Self::Withdraw { row: row(id), holder: holder.to_owned() }),
            ["withdrawn", id, holder] => Some(Self::Withdrawn { row: row(id), holder: holder.to_owned() }),
            ["outcome", id, holder, word] => {
                Some(Self::Outcome { row: row(id), word: word.to_owned(), holder: holder.to_owned() })
            }
            _ => None,
        }
    }
}

/// Tells the other nodes on this database, once this transaction is committed.
pub async fn send(tx: &mut Tx, signal: &Signal) -> Result<(), StoreError> {
    let notify = Statement::new("select pg_notify($1, $2)").bind(CHANNEL).bind(signal.to_text());
    if tx.is_sqlite() { Ok(()) } else { tx.change(notify).await.map(drop) }
}

/// What other nodes tell, and what this one does.
#[derive(Debug)]
pub struct Signals(PgListener);

impl Signals {
    pub(crate) async fn listen(database: &Postgres) -> Result<Self, StoreError> {
        Ok(Self(database.listen(CHANNEL).await?))
    }

    /// The next signal. After a break it goes on with what is told from then on.
    ///
    /// # Errors
    /// When the database cannot be reached; another call tries again.
    pub async fn next(&mut self) -> Result<Signal, StoreError> {
        loop {
            let told = self.0.recv().await?;
            match Signal::parse(told.payload()) {
                Some(signal) => return Ok(signal),
                // A newer version of the node may say more.
                None => tracing::debug!("another node told something that this version does not know"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_reads_as_it_is_written() {
        let id = OutboxId::generate();
        for signal in [
            Signal::Withdraw { row: id.clone(), holder: "a".into() },
            Signal::Withdrawn { row: id.clone(), holder: "a".into() },
            Signal::Outcome { row: id, word: "delivered".into(), holder: "a".into() },
        ] {
            assert_eq!(Signal::parse(&signal.to_text()), Some(signal));
        }
        for unknown in ["", "withdraw", "outcome 1 a", "withdraw 1 2 3", "something 1"] {
            assert_eq!(Signal::parse(unknown), None, "{unknown}");
        }
    }
}
