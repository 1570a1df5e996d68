-- Passkeys are named by their credential, which is what clients know them by. No release could fill the
-- table that stood here, so it is made anew instead of changed.

drop table passkeys;

create table passkeys (
    credential_id   text collate "C"    not null primary key, -- base64url, as WebAuthn writes it
    user_id         text collate "C"    not null references users (id) on delete cascade,
    name            text collate "C",
    credential      text collate "C"    not null,             -- the public key and what is checked with it, JSON
    counter         bigint not null,             -- how often the authenticator says it has signed
    device_type     text collate "C"    not null,
    backed_up       bigint not null,
    transports      text collate "C"    not null,             -- JSON
    created_at      bigint not null,
    last_used_at    bigint
);
create index passkeys_by_user on passkeys (user_id);

-- WebAuthn ceremonies that have begun. Each ends at its first answer, right or wrong.

create table passkey_ceremonies (
    challenge_hash  bytea    not null primary key, -- SHA-256
    user_id         text collate "C"    references users (id) on delete cascade, -- null: somebody wants to sign in
    origin          text collate "C"    not null,             -- of the client that began it
    state           text collate "C"    not null,             -- what the answer is checked against, JSON
    expires_at      bigint not null
);
create index passkey_ceremonies_by_expiry on passkey_ceremonies (expires_at);

-- A seed on its way from one device of a user to another, sealed between the two.

create table device_transfers (
    id              text collate "C"    not null primary key,
    user_id         text collate "C"    not null references users (id) on delete cascade,
    receiver_key    text collate "C"    not null,
    sender_key      text collate "C",                         -- null: nothing uploaded yet
    sealed_seed     text collate "C",                         -- null again once it was fetched
    sender_signature text collate "C",
    consumed        bigint not null,
    created_at      bigint not null,
    expires_at      bigint not null
);
create index device_transfers_by_user on device_transfers (user_id, created_at);
create index device_transfers_by_creation on device_transfers (created_at);
