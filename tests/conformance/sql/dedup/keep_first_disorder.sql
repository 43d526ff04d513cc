-- the first row by event time where an earlier one comes later: it replaces
-- key: device
SELECT device, n, ts
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY device ORDER BY ts ASC) AS rn FROM readings)
WHERE rn = 1;
