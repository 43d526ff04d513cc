-- ARRAY_AGG of a changelog
-- key: customer
SELECT customer, ARRAY_AGG(id) AS ids FROM orders GROUP BY customer;
