-- ROUND, FLOOR, CEIL, ABS, SIGN, TRUNCATE
SELECT id, ROUND(amount, 1) AS r, FLOOR(amount) AS f, CEIL(amount) AS c, ABS(amount) AS a, SIGN(amount) AS s, TRUNCATE(amount, 1) AS t FROM orders;
