-- The first schema of a node.
--
-- Conventions: times are milliseconds since 1970 in UTC; keys, signatures and ciphertext that travel as
-- base64 are kept as that text in its canonical form; truth values are 0 or 1; ids are text made by the
-- node. Only column types differ from the PostgreSQL history: every query runs on both.

-- People ------------------------------------------------------------------------------------------

create table users (
    id              text    not null primary key,
    email           text    not null,
    email_folded    text    not null unique,      -- lower case: how an address is looked up
    first_name      text,
    last_name       text,
    picture         text,
    alias           text,                         -- as typed
    alias_folded    text    unique,               -- lower case: unique and looked up without case
    signing_key     text,
    encryption_key  text,
    km_version      integer not null default 1 check (km_version >= 1),
    created_at      integer not null,
    updated_at      integer not null
) strict;

create table preferences (
    user_id         text    not null primary key references users (id) on delete cascade,
    language        text    not null,
    unit_system     text    not null
) strict;

create table permissions (
    id              text    not null primary key,
    name            text    not null
) strict;

create table roles (
    id              text    not null primary key,
    name            text    not null,
    description     text    not null,
    is_default      integer not null,
    rank            integer not null              -- who may give which role: never one above one's own
) strict;

create table role_permissions (
    role_id         text    not null references roles (id) on delete cascade,
    permission_id   text    not null references permissions (id) on delete cascade,
    primary key (role_id, permission_id)
) strict;

create table user_roles (
    user_id         text    not null references users (id) on delete cascade,
    role_id         text    not null references roles (id),
    primary key (user_id, role_id)
) strict;

-- Signing in --------------------------------------------------------------------------------------

create table sessions (
    id              text    not null primary key,
    user_id         text    not null references users (id) on delete cascade,
    token_hash      blob    not null unique,      -- SHA-256; the token itself is nowhere
    user_agent      text,
    ip              text,
    created_at      integer not null,
    last_used_at    integer not null,
    expires_at      integer not null
) strict;
create index sessions_by_user on sessions (user_id, created_at);
create index sessions_by_expiry on sessions (expires_at);

create table one_time_codes (
    email_folded    text    not null primary key, -- a new code replaces the old one
    code_hash       blob    not null,
    tries_left      integer not null,
    created_at      integer not null,
    expires_at      integer not null
) strict;
create index one_time_codes_by_expiry on one_time_codes (expires_at);

create table passkeys (
    id              text    not null primary key,
    user_id         text    not null references users (id) on delete cascade,
    credential_id   text    not null unique,      -- base64url, as WebAuthn writes it
    name            text,
    credential      text    not null,             -- the verifier's state, JSON
    counter         integer not null,
    device_type     text    not null,
    backed_up       integer not null,
    transports      text    not null,
    created_at      integer not null,
    last_used_at    integer
) strict;
create index passkeys_by_user on passkeys (user_id);

-- Ciphertext --------------------------------------------------------------------------------------
-- km_version: the version of the owner's keys that the row was sealed under.

create table blobs (
    user_id         text    not null references users (id) on delete cascade,
    blob_type       text    not null,
    encrypted_blob  text    not null,
    nonce           text    not null,
    km_version      integer not null,
    revision        integer not null,             -- raised by every write: the ETag
    updated_at      integer not null,
    primary key (user_id, blob_type)
) strict;

create table slots (
    user_id         text    not null references users (id) on delete cascade,
    credential_id   text    not null,
    wrapped_km      text    not null,
    wrap_algo       text    not null,
    slot_signature  text    not null,
    km_version      integer not null,
    created_at      integer not null,
    last_used_at    integer,
    primary key (user_id, credential_id)
) strict;

create table collections (
    id                    text    not null primary key,
    user_id               text    not null references users (id) on delete cascade,
    is_public             integer not null,
    is_sensitive          integer not null,
    scheme                text    not null,
    resharing_policy      text    not null,
    public_token          text    unique,
    public_role           text,
    metadata_encrypted    text,
    metadata_key_version  integer not null,
    km_version            integer not null,
    created_at            integer not null,
    updated_at            integer not null
) strict;
create index collections_by_user on collections (user_id, created_at);

create table wrap_secrets (
    user_id         text    not null references users (id) on delete cascade,
    device_id       text    not null,
    sealed_secret   blob    not null,             -- encrypted with a key that is not in the database
    key_id          text    not null,
    created_at      integer not null,
    primary key (user_id, device_id)
) strict;

-- Who changed what of an identity, and from where. Kept through a reset; no secret is in it.
create table audit (
    id              text    not null primary key,
    user_id         text    not null references users (id) on delete cascade,
    at              integer not null,
    event           text    not null,
    session_id      text,                         -- no reference: the row outlives the session
    ip              text
) strict;
create index audit_by_user on audit (user_id, at);

-- Relationships -----------------------------------------------------------------------------------

create table friendships (
    id                     text    not null primary key,
    user_id                text    not null references users (id) on delete cascade,
    friend_handle          text    not null,      -- exactly as the friend's user document spells it
    friend_signing_key     text    not null,
    friend_encryption_key  text,
    friend_name            text,
    friend_picture         text,
    keys_changed_at        integer,               -- set while a key that differs from the first one is unverified
    established_at         integer not null,
    revocable_from         integer not null,      -- the same moment by the friend's clock: older revocations do not end it
    created_at             integer not null,
    unique (user_id, friend_handle)
) strict;

create table invitations (
    id                     text    not null primary key,
    local_user_id          text    not null references users (id) on delete cascade,
    direction              text    not null check (direction in ('incoming', 'outgoing')),
    from_handle            text    not null,
    to_handle              text    not null,
    status                 text    not null check (status in ('pending', 'accepted')),
    origin_server          text    not null,
    signature              text,
    peer_signing_key       text,                  -- the other side's, as last resolved
    peer_encryption_key    text,
    peer_name              text,
    peer_picture           text,
    created_at             integer not null,
    revocable_from         integer not null,      -- by the clock of whoever signed it
    unique (local_user_id, direction, from_handle, to_handle)
) strict;

create table shares (
    id                     text    not null primary key,
    user_id                text    not null references users (id) on delete cascade,
    direction              text    not null check (direction in ('incoming', 'outgoing')),
    peer_handle            text    not null,
    peer_user_id           text,
    resource_type          text    not null,
    resource_id            text    not null,
    encrypted_data         text,
    nonce                  text,
    role                   text    not null check (role in ('viewer', 'editor')),
    status                 text    not null check (status in ('pending', 'accepted')),
    created_at             integer not null,
    accepted_at            integer,
    revocable_from         integer not null,      -- by the clock of whoever may end it
    unique (user_id, direction, peer_handle, resource_type, resource_id)
) strict;
create index shares_by_peer on shares (user_id, peer_handle);

-- Federation --------------------------------------------------------------------------------------

-- Envelopes on their way out, and revocations that still wait for their owner's signature.
-- awaiting_signature -> queued <-> delivering -> (gone: delivered), or rejected.
create table outbox (
    id               text    not null primary key,
    user_id          text    not null references users (id) on delete cascade,
    peer_handle      text    not null,
    peer_domain      text    not null,            -- lower case
    message_type     text    not null,
    subject          text    not null,            -- the invitation or share it is about; '' for a revocation
    state            text    not null
        check (state in ('awaiting_signature', 'queued', 'delivering', 'rejected')),
    envelope         text,                        -- as the user signed it; null while unsigned
    envelope_at      integer,                     -- the envelope's own timestamp
    expires_at       integer,                     -- when the peer stops taking this envelope
    attempts         integer not null default 0,
    maybe_arrived    integer not null default 0,  -- whether an earlier attempt may have been carried out unheard
    last_error       text,
    last_attempt_at  integer,
    next_attempt_at  integer,
    lease_holder     text,
    lease_until      integer,
    created_at       integer not null,
    unique (user_id, peer_handle, message_type, subject),
    check ((state in ('queued', 'delivering')) <= (envelope is not null and next_attempt_at is not null)),
    check ((state = 'delivering') = (lease_holder is not null))
) strict;
create index outbox_due on outbox (state, next_attempt_at);
create index outbox_by_user on outbox (user_id, created_at);
create index outbox_by_peer on outbox (peer_domain, state);

create table peers (
    domain                     text    not null primary key,  -- lower case
    public_key                 text,              -- pinned at first contact
    pinned_at                  integer,
    revocation_window_seconds  integer,           -- null: takes fresh envelopes only
    failures                   integer not null default 0,    -- to reach it, one after the other
    retry_at                   integer not null default 0,    -- no attempt before this
    last_error                 text,
    last_failure_at            integer,
    last_delivery_at           integer
) strict;

create table transport_nonces (
    sender           text    not null,
    nonce            text    not null,
    expires_at       integer not null,
    primary key (sender, nonce)
) strict;
create index transport_nonces_by_expiry on transport_nonces (expires_at);

create table applied_envelopes (
    sender_handle    text    not null,
    nonce            text    not null,
    recipient_handle text    not null,
    message_type     text    not null,
    signature        text    not null,
    applied          integer not null,            -- whether it changed anything
    applied_at       integer not null,
    expires_at       integer not null,
    primary key (sender_handle, nonce)
) strict;
create index applied_envelopes_by_expiry on applied_envelopes (expires_at);

-- The roles and what they may do ------------------------------------------------------------------

insert into permissions (id, name) values
    ('users:read', 'See users'),
    ('users:create', 'Create users'),
    ('users:update', 'Change users'),
    ('users:delete', 'Delete users'),
    ('roles:read', 'See roles'),
    ('roles:create', 'Create roles'),
    ('roles:write', 'Change roles'),
    ('roles:delete', 'Delete roles'),
    ('permissions:read', 'See permissions'),
    ('system:read', 'See the state of the node'),
    ('library:read', 'Read one''s library'),
    ('library:write', 'Change one''s library'),
    ('social:read', 'See friends and invitations'),
    ('social:write', 'Invite, accept and remove friends'),
    ('sharing:read', 'See shares'),
    ('sharing:write', 'Share and stop sharing');

insert into roles (id, name, description, is_default, rank) values
    ('user', 'User', 'Everyone with an account', 1, 1),
    ('alpha', 'Alpha tester', 'Tries what is new', 0, 2),
    ('admin', 'Administrator', 'Runs the node', 0, 3);

insert into role_permissions (role_id, permission_id)
    select r.id, p.id from roles r, permissions p
    where r.id in ('user', 'alpha') and (p.id like 'library:%' or p.id like 'social:%' or p.id like 'sharing:%');
insert into role_permissions (role_id, permission_id)
    select 'admin', id from permissions;
