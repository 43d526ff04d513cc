-- windows of hours over the change to summer time
SET 'table.local-time-zone' = 'America/New_York';
SELECT window_start, window_end, COUNT(*) AS c
FROM TABLE(HOP(TABLE instants, DESCRIPTOR(ts), INTERVAL '1' HOUR, INTERVAL '2' HOUR))
GROUP BY window_start, window_end;
