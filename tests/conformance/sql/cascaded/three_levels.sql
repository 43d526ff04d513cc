-- three levels, the last one by site
CREATE VIEW a AS
SELECT device, site, window_time AS t1, SUM(n) AS s
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '2' SECOND))
WHERE n < 1000
GROUP BY device, site, window_start, window_end, window_time;
CREATE VIEW b AS
SELECT site, window_time AS t2, SUM(s) AS s, COUNT(*) AS c
FROM TABLE(TUMBLE(TABLE a, DESCRIPTOR(t1), INTERVAL '10' SECOND))
GROUP BY site, window_start, window_end, window_time;
SELECT window_start, window_end, SUM(s) AS s, SUM(c) AS c
FROM TABLE(TUMBLE(TABLE b, DESCRIPTOR(t2), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end;
