-- a filter: a row may enter or leave by an update
-- key: id
SELECT id, name, balance FROM accounts WHERE balance > 11;
