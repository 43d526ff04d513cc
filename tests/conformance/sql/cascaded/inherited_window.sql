-- an aggregate over an aggregate of the same window
SELECT window_start, window_end, COUNT(*) AS devices, MAX(c) AS most, SUM(s) AS s
FROM (
  SELECT device, window_start, window_end, COUNT(*) AS c, SUM(v) AS s
  FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND))
  GROUP BY device, window_start, window_end
)
GROUP BY window_start, window_end;
