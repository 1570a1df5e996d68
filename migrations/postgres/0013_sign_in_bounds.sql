-- Sign-in codes with bounds by account. one_time_codes stays for nodes of the version before; this
-- version does not read it.
--
-- account: the folded e-mail address of an account. The addresses that have no account share a
-- fixed number of names, which bounds the rows that strangers can make.

create table sign_in_codes (
    id              text collate "C" not null primary key,
    email_folded    text collate "C" not null,
    digits_hash     bytea not null,
    letters_hash    bytea not null,
    created_at      bigint not null,
    expires_at      bigint not null
);
create index sign_in_codes_by_email on sign_in_codes (email_folded, created_at);
create index sign_in_codes_by_expiry on sign_in_codes (expires_at);

create table wrong_codes (
    account         text collate "C" not null,
    source          text collate "C" not null,     -- the hash of a known source, or empty: counted for all sources together
    hour            bigint not null,     -- when the hour began
    tries           bigint not null,
    primary key (account, source, hour)
);
create index wrong_codes_by_hour on wrong_codes (hour);

create table code_emails (
    account         text collate "C" not null primary key,
    full_at         bigint not null      -- when the allowance of emails is whole again
);
create index code_emails_by_time on code_emails (full_at);

-- Networks and browsers that have signed in to an account.
create table known_sources (
    user_id         text collate "C" not null references users (id) on delete cascade,
    source          text collate "C" not null,     -- a keyed hash
    last_seen       bigint not null,
    primary key (user_id, source)
);
create index known_sources_by_time on known_sources (last_seen);
