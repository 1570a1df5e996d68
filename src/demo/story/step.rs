//! The story's steps by name.

/// What happens, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Both sign in with a one-time code.
    SignIn,
    /// Both choose an alias.
    ChooseAliases,
    /// Both make a seed and register the keys that follow from it.
    RegisterKeys,
    /// Bob makes friends with carol on his own node: what must not change later.
    BefriendCarol,
    /// Alice invites bob.
    Invite,
    /// Bob accepts.
    Accept,
    /// Both compute the number that they compare by another way.
    CompareSafetyNumbers,
    /// Alice resets her identity.
    Reset,
    /// What alice has yet to tell is listed.
    ShowPending,
    /// Alice registers keys of a new seed.
    RegisterNewKeys,
    /// Bob's node stops.
    StopBobsNode,
    /// Alice signs and flushes.
    Flush,
    /// Bob's node starts again.
    StartBobsNode,
    /// The node tries again by itself.
    WatchRetry,
    /// Bob is alice's friend no more, and carol's still.
    CheckBob,
}

impl Step {
    /// Every step in order.
    pub const ALL: [Self; 15] = [
        Self::SignIn,
        Self::ChooseAliases,
        Self::RegisterKeys,
        Self::BefriendCarol,
        Self::Invite,
        Self::Accept,
        Self::CompareSafetyNumbers,
        Self::Reset,
        Self::ShowPending,
        Self::RegisterNewKeys,
        Self::StopBobsNode,
        Self::Flush,
        Self::StartBobsNode,
        Self::WatchRetry,
        Self::CheckBob,
    ];

    /// The step in a few words.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::SignIn => "alice and bob sign in",
            Self::ChooseAliases => "they choose their aliases",
            Self::RegisterKeys => "they register their keys",
            Self::BefriendCarol => "bob befriends carol on his own node",
            Self::Invite => "alice invites bob",
            Self::Accept => "bob accepts",
            Self::CompareSafetyNumbers => "they compare safety numbers",
            Self::Reset => "alice resets her identity",
            Self::ShowPending => "what she has yet to tell is pending",
            Self::RegisterNewKeys => "alice registers new keys",
            Self::StopBobsNode => "bob's node stops",
            Self::Flush => "alice signs the revocation and flushes",
            Self::StartBobsNode => "bob's node starts again",
            Self::WatchRetry => "the retry delivers it",
            Self::CheckBob => "bob has lost alice and nothing else",
        }
    }
}
