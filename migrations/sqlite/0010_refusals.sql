-- How often the peer has refused the present signature. Only that makes the intervals between attempts with it
-- longer; that the peer could not be reached is in the peer's own record.

alter table outbox add column refusals integer not null default 0;
