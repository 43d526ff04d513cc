-- a gap of hours: all rows in one session per device, the late ones too, as it is still open
SELECT device, window_start, window_end, COUNT(*) AS c, SUM(n) AS s
FROM TABLE(SESSION(TABLE readings PARTITION BY device, DESCRIPTOR(ts), INTERVAL '4' HOUR))
GROUP BY device, window_start, window_end;
