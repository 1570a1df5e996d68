//! Signing in: one-time codes by mail, and sessions.
//!
//! These do not pass through a user's actor, since it is not known yet who the user is; the database is
//! the guard (a code has a few tries and works once). Codes and tokens are kept as hashes only. Whether an
//! address has an account is not told: the answers are the same, and so is the work behind them.

use std::sync::Arc;

use futures_util::FutureExt;
use rand::RngExt;
use secrecy::{ExposeSecret, SecretBox, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use vellum_protocol::UnixMillis;
use vellum_store::sessions::{Known, Session, TokenHash};
use vellum_store::users::{self, NewUser, User};
use vellum_store::{
    Concern, SessionId, StoreError, Tx, UserId, one_time_codes, preferences, roles, sessions,
};

use crate::accounts;
use crate::node::Node;
use crate::{Clock, Error};

/// How long a code works.
pub const CODE_MILLIS: i64 = 15 * 60_000;
/// How often a code may be tried.
const CODE_TRIES: u32 = 5;
/// Codes have 8 digits.
const CODES: u32 = 100_000_000;
/// How long a session lasts; used in its second half, it begins anew.
const SESSION_MILLIS: i64 = 30 * 24 * 3_600_000;
/// The longest name of a client that is kept.
const LONGEST_USER_AGENT: usize = 300;

/// How signing in works on this node.
#[derive(Clone)]
pub struct SignInSettings {
    /// Whether a code for an unknown address makes an account.
    pub open_registration: bool,
    /// What the hashes of codes are keyed with: eight digits alone would be found by trying them all.
    pub code_key: Arc<SecretBox<[u8; 32]>>,
}

impl std::fmt::Debug for SignInSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignInSettings")
            .field("open_registration", &self.open_registration)
            .finish_non_exhaustive()
    }
}

/// A letter with a one-time code.
#[derive(Debug)]
pub struct CodeLetter {
    /// The address.
    pub to: String,
    /// The code: eight digits.
    pub code: SecretString,
    /// The language that its reader prefers: a BCP 47 tag.
    pub language: String,
    /// When it was made.
    pub sent_at: UnixMillis,
}

/// Sends letters, later than they are handed to it: how long that takes must not show in an answer. Trouble
/// with it is in the log.
pub trait Mailer: Send + Sync + 'static {
    /// A place for one letter; `None` while too many wait.
    fn place(&self) -> Option<LetterPlace>;
}

/// Takes one letter, which is then on its way. Not using it frees the place.
pub type LetterPlace = Box<dyn FnOnce(CodeLetter) + Send>;

/// Where a session is opened from.
#[derive(Debug, Clone, Default)]
pub struct Device {
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// Its address.
    pub ip: Option<String>,
    /// The name that the device has chosen for itself, for its wrap secret.
    pub device_id: Option<String>,
}

/// A session just opened. Only its holder ever sees the token.
pub struct Opened {
    /// What the client presents from now on.
    pub token: SecretString,
    /// Who signed in.
    pub user: User,
    /// The session.
    pub session: Session,
}

/// Sends a one-time code to the address, if it has an account or registration is open. Does the same
/// otherwise, but for the letter: it takes a place among the letters and stores a code that nobody knows.
/// So neither the answer nor its time tells the two apart.
///
/// # Errors
/// [`Error::TooManyLetters`], whoever's address it is; what the database says.
pub async fn request_code(node: &Node, email: &str) -> Result<(), Error> {
    let place = node.mailer.place().ok_or(Error::TooManyLetters)?;
    let now = node.clock.now();
    let mut conn = node.store.read().await?;
    let known = users::by_email(&mut conn, email).await?;
    let language = preferences::of_address(&mut conn, email).await?.language;
    drop(conn);
    let folded = users::fold_email(email);
    let code = SecretString::from(format!("{:08}", rand::rng().random_range(0..CODES)));
    let hash = code_hash(&node.settings.sign_in, &folded, &code);
    let stored: Result<(), StoreError> = node
        .store
        .write(move |tx| {
            async move {
                one_time_codes::replace(tx, &folded, &hash, CODE_TRIES, now, now.plus_millis(CODE_MILLIS))
                    .await
            }
            .boxed()
        })
        .await;
    stored?;
    // To the account's own address: what was typed may be somebody else's that only folds into it.
    let to = known.map(|user| user.email);
    let to = to.or_else(|| node.settings.sign_in.open_registration.then(|| email.trim().to_owned()));
    if let Some(to) = to {
        place(CodeLetter { to, code, language, sent_at: now });
    }
    Ok(())
}

/// Opens a session for whoever has the code that was sent to the address.
///
/// # Errors
/// [`Error::WrongCode`]: wrong, used, over its time, or no such account.
pub async fn sign_in_with_code(
    node: &Node,
    email: &str,
    code: &SecretString,
    device: Device,
) -> Result<Opened, Error> {
    let now = node.clock.now();
    let folded = users::fold_email(email);
    let hash = code_hash(&node.settings.sign_in, &folded, code);
    let open = node.settings.sign_in.open_registration;
    let email = email.trim().to_owned();
    // A wrong code is an answer and not an error here: the try that it used up must be committed.
    let opened: Result<_, Error> = node
        .store
        .write_for(Concern::Address(folded.clone()), move |tx| {
            async move {
                let Some(stored) = one_time_codes::spend_try(tx, &folded, now).await? else {
                    return Ok(None);
                };
                if !bool::from(stored.ct_eq(&hash)) {
                    return Ok(None);
                }
                one_time_codes::delete(tx, &folded).await?;
                let Some(user) = user_or_new(tx, &email, open, now).await? else {
                    return Ok(None);
                };
                Ok(Some(insert_session(tx, user, device, now).await?))
            }
            .boxed()
        })
        .await;
    opened?.ok_or(Error::WrongCode)
}

async fn user_or_new(tx: &mut Tx, email: &str, open: bool, now: UnixMillis) -> Result<Option<User>, Error> {
    if let Some(user) = users::by_email(tx, email).await? {
        return Ok(Some(user));
    }
    if !open {
        return Ok(None);
    }
    let new = NewUser { email: email.to_owned(), first_name: None, last_name: None, picture: None };
    let id = accounts::create_in(tx, &new, "user", now).await?;
    Ok(users::by_id(tx, &id).await?)
}

/// Opens a session for a user without a code: for the command line, whose caller can read the database
/// anyway.
///
/// # Errors
/// [`Error::NoSuchUser`].
pub async fn open_session_for(
    store: &vellum_store::Store,
    clock: &Clock,
    email: &str,
    device: Device,
) -> Result<Opened, Error> {
    let (now, email) = (clock.now(), email.to_owned());
    store
        .write(move |tx| {
            async move {
                let user = users::by_email(tx, &email).await?.ok_or(Error::NoSuchUser)?;
                Ok(insert_session(tx, user, device, now).await?)
            }
            .boxed()
        })
        .await
}

/// Opens a session: the last step of every way to sign in.
pub(crate) async fn insert_session(
    tx: &mut Tx,
    user: User,
    device: Device,
    now: UnixMillis,
) -> Result<Opened, StoreError> {
    let token = SecretString::from(hex(&rand::rng().random::<[u8; 32]>()));
    let session = Session {
        id: SessionId::generate(),
        user_id: user.id.clone(),
        created_at: now,
        last_used_at: now,
        expires_at: now.plus_millis(SESSION_MILLIS),
        user_agent: device.user_agent.map(|name| name.chars().take(LONGEST_USER_AGENT).collect()),
        ip: device.ip,
        device_id: device.device_id,
    };
    sessions::insert(tx, &session, &token_hash(&token)).await?;
    Ok(Opened { token, user, session })
}

/// Who presents this token; `None` when the session has ended or never was.
///
/// # Errors
/// Only what the database says.
pub async fn authenticate(node: &Node, token: &SecretString) -> Result<Option<Arc<Known>>, Error> {
    Ok(node.store.session(&token_hash(token), node.clock.now()).await?)
}

/// Prolongs a session that is in its second half; gives it with its new end. `None`: it is in its
/// first.
///
/// # Errors
/// Only what the database says.
pub async fn prolong(node: &Node, known: &Arc<Known>) -> Result<Option<Arc<Known>>, Error> {
    let now = node.clock.now();
    if known.session.expires_at.since(now) >= SESSION_MILLIS / 2 {
        return Ok(None);
    }
    let mut known = Known::clone(known);
    known.session.last_used_at = now;
    known.session.expires_at = now.plus_millis(SESSION_MILLIS);
    let Session { id, user_id, expires_at, .. } = known.session.clone();
    let prolonged: Result<(), StoreError> = node
        .store
        .write(move |tx| async move { sessions::prolong(tx, &user_id, &id, now, expires_at).await }.boxed())
        .await;
    prolonged?;
    Ok(Some(Arc::new(known)))
}

/// Somebody with what they may do, for answers that show it.
#[derive(Debug, Clone)]
pub struct Profile {
    /// The account.
    pub user: User,
    /// Its roles, lowest first.
    pub roles: Vec<roles::Role>,
    /// What these allow.
    pub permissions: Vec<String>,
}

/// What a session belongs to.
///
/// # Errors
/// [`Error::NoSuchUser`] when the account is gone.
pub async fn profile(node: &Node, user: &UserId) -> Result<Profile, Error> {
    let mut conn = node.store.read().await?;
    Ok(Profile {
        user: users::by_id(&mut conn, user).await?.ok_or(Error::NoSuchUser)?,
        roles: roles::of_user(&mut conn, user).await?,
        permissions: roles::permissions_of_user(&mut conn, user).await?,
    })
}

fn token_hash(token: &SecretString) -> TokenHash {
    Sha256::digest(token.expose_secret().as_bytes()).into()
}

/// What is kept of the code that was sent to an address. `email` is folded (`users::fold_email`).
#[must_use]
pub fn code_hash(settings: &SignInSettings, email: &str, code: &SecretString) -> one_time_codes::CodeHash {
    let mut hash = Sha256::new();
    hash.update(b"vellum one-time code v1\0");
    hash.update(settings.code_key.expose_secret());
    hash.update(email.as_bytes());
    hash.update(b"\0");
    hash.update(code.expose_secret().as_bytes());
    hash.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
