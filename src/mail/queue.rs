//! Letters that wait to be sent. Whoever hands one over goes on at once, so no answer shows how long a mail
//! server took, or that there was a letter at all. One task sends them, a few at a time.
//!
//! They wait in memory only. A stopping node sends what it has taken before it ends; a node that is killed
//! does not, and the code has to be asked for again.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use vellum_actors::sign_in::{CodeLetter, LetterPlace, Mailer};

use super::Post;

/// Letters that may wait. Beyond that nobody gets a code until some have gone.
const MOST_LETTERS: usize = 256;
/// Letters to addresses without an account among them. Beyond that such a letter is dropped, and
/// its sender is answered as ever: made-up addresses must not keep owners from their codes.
const MOST_TO_STRANGERS: usize = MOST_LETTERS / 2;
/// Letters sent at a time: one that hangs holds up no other.
const AT_A_TIME: usize = 4;

/// Where letters are handed over.
pub struct LetterBox {
    letters: mpsc::Sender<Waiting>,
    to_strangers: Arc<Semaphore>,
}

/// A letter, and its place among those to addresses without an account.
type Waiting = (CodeLetter, Option<OwnedSemaphorePermit>);

/// The task that sends them.
pub struct Postman {
    task: JoinHandle<()>,
    close: oneshot::Sender<()>,
}

/// Starts the task that sends what is put into the box.
#[must_use]
pub fn open(post: Post) -> (LetterBox, Postman) {
    let (sender, letters) = mpsc::channel(MOST_LETTERS);
    let (close, closed) = oneshot::channel();
    let to_strangers = Arc::new(Semaphore::new(MOST_TO_STRANGERS));
    (
        LetterBox { letters: sender, to_strangers },
        Postman { task: tokio::spawn(send_all(post, letters, closed)), close },
    )
}

async fn send_all(post: Post, mut letters: mpsc::Receiver<Waiting>, closed: oneshot::Receiver<()>) {
    let post = Arc::new(post);
    let mut closed = closed.fuse();
    let next = stream::poll_fn(|task| {
        if closed.poll_unpin(task) != Poll::Pending {
            letters.close();
        }
        letters.poll_recv(task)
    });
    next.for_each_concurrent(AT_A_TIME, |(letter, _place)| {
        let post = Arc::clone(&post);
        async move {
            if let Err(error) = post.send(&letter).await {
                // Told to the operator; whoever asked for the letter has been answered.
                tracing::error!(error = format!("{error:#}"), "a one-time code could not be sent");
            }
        }
    })
    .await;
}

impl Mailer for LetterBox {
    fn place(&self) -> Option<LetterPlace> {
        let place = self.letters.clone().try_reserve_owned().ok()?;
        let to_strangers = Arc::clone(&self.to_strangers);
        Some(Box::new(move |letter| {
            if letter.has_account {
                drop(place.send((letter, None)));
            } else if let Ok(permit) = to_strangers.try_acquire_owned() {
                drop(place.send((letter, Some(permit))));
            } else {
                tracing::debug!("email dropped: too many wait for addresses without an account");
            }
        }))
    }
}

impl Postman {
    /// Takes no more letters, and waits until those that were taken have been sent, at most as long as
    /// `limit`.
    pub async fn finish(self, limit: Duration) {
        // If the task has ended already, there is nobody to be told.
        let _ = self.close.send(());
        let Self { mut task, .. } = self;
        match tokio::time::timeout(limit, &mut task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "sending letters broke off"),
            Err(_) => {
                task.abort();
                tracing::error!("letters with one-time codes could not be sent before the node stopped");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use vellum_protocol::UnixMillis;

    use super::*;

    #[test]
    fn letters_to_addresses_without_an_account_leave_half_of_the_places_to_the_others() {
        let (sender, mut letters) = mpsc::channel(MOST_LETTERS);
        let letter_box =
            LetterBox { letters: sender, to_strangers: Arc::new(Semaphore::new(MOST_TO_STRANGERS)) };
        let hand_over = |has_account| {
            let place = letter_box.place().expect("a place, whoever the letter is for");
            place(CodeLetter {
                to: "a@b.example".into(),
                code: "01234567".into(),
                long_code: "ABCDEFGHIJKLMNOPQRST".into(),
                language: "en-US".into(),
                sent_at: UnixMillis(0),
                has_account,
            });
        };
        for _ in 0..2 * MOST_LETTERS {
            hand_over(false);
        }
        assert_eq!(letters.len(), MOST_TO_STRANGERS, "the others are dropped");
        for _ in MOST_TO_STRANGERS..MOST_LETTERS {
            hand_over(true);
        }
        assert!(letter_box.place().is_none(), "all places are taken");
        drop(letters.try_recv().expect("a letter to a stranger"));
        hand_over(false);
        assert_eq!(letters.len(), MOST_LETTERS);
    }
}
