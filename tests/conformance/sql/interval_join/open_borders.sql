-- < and > instead of BETWEEN
SELECT a.k, a.n, b.n AS m
FROM touching_all AS a, touching_all AS b
WHERE a.k = b.k AND b.ts > a.ts - INTERVAL '5' SECOND AND b.ts < a.ts;
