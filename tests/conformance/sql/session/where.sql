-- a filter before the sessions changes them
CREATE VIEW big_readings AS SELECT * FROM readings WHERE v > 1;
SELECT device, window_start, window_end, COUNT(*) AS c
FROM TABLE(SESSION(TABLE big_readings PARTITION BY device, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY device, window_start, window_end;
