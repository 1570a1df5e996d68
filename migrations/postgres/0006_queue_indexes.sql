-- The queue is looked at peer by peer: the first due row of each, whatever stands behind it. What ends by
-- itself is found by when it ends.

drop index outbox_due;
drop index outbox_by_peer;
create index outbox_by_peer on outbox (state, peer_domain, next_attempt_at, id);
create index outbox_by_expiry on outbox (state, expires_at);
create index outbox_by_lease on outbox (state, lease_until);
create index outbox_of_peer on outbox (peer_domain);
