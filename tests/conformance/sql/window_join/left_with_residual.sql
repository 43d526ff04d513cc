-- a further condition that is no equality, in a LEFT join
SELECT L.device, L.n, L.v, R.id, R.level, L.window_start
FROM (SELECT * FROM TABLE(TUMBLE(TABLE readings_all, DESCRIPTOR(ts), INTERVAL '10' SECOND))) AS L
LEFT JOIN (SELECT * FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND))) AS R
ON L.device = R.device AND L.window_start = R.window_start AND L.window_end = R.window_end AND R.level > L.v;
