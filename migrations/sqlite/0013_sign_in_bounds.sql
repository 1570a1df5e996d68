-- Sign-in codes with bounds by account. one_time_codes stays for nodes of the version before; this
-- version does not read it.
--
-- account: the folded e-mail address of an account. The addresses that have no account share a
-- fixed number of names, which bounds the rows that strangers can make.

create table sign_in_codes (
    id              text not null primary key,
    email_folded    text not null,
    digits_hash     blob not null,
    letters_hash    blob not null,
    created_at      integer not null,
    expires_at      integer not null
) strict;
create index sign_in_codes_by_email on sign_in_codes (email_folded, created_at);
create index sign_in_codes_by_expiry on sign_in_codes (expires_at);

create table wrong_codes (
    account         text not null,
    source          text not null,     -- the hash of a known source, or empty: counted for all sources together
    hour            integer not null,     -- when the hour began
    tries           integer not null,
    primary key (account, source, hour)
) strict;
create index wrong_codes_by_hour on wrong_codes (hour);

create table code_emails (
    account         text not null primary key,
    full_at         integer not null      -- when the allowance of emails is whole again
) strict;
create index code_emails_by_time on code_emails (full_at);

-- Networks and browsers that have signed in to an account.
create table known_sources (
    user_id         text not null references users (id) on delete cascade,
    source          text not null,     -- a keyed hash
    last_seen       integer not null,
    primary key (user_id, source)
) strict;
create index known_sources_by_time on known_sources (last_seen);
