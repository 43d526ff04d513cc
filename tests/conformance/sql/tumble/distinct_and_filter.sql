-- DISTINCT aggregates and FILTER in windows
SELECT window_start, COUNT(DISTINCT device) AS devices, SUM(DISTINCT n) AS distinct_n,
  COUNT(*) FILTER (WHERE v > 2) AS high, SUM(v) FILTER (WHERE site = 'x') AS x_only,
  COUNT(DISTINCT site) FILTER (WHERE v IS NOT NULL) AS sites
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY window_start, window_end;
