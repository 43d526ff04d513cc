-- the window in GROUP BY alone
SELECT COUNT(*) AS c, MIN(v) AS lo
FROM readings
GROUP BY TUMBLE(ts, INTERVAL '20' SECOND);
