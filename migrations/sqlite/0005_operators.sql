-- What an operator decides about peers and about the queue, and what asks for a decision.

alter table peers add column offered_key text;              -- shown instead of the pinned key: nothing is exchanged
alter table peers add column offered_at integer;
alter table peers add column standing text not null default 'neutral'; -- neutral, blocked, allowed
alter table peers add column paused integer not null default 0;

create table node_state (
    name            text    not null primary key,
    value           integer not null
) strict;

insert into node_state (name, value) values
    ('deliveries_paused', 0),
    ('operator_changes', 0);                      -- raised by every decision: running nodes look at it

insert into permissions (id, name) values ('system:write', 'Decide about the queue and about peers');
insert into role_permissions (role_id, permission_id) values ('admin', 'system:write');
