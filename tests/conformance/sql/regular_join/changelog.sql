-- a changelog with updates and deletes beside inserts
-- order: final
SELECT a.name, a.balance, a.city, o.id, o.amount
FROM accounts AS a LEFT JOIN orders AS o ON a.name = o.customer;
