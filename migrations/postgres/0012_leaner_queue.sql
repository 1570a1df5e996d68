-- The indexes by which what is to be sent is found do not go by the state: a row that may be sent, or is being sent,
-- has a next attempt, and keeps it while it is leased. A user's rows are found by the table's unique columns.

drop index outbox_by_user;
drop index outbox_by_peer;
drop index outbox_by_expiry;
drop index outbox_by_lease;
drop index outbox_of_peer;
drop index outbox_turns;
create index outbox_by_peer on outbox (peer_domain, next_attempt_at, id);
create index outbox_by_expiry on outbox (expires_at) where next_attempt_at is not null;
create index outbox_by_lease on outbox (peer_domain, lease_until) where lease_until is not null;
create index outbox_turns on outbox (peer_domain, substr(user_id, 25), next_attempt_at) where next_attempt_at is not null;
