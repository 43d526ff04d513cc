-- LAG with a value where there is no row
SELECT device, n, LAG(n, 1, -1) OVER w AS n1, LAG(v, 2, CAST(-99 AS DOUBLE)) OVER w AS v2
FROM readings
WHERE n IS NOT NULL AND v IS NOT NULL
WINDOW w AS (PARTITION BY device ORDER BY ts);
