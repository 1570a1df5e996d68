-- What an operator decides about peers and about the queue, and what asks for a decision.

alter table peers add column offered_key text collate "C";              -- shown instead of the pinned key: nothing is exchanged
alter table peers add column offered_at bigint;
alter table peers add column standing text collate "C" not null default 'neutral'; -- neutral, blocked, allowed
alter table peers add column paused bigint not null default 0;

create table node_state (
    name            text collate "C"    not null primary key,
    value           bigint not null
);

insert into node_state (name, value) values
    ('deliveries_paused', 0),
    ('operator_changes', 0);                      -- raised by every decision: running nodes look at it

insert into permissions (id, name) values ('system:write', 'Decide about the queue and about peers');
insert into role_permissions (role_id, permission_id) values ('admin', 'system:write');
