-- Which device a session is on, and when a device last read its wrap secret (to a day).

alter table sessions add column device_id text;
alter table wrap_secrets add column last_used_at integer;
