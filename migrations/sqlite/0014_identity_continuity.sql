-- What keeps a name and a key from passing to somebody else unseen, and invitations from piling up.

-- Aliases that were shown with a signing key, and to whom each belongs for good. No reference: a
-- row outlives the account.

create table published_aliases (
    alias_folded    text    not null primary key,
    user_id         text    not null,
    first_at        integer not null
) strict;

insert into published_aliases (alias_folded, user_id, first_at)
    select alias_folded, id, updated_at from users where alias_folded is not null and signing_key is not null;

-- The key that signed an incoming share while the recipient had yet to confirm the friend's changed
-- key; null where nothing has to be confirmed.

alter table shares add column unverified_key text;

-- Open invitations are found by their age.

create index invitations_by_age on invitations (created_at) where status = 'pending';
