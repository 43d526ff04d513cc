-- the last row per key by arrival
-- key: device
SELECT device, n, v
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY device ORDER BY pt DESC) AS rn FROM readings_plain WHERE n <> 18)
WHERE rn = 1;
