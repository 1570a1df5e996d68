//! Letters that wait to be sent. Whoever hands one over goes on at once, so no answer shows how long a mail
//! server took, or that there was a letter at all. One task sends them, a few at a time.
//!
//! They wait in memory only. A stopping node sends what it has taken before it ends; a node that is killed
//! does not, and the code has to be asked for again.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use vellum_actors::sign_in::{CodeLetter, LetterPlace, Mailer};

use super::Post;

/// Letters that may wait. Beyond that nobody gets a code until some have gone.
const MOST_LETTERS: usize = 256;
/// Letters sent at a time: one that hangs holds up no other.
const AT_A_TIME: usize = 4;

/// Where letters are handed over.
pub struct LetterBox(mpsc::Sender<CodeLetter>);

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
    (LetterBox(sender), Postman { task: tokio::spawn(send_all(post, letters, closed)), close })
}

async fn send_all(post: Post, mut letters: mpsc::Receiver<CodeLetter>, closed: oneshot::Receiver<()>) {
    let post = Arc::new(post);
    let mut closed = closed.fuse();
    let next = stream::poll_fn(|task| {
        if closed.poll_unpin(task) != Poll::Pending {
            letters.close();
        }
        letters.poll_recv(task)
    });
    next.for_each_concurrent(AT_A_TIME, |letter| {
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
        let place = self.0.clone().try_reserve_owned().ok()?;
        Some(Box::new(move |letter| drop(place.send(letter))))
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
