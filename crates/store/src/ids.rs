//! The names of rows: text made by the node, ordered by time of creation so that new rows lie together.
//! One type per table, so that an invitation's id cannot be handed to a function that wants a user's.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, sqlx::Type)]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(String);

        impl $name {
            /// A new id, later in order than the ones made before.
            #[must_use]
            pub fn generate() -> Self {
                Self(uuid::Uuid::now_v7().to_string())
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }

        crate::row::column! {
            $name: String => |text| Ok(Self(text));
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A user of this node.
    UserId
);
id!(
    /// A session. It names the session in lists; it is not the token.
    SessionId
);
id!(
    /// A friendship as one of its two users holds it.
    FriendshipId
);
id!(
    /// An invitation as one of its two users holds it.
    InvitationId
);
id!(
    /// An envelope on its way out, or a revocation that waits for its signature.
    OutboxId
);
id!(
    /// A line of somebody's audit trail.
    AuditId
);
id!(
    /// A share as one of its two sides holds it.
    ShareId
);
id!(
    /// A collection of ciphertext.
    CollectionId
);
id!(
    /// A seed's way from one device to another.
    TransferId
);
