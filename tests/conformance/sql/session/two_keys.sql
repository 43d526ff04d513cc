-- sessions per two columns
SELECT device, site, window_start, window_end, COUNT(*) AS c
FROM TABLE(SESSION(TABLE readings PARTITION BY (device, site), DESCRIPTOR(ts), INTERVAL '8' SECOND))
GROUP BY device, site, window_start, window_end;
