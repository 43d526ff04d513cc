-- the last row per key by event time; an older one changes nothing
-- key: device
SELECT device, n, v, ts
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY device ORDER BY ts DESC) AS rn FROM readings)
WHERE rn = 1;
