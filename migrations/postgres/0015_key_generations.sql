-- Which generation of keys a user has: every change of the keys raises it, a reset too (but not one
-- that an older node carries out, which does not know of it), and nothing sets it back (km_version
-- begins at 1 again after a reset). And the newest generation that each session was shown. Both
-- begin at 1, so sessions that are open at the migration know the present generation; so does one
-- that an older node opens later, unless the keys have changed since. Then it has to read them once.

alter table users add column key_generation bigint not null default 1;
alter table sessions add column known_generation bigint not null default 1;
