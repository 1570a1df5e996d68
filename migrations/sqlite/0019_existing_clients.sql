-- When a user has been through the first steps of a client. Existing clients ask until it is set.

alter table users add column onboarding_completed_at integer;
