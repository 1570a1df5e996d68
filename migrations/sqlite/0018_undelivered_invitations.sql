-- Why an invitation did not reach the node of the invited person; null: it did, or it may yet. The
-- row with a reason is a note to the inviter: nobody can accept it, and a new one replaces it.

alter table invitations add column delivery_error text;
