-- several aggregates, NULLs skipped
-- key: device
SELECT device, COUNT(v) AS cv, SUM(v) AS s, AVG(v) AS a, MIN(v) AS lo, MAX(v) AS hi
FROM readings_plain GROUP BY device;
