-- windows of days over hours that are quiet
SELECT window_start, window_end, COUNT(*) AS c, SUM(n) AS s, MAX(ts) AS latest
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' DAY))
GROUP BY window_start, window_end;
