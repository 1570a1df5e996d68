-- Emails that wait to be sent: to whom and what for, and nothing of what will be in them. The code
-- of a sign-in email is made when the mail server has taken the recipient.
create table mail_queue (
    id              text collate "C" not null primary key,     -- also the id of the email's sign-in code
    address         text collate "C" not null,
    purpose         text collate "C" not null,
    has_account     bigint not null,     -- 0 or 1: addresses without an account have fewer places
    created_at      bigint not null,
    expires_at      bigint not null,
    next_attempt_at bigint not null,
    attempts        bigint not null,     -- those that failed
    lease_token     text collate "C",
    lease_until     bigint,
    last_error      text collate "C"     -- without the address
);
