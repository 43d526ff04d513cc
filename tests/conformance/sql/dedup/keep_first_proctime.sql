-- the first row per key by arrival: inserts only
SELECT device, n, v
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY device ORDER BY pt ASC) AS rn FROM readings_plain)
WHERE rn = 1;
