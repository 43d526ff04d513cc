-- Top-N over the aggregates of a window
SELECT device, c, s, window_end, rn
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY c DESC, s DESC) AS rn
  FROM (
    SELECT device, window_start, window_end, COUNT(*) AS c, SUM(v) AS s
    FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND))
    GROUP BY device, window_start, window_end
  )
)
WHERE rn <= 2;
