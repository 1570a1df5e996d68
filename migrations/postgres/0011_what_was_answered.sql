-- When an envelope that was carried out was signed, by its sender's clock: a revocation may overtake an acceptance that the
-- same person had signed before it, and what has been overtaken is refused.
-- And whether it made the two friends, which its answer says, also when the envelope comes again.

alter table applied_envelopes add column signed_at bigint not null default 0;
alter table applied_envelopes add column friends bigint not null default 0;
