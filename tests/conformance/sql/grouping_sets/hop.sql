-- GROUPING SETS over HOP, with FILTER and DISTINCT
SELECT site, window_start, window_end, COUNT(DISTINCT device) AS d, COUNT(*) FILTER (WHERE v > 1) AS c
FROM TABLE(HOP(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '20' SECOND))
GROUP BY window_start, window_end, GROUPING SETS ((site), ());
