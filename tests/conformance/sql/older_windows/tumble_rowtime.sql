-- TUMBLE_ROWTIME is a time attribute, a millisecond before the end
SELECT TUMBLE_ROWTIME(ts, INTERVAL '10' SECOND) AS rt, COUNT(*) AS c
FROM readings
GROUP BY TUMBLE(ts, INTERVAL '10' SECOND);
