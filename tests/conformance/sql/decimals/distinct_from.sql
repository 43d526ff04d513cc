-- IS DISTINCT FROM, and equality of NULLs in conditions
SELECT a.id, b.id AS other FROM orders AS a JOIN orders AS b
ON a.customer IS NOT DISTINCT FROM b.customer AND a.ts BETWEEN b.ts - INTERVAL '3' SECOND AND b.ts AND a.id <> b.id;
