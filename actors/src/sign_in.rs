//! Signing in: one-time codes by email, and sessions.
//!
//! These do not pass through a user's actor, since it is not known yet who the user is; the
//! database is the guard (a code works once, and wrong ones are counted by account:
//! [`CodeBounds`]). Codes and tokens are kept as hashes only. Whether an address has an account is
//! not told: the answers are the same, and so is the work behind them.

mod bounds;
mod code;
mod settings;
mod source;

pub use bounds::CodeBounds;
pub use code::code_hash;
pub use settings::SignInSettings;
pub use source::{Device, KNOWN_MILLIS, device_cookie};

use std::sync::Arc;

use futures_util::FutureExt;
use rand::RngExt;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use vellum_protocol::UnixMillis;
use vellum_store::mail_queue::{self, LeasedEmail, NewEmail};
use vellum_store::sessions::{Known, Session, TokenHash};
use vellum_store::users::{self, NewUser, User};
use vellum_store::{
    SessionId, StoreError, Tx, UserId, code_emails, preferences, roles, sessions, sign_in_codes, wrong_codes,
};

use crate::accounts;
use crate::mailer::CodeEmail;
use crate::node::Node;
use crate::{Clock, Error};
use bounds::MOST_LIVE_CODES;
use code::{NewCode, Presented, hex, keyed_hash};
pub(crate) use source::Sources;

/// Emails that may wait. Beyond that nobody gets a code until some have gone. Checked before the
/// transaction that queues one, so requests of the same moment may exceed it by a few.
const MOST_WAITING: u64 = 256;
/// Emails to addresses without an account among them. Beyond that such an email is dropped, and
/// the request is answered as ever: made-up addresses must not keep owners from their codes.
const MOST_TO_STRANGERS: u64 = MOST_WAITING / 2;
/// How long a code works.
pub const CODE_MILLIS: i64 = 15 * 60_000;
/// Names that the addresses without an account share in the tables of bounds.
const SHARED_NAMES: u32 = 1 << 20;
/// How long a session lasts; used in its second half, it begins anew.
const SESSION_MILLIS: i64 = 30 * 24 * 3_600_000;
/// The longest name of a client that is kept.
const LONGEST_USER_AGENT: usize = 300;

/// A session just opened. Only its holder ever sees the token.
pub struct Opened {
    /// What the client presents from now on.
    pub token: SecretString,
    /// Who signed in.
    pub user: User,
    /// The session.
    pub session: Session,
    /// The device cookie of a browser, which the account knows from now on.
    pub device_cookie: Option<SecretString>,
}

/// Queues an email with a one-time code to the address, if it has an account or registration is
/// open, and its allowance of emails is not used up: then nothing is queued and no code is made, so
/// the codes sent before go on working. Does the same for other addresses, but that their row is
/// removed again in the same transaction. So neither the answer nor its time tells the two apart.
///
/// A code that nobody knows is stored at once, also where an email is on its way: tries are counted
/// from the request on, whenever the mail server takes the email. [`code_to_send`] replaces it.
///
/// # Errors
/// [`Error::TooManyEmails`], for every address alike; what the database says.
pub async fn request_code(node: &Node, email: &str) -> Result<(), Error> {
    let (now, settings) = (node.clock.now(), &node.settings.sign_in);
    let mut conn = node.store.read().await?;
    let queue = mail_queue::overview(&mut conn, now).await?;
    if queue.waiting >= MOST_WAITING {
        return Err(Error::TooManyEmails);
    }
    let known = users::by_email(&mut conn, email).await?;
    drop(conn);
    let (folded, bounds, has_account) = (users::fold_email(email), settings.bounds, known.is_some());
    let account = account_name(settings, &folded, has_account);
    let nobodys = NewCode::generate().hashes(settings, &folded);
    // Made-up addresses whose emails fail must not keep newcomers out.
    let is_full = settings.open_registration && queue.to_strangers >= MOST_TO_STRANGERS;
    let makes_room = is_full && queue.failing_to_strangers > 0;
    let may_wait = has_account || (settings.open_registration && (!is_full || makes_room));
    let id = uuid::Uuid::now_v7().to_string();
    let removed = if may_wait { uuid::Uuid::now_v7().to_string() } else { id.clone() };
    // To the account's own address: what was typed may be somebody else's that only folds into it.
    let address = known.map(|user| user.email);
    let address = address.or_else(|| may_wait.then(|| email.trim().to_owned())).unwrap_or_default();
    let queued = NewEmail { id, address, has_account };
    let made: Result<(), StoreError> = node
        .store
        .write(move |tx| {
            async move {
                let full_at = code_emails::full_at(tx, &account).await?;
                let Some(full_at) = bounds.take_email(full_at, now) else { return Ok(()) };
                code_emails::set_full_at(tx, &account, full_at).await?;
                let until = now.plus_millis(CODE_MILLIS);
                sign_in_codes::put(tx, &queued.id, &folded, &nobodys, MOST_LIVE_CODES, now, until).await?;
                mail_queue::remove_failing(tx, &queued.address, now).await?;
                if makes_room {
                    mail_queue::remove_oldest_failing_to_stranger(tx, now).await?;
                }
                mail_queue::insert(tx, &queued, now).await?;
                mail_queue::remove(tx, &removed).await
            }
            .boxed()
        })
        .await;
    made?;
    node.wake_mail();
    Ok(())
}

/// Makes the code of a queued email whose recipient the mail server has taken, stores its hash, and
/// notes that the email is handed over: it is sent again only if the mail server refuses it. `None` if the email's lease is over.
pub(crate) async fn code_to_send(node: &Node, email: &LeasedEmail) -> Result<Option<CodeEmail>, StoreError> {
    let (now, settings) = (node.clock.now(), &node.settings.sign_in);
    let language = preferences::of_address(&mut *node.store.read().await?, &email.address).await?.language;
    let folded = users::fold_email(&email.address);
    let code = NewCode::generate();
    let hashes = code.hashes(settings, &folded);
    let row = email.clone();
    let made: Result<bool, StoreError> = node
        .store
        .write(move |tx| {
            async move {
                if !mail_queue::hand_over(tx, &row, now).await? {
                    return Ok(false);
                }
                let until = now.plus_millis(CODE_MILLIS);
                sign_in_codes::put(tx, &row.id, &folded, &hashes, MOST_LIVE_CODES, now, until).await?;
                Ok(true)
            }
            .boxed()
        })
        .await;
    Ok(made?.then(|| CodeEmail {
        to: email.address.clone(),
        code: code.digits,
        long_code: code.letters,
        language,
        sent_at: now,
    }))
}

/// The name under which the bounds of an address are kept. Addresses without an account share a
/// fixed number of names, so that requests for made-up ones make a bounded number of rows.
fn account_name(settings: &SignInSettings, folded: &str, has_account: bool) -> String {
    let [a, b, c, d, ..] = keyed_hash(settings, "vellum shared name v1", &[folded]);
    let shared = u32::from_be_bytes([a, b, c, d]) % SHARED_NAMES;
    // Every address has an @, so none is equal to a shared name.
    if has_account { folded.to_owned() } else { format!("shared {shared}") }
}

/// Opens a session for whoever has the code that was sent to the address.
///
/// # Errors
/// [`Error::WrongCode`]: wrong, used, over its time, no such account, or too many wrong ones
/// before.
pub async fn sign_in_with_code(
    node: &Node,
    email: &str,
    code: &SecretString,
    device: Device,
) -> Result<Opened, Error> {
    let (now, settings) = (node.clock.now(), &node.settings.sign_in);
    let known = users::by_email(&mut *node.store.read().await?, email).await?;
    let folded = users::fold_email(email);
    let attempt = Attempt {
        account: account_name(settings, &folded, known.is_some()),
        code: Presented::read(settings, &folded, code),
        sources: Sources::of(settings, &device),
        bounds: settings.bounds,
        open_registration: settings.open_registration,
        email: email.trim().to_owned(),
        folded,
        device,
    };
    let client_ip = attempt.device.ip.clone();
    let outcome = node.store.write(move |tx| async move { attempt.run(tx, now).await }.boxed()).await?;
    match outcome {
        Ok(SignedIn { opened, is_new }) => {
            if is_new {
                accounts::log_made(&opened.user.id, &[accounts::DEFAULT_ROLE], client_ip.as_deref(), None);
            }
            log_signed_in(&opened, "code");
            Ok(opened)
        }
        Err(reason) => {
            let account_id = known.map(|user| user.id);
            log_failure(client_ip.as_deref(), account_id.as_ref(), "code", reason);
            Err(Error::WrongCode)
        }
    }
}

/// Logs that somebody has signed in.
pub(crate) fn log_signed_in(opened: &Opened, method: &str) {
    let client_ip = opened.session.ip.as_deref();
    tracing::info!(client_ip, account_id = %opened.user.id, method, "signed in");
}

/// Logs that somebody has tried to sign in and did not succeed. The account is the one that they
/// named, where there is one.
pub fn log_failure(client_ip: Option<&str>, account_id: Option<&UserId>, method: &str, reason: &str) {
    tracing::info!(client_ip, account_id = account_id.map(UserId::as_str), method, reason, "sign-in failed");
}

/// What a try to sign in with a code came to, or why it failed: for the log, clients are not told.
type Outcome = Result<SignedIn, &'static str>;

/// An opened session, and whether its account was made for it.
struct SignedIn {
    opened: Opened,
    is_new: bool,
}

/// No code was sent lately, or it was used.
const NO_CODE: &str = "no_code";
const WRONG_CODE: &str = "wrong_code";
const TOO_MANY_WRONG_CODES: &str = "too_many_wrong_codes";
const NO_ACCOUNT: &str = "no_account";

/// One try to sign in with a code.
#[derive(Clone)]
struct Attempt {
    /// What its tries are counted under.
    account: String,
    email: String,
    folded: String,
    code: Presented,
    device: Device,
    sources: Sources,
    bounds: CodeBounds,
    open_registration: bool,
}

impl Attempt {
    /// Compares the code, and counts it if it is wrong. A wrong code is an outcome and not an error:
    /// its count must be committed.
    async fn run(self, tx: &mut Tx, now: UnixMillis) -> Result<Outcome, Error> {
        let live = sign_in_codes::live(tx, &self.folded, now).await?;
        let spent = wrong_codes::spent(tx, &self.account, now).await?;
        let known = self.sources.known_to(tx, &self.folded).await?;
        // Nobody guesses twenty letters: they need no bound, and so the owner is never locked out.
        let counter = self.bounds.counter(&spent, &known);
        let counts = self.code.is_letters || counter.is_some();
        match self.code.find_in(&live) {
            Some(code) if counts => self.open(tx, &code.id, now).await,
            None if self.code.is_letters && live.is_empty() => Ok(Err(NO_CODE)),
            None if self.code.is_letters => Ok(Err(WRONG_CODE)),
            // Without a live code there is nothing to guess, and nothing to count.
            None if live.is_empty() => self.refuse_uncounted(tx, NO_CODE, now).await,
            None if let Some(counter) = counter => {
                wrong_codes::count(tx, &self.account, counter, now).await?;
                Ok(Err(WRONG_CODE))
            }
            _ => self.refuse_uncounted(tx, TOO_MANY_WRONG_CODES, now).await,
        }
    }

    /// Refuses eight digits with the same work as a wrong code that counts. An email makes the code
    /// of an account live for longer than the one that an address without an account has: a try that
    /// leaves nothing to write would tell the two apart by its time. Nobody reads this count.
    async fn refuse_uncounted(
        &self,
        tx: &mut Tx,
        reason: &'static str,
        now: UnixMillis,
    ) -> Result<Outcome, Error> {
        // No address begins so: what is before its @ has no blanks.
        wrong_codes::count(tx, &format!("uncounted {}", self.account), "", now).await?;
        Ok(Err(reason))
    }

    async fn open(self, tx: &mut Tx, code: &str, now: UnixMillis) -> Result<Outcome, Error> {
        if !sign_in_codes::take(tx, code).await? {
            return Ok(Err(NO_CODE));
        }
        let known = users::by_email(tx, &self.email).await?;
        let is_new = known.is_none();
        let user = match known {
            Some(user) => user,
            None if self.open_registration => new_user(tx, self.email, now).await?,
            None => return Ok(Err(NO_ACCOUNT)),
        };
        self.sources.remember(tx, &user.id, now).await?;
        Ok(Ok(SignedIn { opened: insert_session(tx, user, self.device, now).await?, is_new }))
    }
}

async fn new_user(tx: &mut Tx, email: String, now: UnixMillis) -> Result<User, Error> {
    let new = NewUser { email, first_name: None, last_name: None, picture: None };
    let id = accounts::create_in(tx, &new, accounts::DEFAULT_ROLE, now).await?;
    users::by_id(tx, &id).await?.ok_or(Error::NoSuchUser)
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
    Ok(Opened { token, user, session, device_cookie: device.cookie })
}

/// Who presents this token; `None` when the session has ended or never was.
///
/// # Errors
/// Only what the database says.
pub async fn authenticate(node: &Node, token: &SecretString) -> Result<Option<Arc<Known>>, Error> {
    Ok(node.store.session(&token_hash(token), node.clock.now()).await?.map(Arc::new))
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
