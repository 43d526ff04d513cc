-- windows of days in a zone, over the change to summer time: windows are of local days
SET 'table.local-time-zone' = 'Europe/Berlin';
SELECT window_start, window_end, window_time, COUNT(*) AS c, SUM(n) AS s
FROM TABLE(TUMBLE(TABLE instants, DESCRIPTOR(ts), INTERVAL '1' DAY))
GROUP BY window_start, window_end, window_time;
