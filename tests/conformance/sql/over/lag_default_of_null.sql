-- LAG with a value where there is no row, over NULLs: a row with NULL is a row
SELECT device, n, LAG(v, 1, CAST(-99 AS DOUBLE)) OVER (PARTITION BY device ORDER BY ts) AS v1
FROM readings;
