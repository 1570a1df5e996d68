//! Why a request was refused: one variant per reason, each with a full sentence. `src` maps them to HTTP
//! statuses and stable codes; nothing here knows either.

use std::time::Duration;

use vellum_protocol::{Domain, HandleError, KeyError, KmVersion};
use vellum_store::{StoreError, TxError};

/// What a strict rotation has left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Missing {
    /// Types of blobs.
    pub blobs: Vec<String>,
    /// Ids of collections.
    pub collections: Vec<String>,
    /// Credentials of slots.
    pub slots: Vec<String>,
}

impl Missing {
    pub(crate) fn is_empty(&self) -> bool {
        self.blobs.is_empty() && self.collections.is_empty() && self.slots.is_empty()
    }
}

/// What an actor answers when it does not do what was asked. Nothing was changed then.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The alias breaks the grammar (wire protocol, section 1).
    #[error("an alias has 3 to 30 characters out of A-Z, a-z, 0-9 and _")]
    InvalidAlias,
    /// Somebody else has the alias.
    #[error("this alias is taken")]
    AliasTaken,
    /// Others know the user by the present handle.
    #[error("this alias is in use: others know you by it. End your relationships first")]
    AliasInUse,
    /// A key cannot be registered.
    #[error("{field} is not a usable key: {reason}")]
    InvalidKey {
        /// Which of the two, as the API names it.
        field: &'static str,
        /// What is wrong with it.
        reason: KeyError,
    },
    /// Both keys are the same bytes.
    #[error("signingKey and encryptionKey must differ")]
    EqualKeys,
    /// Sealed data exists, and the caller did not say which version of the keys it knows.
    #[error("data is sealed under the present keys; send expectedKmVersion, or rotate with a commit")]
    RotationRequired,
    /// The keys have been changed since the caller looked.
    #[error("the keys were changed since you read them, and are at version {current}")]
    RotationConflict {
        /// The version now.
        current: KmVersion,
    },
    /// The caller knows later keys than this node: its database was put back from a backup.
    #[error(
        "this node was put back from a backup in which your keys are at version {current}, older than yours: keep your device's data, and ask the operator before you change anything"
    )]
    ServerRolledBack {
        /// The version that the backup has.
        current: KmVersion,
    },
    /// Signing needs an alias and keys.
    #[error("set an alias and register keys first")]
    IdentityIncomplete,
    /// There is no pending revocation for this peer.
    #[error("no revocation is pending for this handle")]
    NotPending,
    /// A text is not a handle (wire protocol, section 1).
    #[error("not a handle: {0}")]
    InvalidHandle(#[from] HandleError),
    /// The handle belongs to somebody who spells it in another way, which is what has to be signed.
    #[error("this person's handle is spelled {0}: sign for exactly that")]
    HandleSpelling(String),
    /// Inviting oneself.
    #[error("this is your own handle")]
    OwnHandle,
    /// The two are friends.
    #[error("You are already friends with this user")]
    AlreadyFriends,
    /// An invitation stands.
    #[error("Invitation already sent")]
    AlreadyInvited,
    /// The person has as many open invitations from this node as they may.
    #[error("Too many invitations")]
    TooManyInvitations,
    /// A friend's key is another one than the user has compared.
    #[error("this friend's signing key is another one by now: compare it again")]
    KeyChanged,
    /// There is no such friend whose key could be confirmed.
    #[error("there is no such friend")]
    FriendNotFound,
    /// A share for another node holds nothing.
    #[error("a share with somebody on another node needs encryptedData and nonce")]
    PayloadRequired,
    /// Nobody has this handle.
    #[error("Could not find user")]
    UserNotFound,
    /// The user's node could not be asked. The text says no more than a user may know of other
    /// networks.
    #[error("the node of this user could not be reached: {0}")]
    PeerUnreachable(String),
    /// The user's node is asked no more for a while: it says so, or users have had it asked often
    /// enough.
    #[error("the node of this user was asked too often; try again later")]
    LookupLimited {
        /// When it may be asked again.
        retry_after: Duration,
    },
    /// This node has as many look-ups at other nodes in flight as it makes at once.
    #[error("too many look-ups at other nodes are in flight; try again later")]
    TooManyLookups {
        /// When to try again.
        retry_after: Duration,
    },
    /// The node of a message's sender could not say now who that is.
    #[error("the sender's node gave no answer in time; send the message again later")]
    SenderUnavailable {
        /// When to try again.
        retry_after: Duration,
    },
    /// An operator has decided that nothing is exchanged with the node of this user.
    #[error("this node does not federate with {0}")]
    PeerNotAdmitted(Domain),
    /// Nothing is known of the node that an operator names.
    #[error("nothing is known of {0}")]
    UnknownPeer(Domain),
    /// The node does not show the key that an operator wants to pin.
    #[error("this peer does not show this key instead of the pinned one")]
    KeyNotOffered,
    /// There is no such row in the queue.
    #[error("there is no such row in the queue")]
    NotQueued,
    /// A message to another node needs what the client signed.
    #[error("a message to another node needs the signature, nonce and timestamp of a version 2 envelope")]
    EnvelopeRequired,
    /// The signature does not verify with the caller's own key.
    #[error(
        "bad signature: it does not verify with your signing key for this message, recipient, nonce and timestamp"
    )]
    BadSignature,
    /// The timestamp is not one, or not of now.
    #[error("stale timestamp: it must be an RFC 3339 time within 300 s of now")]
    StaleTimestamp,
    /// The nonce is none.
    #[error("nonce must be base64 of 8 to 64 bytes")]
    InvalidNonce,
    /// There is no such invitation in the caller's list.
    #[error("Invitation not found")]
    InvitationNotFound,
    /// There is no such friend in the caller's list.
    #[error("Friendship not found")]
    FriendshipNotFound,
    /// A blob is said to be sealed under keys that do not exist yet.
    #[error("the keys are at version {current}; nothing can be sealed under a later one")]
    FutureKmVersion {
        /// The version now.
        current: KmVersion,
    },
    /// The keys were changed since the session was shown them.
    #[error("your keys were changed since this device read them; read your identity again first")]
    StaleKmVersion {
        /// The version now.
        current: KmVersion,
    },
    /// The user would store more than one may.
    #[error("this would exceed the quota of {limit} for {quota}; {used} are in use")]
    QuotaExceeded {
        /// Which quota, as the API names it.
        quota: &'static str,
        /// What is in use.
        used: u64,
        /// What may be.
        limit: u64,
    },
    /// The session ended while its request was under way.
    #[error("your session has ended")]
    SessionEnded,
    /// The blob is not what the caller believes it to be.
    #[error("the blob has been changed since you read it")]
    BlobChanged,
    /// Sharing needs a friendship.
    #[error("Not a friend")]
    NotAFriend,
    /// There is no such share in the caller's list.
    #[error("Share not found")]
    ShareNotFound,
    /// The recipient's node refuses the share for good.
    #[error("the recipient's node refuses the share")]
    ShareRefused,
    /// There is no such collection of the caller.
    #[error("Collection not found")]
    CollectionNotFound,
    /// The credential is no passkey of the caller.
    #[error("this credential is not a passkey of yours")]
    UnknownCredential,
    /// Passkeys belong to a host name, and the client's site has none.
    #[error("passkeys need a host name; this site is reached by an address")]
    PasskeysUnavailable,
    /// The passkey's answer does not hold. What is wrong with it is not told.
    #[error("the passkey was not accepted")]
    PasskeyRefused,
    /// The new passkey's answer does not hold, or its ceremony is over.
    #[error("the passkey could not be registered: begin anew")]
    RegistrationRefused,
    /// The credential is registered, by the caller or by somebody else.
    #[error("this passkey is registered already")]
    PasskeyExists,
    /// The caller has as many passkeys as a user may have.
    #[error("a user has at most 50 passkeys")]
    TooManyPasskeys,
    /// There is no such passkey of the caller.
    #[error("Passkey not found")]
    PasskeyNotFound,
    /// There is no such device transfer.
    #[error("Transfer not found")]
    TransferNotFound,
    /// The device transfer is somebody else's.
    #[error("this transfer is not yours")]
    TransferOfAnother,
    /// The device transfer has ended: its minute is over, or its content was taken.
    #[error("the transfer is over")]
    TransferOver,
    /// The seed has been put into the transfer already.
    #[error("the transfer holds a seed already")]
    TransferFilled,
    /// The old device has not put the seed in yet.
    #[error("the other device has not sent anything yet")]
    TransferEmpty,
    /// The user has begun as many transfers as an hour allows.
    #[error("a user may begin 3 transfers an hour")]
    TooManyTransfers {
        /// When the next may begin.
        retry_after: Duration,
    },
    /// A strict rotation leaves something out.
    #[error("the rotation leaves out something that the account holds")]
    IncompleteRotation(Box<Missing>),
    /// The caller has as many devices as a user may have.
    #[error("a user has at most 100 devices")]
    TooManyDevices,
    /// There is no such device of the caller.
    #[error("there is no such device")]
    DeviceNotFound,
    /// There is no such session of the caller.
    #[error("Session not found")]
    SessionNotFound,
    /// The one-time code is wrong, used up or over its time. Which one is not told.
    #[error("the code is wrong or has expired")]
    WrongCode,
    /// The e-mail address has an account.
    #[error("this e-mail address has an account")]
    EmailTaken,
    /// There is no role with this id.
    #[error("there is no such role")]
    UnknownRole,
    /// The role is not the caller's to give.
    #[error("you cannot give a role above your own")]
    RoleAboveOwn,
    /// There is no user with this address or id.
    #[error("there is no such user")]
    NoSuchUser,
    /// Too many requests wait for the same user.
    #[error("too many requests wait for this user")]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// A server sends more than this node takes.
    #[error("too many envelopes from this server")]
    TooManyEnvelopes {
        /// When it may go on.
        retry_after: Duration,
    },
    /// Too many servers that nobody here has met say that they send something.
    #[error("too many unknown servers introduce themselves at once")]
    TooManyUnknownPeers,
    /// Too many emails wait to be sent.
    #[error("too many emails wait to be sent")]
    TooManyEmails,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
    /// Something broke inside; it was logged.
    #[error("something went wrong inside the node")]
    Internal,
    /// A message from another node cannot be carried out; the words are the wire protocol's.
    #[error(transparent)]
    Message(#[from] crate::refusal::Refusal),
    /// The database could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TxError for Error {
    fn as_store(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}
