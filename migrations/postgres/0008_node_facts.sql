-- What the processes on one database must have in common.

create table node_facts (
    name            text collate "C"    not null primary key,
    value           text collate "C"    not null
);

-- Which run of which data folder last worked on this database. The same stands in a file in that folder: a
-- database that was put back from a backup does not know the last run.

create table epochs (
    folder          text collate "C"    not null primary key,
    epoch           text collate "C"    not null
);

insert into node_state (name, value) values
    ('restored_at', 0);                           -- when it was found to come from a backup; 0: it does not
