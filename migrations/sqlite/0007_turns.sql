-- The pause that a peer asked for is kept beside the wait for one that cannot be reached: neither erases
-- the other. And a sign of life cuts such a wait short once, not as often as the peer cares to speak.

alter table peers add column pause_until integer not null default 0;
alter table peers add column probed_early integer not null default 0;

-- Where in a trace (W3C Trace Context) the request stood that put the message here.

alter table outbox add column trace text;

-- Whether the friendship that an accept rests on has made a revocation void: that stands again if the accept is
-- never taken.

alter table outbox add column voids_revocation integer not null default 0;

-- The users with messages for one peer take turns, in the order of the last part of their ids, which is
-- random (the first part is when the account was made).

create index outbox_turns on outbox (state, peer_domain, substr(user_id, 25), next_attempt_at);
