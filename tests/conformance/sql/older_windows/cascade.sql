-- an older window over the rowtime of another
SELECT TUMBLE_START(rt, INTERVAL '30' SECOND) AS ws, SUM(c) AS c, COUNT(*) AS windows
FROM (
  SELECT device, TUMBLE_ROWTIME(ts, INTERVAL '10' SECOND) AS rt, COUNT(*) AS c
  FROM readings GROUP BY device, TUMBLE(ts, INTERVAL '10' SECOND)
)
GROUP BY TUMBLE(rt, INTERVAL '30' SECOND);
