-- the last row per key by arrival, where equal rows follow each other
-- key: device
SELECT device, n, v
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY device ORDER BY pt DESC) AS rn FROM readings_plain)
WHERE rn = 1;
