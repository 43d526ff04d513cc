-- EXISTS with a correlated condition over two columns
-- order: final
SELECT e.id, e.device FROM events AS e
WHERE EXISTS (SELECT 1 FROM orders AS o WHERE o.qty = e.level AND o.status = 'new');
