-- sums and averages of DECIMAL: precision and scale are Flink's
-- key: customer
SELECT customer, SUM(amount) AS s, AVG(amount) AS a, MAX(amount) AS hi, COUNT(amount) AS c FROM orders GROUP BY customer;
