-- Emails that wait to be sent: to whom and what for, and nothing of what will be in them. The code
-- of a sign-in email is made when the mail server has taken the recipient.
create table mail_queue (
    id              text not null primary key,     -- also the id of the email's sign-in code
    address         text not null,
    purpose         text not null,
    has_account     integer not null,     -- 0 or 1: addresses without an account have fewer places
    created_at      integer not null,
    expires_at      integer not null,
    next_attempt_at integer not null,
    attempts        integer not null,     -- those that failed
    lease_token     text,
    lease_until     integer,
    last_error      text     -- without the address
) strict;
