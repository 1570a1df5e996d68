//! Connections that are lent out and come back: so many at most, the last one back first.
//!
//! A connection that comes back is not asked whether it still works: on PostgreSQL that would be a
//! round trip for each use. Who borrows one is ready for one that has died.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::StoreError;

/// How long a connection is waited for.
pub(crate) const ACQUIRE: Duration = Duration::from_secs(5);
/// How long a connection is kept that nobody uses. Networks forget silent ones.
const IDLE: Duration = Duration::from_secs(300);

/// Connections of one kind. Clones share them.
#[derive(Debug)]
pub(crate) struct Pool<C> {
    free: Arc<Free<C>>,
    places: Arc<Semaphore>,
    size: u32,
}

type Free<C> = Mutex<Vec<(C, Instant)>>;

impl<C> Clone for Pool<C> {
    fn clone(&self) -> Self {
        Self { free: Arc::clone(&self.free), places: Arc::clone(&self.places), size: self.size }
    }
}

impl<C> Pool<C> {
    pub fn new(size: u32) -> Self {
        let places = usize::try_from(size).unwrap_or(usize::MAX);
        Self { free: Arc::new(Mutex::default()), places: Arc::new(Semaphore::new(places)), size }
    }

    /// A connection that is free, or a new one.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when all are in use for five seconds, [`StoreError::Closed`] after
    /// [`Pool::close`], and whatever `open` returns.
    pub async fn check_out(
        &self,
        open: impl Future<Output = Result<C, StoreError>>,
    ) -> Result<Lent<C>, StoreError> {
        let place = timeout(ACQUIRE, Arc::clone(&self.places).acquire_owned()).await;
        let place = place.map_err(|_| StoreError::Busy)?.map_err(|_| StoreError::Closed)?;
        let found = lock(&self.free).pop();
        let is_new = found.is_none();
        let connection = match found {
            Some((connection, _)) => connection,
            None => open.await?,
        };
        let free = Arc::clone(&self.free);
        Ok(Lent { connection: Some(connection), is_new, under_way: false, free, _place: place })
    }

    /// How many connections are open, lent ones included.
    pub fn open_connections(&self) -> u32 {
        let free = u32::try_from(lock(&self.free).len()).unwrap_or(u32::MAX);
        let lent =
            self.size - u32::try_from(self.places.available_permits()).unwrap_or(u32::MAX).min(self.size);
        free + lent
    }

    /// Whether every connection is in use.
    pub fn is_exhausted(&self) -> bool {
        self.places.available_permits() == 0
    }

    /// Closes the connections that nobody uses.
    pub fn clear(&self) {
        lock(&self.free).clear();
    }

    /// Waits until every connection is back, and closes all.
    pub async fn close(&self) {
        if let Ok(places) = self.places.acquire_many(self.size).await {
            self.places.close();
            drop(places);
        }
        self.clear();
    }
}

fn lock<C>(free: &Free<C>) -> MutexGuard<'_, Vec<(C, Instant)>> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection on loan; it goes back when this is dropped.
#[derive(Debug)]
pub(crate) struct Lent<C> {
    connection: Option<C>,
    /// Whether it was opened for this loan.
    pub is_new: bool,
    /// Whether something has been asked and not answered. A connection that is dropped then has
    /// somebody else's answer under way, and is closed.
    pub under_way: bool,
    free: Arc<Free<C>>,
    _place: OwnedSemaphorePermit,
}

impl<C> Lent<C> {
    /// Closes the connection, which undoes what is under way there.
    pub fn discard(mut self) {
        self.connection = None;
    }

    /// Puts a new connection in the place of one that has died.
    pub fn replace(&mut self, connection: C) {
        self.connection = Some(connection);
        self.is_new = true;
        self.under_way = false;
    }
}

impl<C> Deref for Lent<C> {
    type Target = C;
    fn deref(&self) -> &C {
        self.connection.as_ref().expect("only a loan that ends has none")
    }
}

impl<C> DerefMut for Lent<C> {
    fn deref_mut(&mut self) -> &mut C {
        self.connection.as_mut().expect("only a loan that ends has none")
    }
}

impl<C> Drop for Lent<C> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take().filter(|_| !self.under_way) {
            let now = Instant::now();
            let mut free = lock(&self.free);
            free.retain(|(_, since)| now.duration_since(*since) < IDLE);
            free.push((connection, now));
        }
    }
}
