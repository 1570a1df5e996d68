-- What only nodes that share a database need; a SQLite database has one node, and none of this.

-- Attempts that lost their row to a newer signature or a reset while they were under way: whoever removes the
-- row has to stop them, too.

create table displaced_leases (
    outbox_id       text collate "C"    not null,
    holder          text collate "C"    not null,
    until           bigint              not null,
    primary key (outbox_id, holder)
);

-- One row for each transaction of late: whether a commit stands whose answer was lost is looked up here. (The
-- numbers of transactions would not do: after a crash those that were not on the disk yet are given out again.) Marks
-- sort by the time they were made.

create table commit_marks (
    mark            text collate "C"    not null primary key
);
