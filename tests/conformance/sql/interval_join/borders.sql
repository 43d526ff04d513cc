-- exactly at the ends of the interval counts, a millisecond outside does not
SELECT a.k, a.n, b.n AS m
FROM touching_all AS a JOIN touching_all AS b
ON a.k = b.k AND b.ts BETWEEN a.ts - INTERVAL '5' SECOND AND a.ts - INTERVAL '1' SECOND;
