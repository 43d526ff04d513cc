-- FILTER and a HAVING that drops windows
SELECT device, window_end, COUNT(*) FILTER (WHERE v >= 2) AS high, MIN(v) AS lo
FROM TABLE(HOP(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '30' SECOND))
GROUP BY device, window_start, window_end
HAVING MIN(v) < 5;
