-- a changelog as it is: creates, updates as a pair, deletes
-- key: id
SELECT id, name, balance, city FROM accounts;
