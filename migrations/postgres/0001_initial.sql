-- The first schema of a node.
--
-- Conventions: times are milliseconds since 1970 in UTC; keys, signatures and ciphertext that travel as
-- base64 are kept as that text in its canonical form; truth values are 0 or 1; ids are text made by the
-- node. Only column types differ from the PostgreSQL history: every query runs on both.

-- People ------------------------------------------------------------------------------------------

create table users (
    id              text collate "C"    not null primary key,
    email           text collate "C"    not null,
    email_folded    text collate "C"    not null unique,      -- lower case: how an address is looked up
    first_name      text collate "C",
    last_name       text collate "C",
    picture         text collate "C",
    alias           text collate "C",                         -- as typed
    alias_folded    text collate "C"    unique,               -- lower case: unique and looked up without case
    signing_key     text collate "C",
    encryption_key  text collate "C",
    km_version      bigint not null default 1 check (km_version >= 1),
    created_at      bigint not null,
    updated_at      bigint not null
);

create table preferences (
    user_id         text collate "C"    not null primary key references users (id) on delete cascade,
    language        text collate "C"    not null,
    unit_system     text collate "C"    not null
);

create table permissions (
    id              text collate "C"    not null primary key,
    name            text collate "C"    not null
);

create table roles (
    id              text collate "C"    not null primary key,
    name            text collate "C"    not null,
    description     text collate "C"    not null,
    is_default      bigint not null,
    rank            bigint not null              -- who may give which role: never one above one's own
);

create table role_permissions (
    role_id         text collate "C"    not null references roles (id) on delete cascade,
    permission_id   text collate "C"    not null references permissions (id) on delete cascade,
    primary key (role_id, permission_id)
);

create table user_roles (
    user_id         text collate "C"    not null references users (id) on delete cascade,
    role_id         text collate "C"    not null references roles (id),
    primary key (user_id, role_id)
);

-- Signing in --------------------------------------------------------------------------------------

create table sessions (
    id              text collate "C"    not null primary key,
    user_id         text collate "C"    not null references users (id) on delete cascade,
    token_hash      bytea    not null unique,      -- SHA-256; the token itself is nowhere
    user_agent      text collate "C",
    ip              text collate "C",
    created_at      bigint not null,
    last_used_at    bigint not null,
    expires_at      bigint not null
);
create index sessions_by_user on sessions (user_id, created_at);
create index sessions_by_expiry on sessions (expires_at);

create table one_time_codes (
    email_folded    text collate "C"    not null primary key, -- a new code replaces the old one
    code_hash       bytea    not null,
    tries_left      bigint not null,
    created_at      bigint not null,
    expires_at      bigint not null
);
create index one_time_codes_by_expiry on one_time_codes (expires_at);

create table passkeys (
    id              text collate "C"    not null primary key,
    user_id         text collate "C"    not null references users (id) on delete cascade,
    credential_id   text collate "C"    not null unique,      -- base64url, as WebAuthn writes it
    name            text collate "C",
    credential      text collate "C"    not null,             -- the verifier's state, JSON
    counter         bigint not null,
    device_type     text collate "C"    not null,
    backed_up       bigint not null,
    transports      text collate "C"    not null,
    created_at      bigint not null,
    last_used_at    bigint
);
create index passkeys_by_user on passkeys (user_id);

-- Ciphertext --------------------------------------------------------------------------------------
-- km_version: the version of the owner's keys that the row was sealed under.

create table blobs (
    user_id         text collate "C"    not null references users (id) on delete cascade,
    blob_type       text collate "C"    not null,
    encrypted_blob  text collate "C"    not null,
    nonce           text collate "C"    not null,
    km_version      bigint not null,
    revision        bigint not null,             -- raised by every write: the ETag
    updated_at      bigint not null,
    primary key (user_id, blob_type)
);

create table slots (
    user_id         text collate "C"    not null references users (id) on delete cascade,
    credential_id   text collate "C"    not null,
    wrapped_km      text collate "C"    not null,
    wrap_algo       text collate "C"    not null,
    slot_signature  text collate "C"    not null,
    km_version      bigint not null,
    created_at      bigint not null,
    last_used_at    bigint,
    primary key (user_id, credential_id)
);

create table collections (
    id                    text collate "C"    not null primary key,
    user_id               text collate "C"    not null references users (id) on delete cascade,
    is_public             bigint not null,
    is_sensitive          bigint not null,
    scheme                text collate "C"    not null,
    resharing_policy      text collate "C"    not null,
    public_token          text collate "C"    unique,
    public_role           text collate "C",
    metadata_encrypted    text collate "C",
    metadata_key_version  bigint not null,
    km_version            bigint not null,
    created_at            bigint not null,
    updated_at            bigint not null
);
create index collections_by_user on collections (user_id, created_at);

create table wrap_secrets (
    user_id         text collate "C"    not null references users (id) on delete cascade,
    device_id       text collate "C"    not null,
    sealed_secret   bytea    not null,             -- encrypted with a key that is not in the database
    key_id          text collate "C"    not null,
    created_at      bigint not null,
    primary key (user_id, device_id)
);

-- Who changed what of an identity, and from where. Kept through a reset; no secret is in it.
create table audit (
    id              text collate "C"    not null primary key,
    user_id         text collate "C"    not null references users (id) on delete cascade,
    at              bigint not null,
    event           text collate "C"    not null,
    session_id      text collate "C",                         -- no reference: the row outlives the session
    ip              text collate "C"
);
create index audit_by_user on audit (user_id, at);

-- Relationships -----------------------------------------------------------------------------------

create table friendships (
    id                     text collate "C"    not null primary key,
    user_id                text collate "C"    not null references users (id) on delete cascade,
    friend_handle          text collate "C"    not null,      -- exactly as the friend's user document spells it
    friend_signing_key     text collate "C"    not null,
    friend_encryption_key  text collate "C",
    friend_name            text collate "C",
    friend_picture         text collate "C",
    keys_changed_at        bigint,               -- set while a key that differs from the first one is unverified
    established_at         bigint not null,
    revocable_from         bigint not null,      -- the same moment by the friend's clock: older revocations do not end it
    created_at             bigint not null,
    unique (user_id, friend_handle)
);

create table invitations (
    id                     text collate "C"    not null primary key,
    local_user_id          text collate "C"    not null references users (id) on delete cascade,
    direction              text collate "C"    not null check (direction in ('incoming', 'outgoing')),
    from_handle            text collate "C"    not null,
    to_handle              text collate "C"    not null,
    status                 text collate "C"    not null check (status in ('pending', 'accepted')),
    origin_server          text collate "C"    not null,
    signature              text collate "C",
    peer_signing_key       text collate "C",                  -- the other side's, as last resolved
    peer_encryption_key    text collate "C",
    peer_name              text collate "C",
    peer_picture           text collate "C",
    created_at             bigint not null,
    revocable_from         bigint not null,      -- by the clock of whoever signed it
    unique (local_user_id, direction, from_handle, to_handle)
);

create table shares (
    id                     text collate "C"    not null primary key,
    user_id                text collate "C"    not null references users (id) on delete cascade,
    direction              text collate "C"    not null check (direction in ('incoming', 'outgoing')),
    peer_handle            text collate "C"    not null,
    peer_user_id           text collate "C",
    resource_type          text collate "C"    not null,
    resource_id            text collate "C"    not null,
    encrypted_data         text collate "C",
    nonce                  text collate "C",
    role                   text collate "C"    not null check (role in ('viewer', 'editor')),
    status                 text collate "C"    not null check (status in ('pending', 'accepted')),
    created_at             bigint not null,
    accepted_at            bigint,
    revocable_from         bigint not null,      -- by the clock of whoever may end it
    unique (user_id, direction, peer_handle, resource_type, resource_id)
);
create index shares_by_peer on shares (user_id, peer_handle);

-- Federation --------------------------------------------------------------------------------------

-- Envelopes on their way out, and revocations that still wait for their owner's signature.
-- awaiting_signature -> queued <-> delivering -> (gone: delivered), or rejected.
create table outbox (
    id               text collate "C"    not null primary key,
    user_id          text collate "C"    not null references users (id) on delete cascade,
    peer_handle      text collate "C"    not null,
    peer_domain      text collate "C"    not null,            -- lower case
    message_type     text collate "C"    not null,
    subject          text collate "C"    not null,            -- the invitation or share it is about; '' for a revocation
    state            text collate "C"    not null
        check (state in ('awaiting_signature', 'queued', 'delivering', 'rejected')),
    envelope         text collate "C",                        -- as the user signed it; null while unsigned
    envelope_at      bigint,                     -- the envelope's own timestamp
    expires_at       bigint,                     -- when the peer stops taking this envelope
    attempts         bigint not null default 0,
    maybe_arrived    bigint not null default 0,  -- whether an earlier attempt may have been carried out unheard
    last_error       text collate "C",
    last_attempt_at  bigint,
    next_attempt_at  bigint,
    lease_holder     text collate "C",
    lease_until      bigint,
    created_at       bigint not null,
    unique (user_id, peer_handle, message_type, subject),
    check ((state in ('queued', 'delivering')) <= (envelope is not null and next_attempt_at is not null)),
    check ((state = 'delivering') = (lease_holder is not null))
);
create index outbox_due on outbox (state, next_attempt_at);
create index outbox_by_user on outbox (user_id, created_at);
create index outbox_by_peer on outbox (peer_domain, state);

create table peers (
    domain                     text collate "C"    not null primary key,  -- lower case
    public_key                 text collate "C",              -- pinned at first contact
    pinned_at                  bigint,
    revocation_window_seconds  bigint,           -- null: takes fresh envelopes only
    failures                   bigint not null default 0,    -- to reach it, one after the other
    retry_at                   bigint not null default 0,    -- no attempt before this
    last_error                 text collate "C",
    last_failure_at            bigint,
    last_delivery_at           bigint
);

create table transport_nonces (
    sender           text collate "C"    not null,
    nonce            text collate "C"    not null,
    expires_at       bigint not null,
    primary key (sender, nonce)
);
create index transport_nonces_by_expiry on transport_nonces (expires_at);

create table applied_envelopes (
    sender_handle    text collate "C"    not null,
    nonce            text collate "C"    not null,
    recipient_handle text collate "C"    not null,
    message_type     text collate "C"    not null,
    signature        text collate "C"    not null,
    applied          bigint not null,            -- whether it changed anything
    applied_at       bigint not null,
    expires_at       bigint not null,
    primary key (sender_handle, nonce)
);
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
