-- FULL join of two streams per device and window
SELECT L.device, L.n, R.id, R.kind, COALESCE(L.window_start, R.window_start) AS ws, L.window_end AS we
FROM (SELECT * FROM TABLE(TUMBLE(TABLE readings_all, DESCRIPTOR(ts), INTERVAL '10' SECOND))) AS L
FULL JOIN (SELECT * FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND))) AS R
ON L.device = R.device AND L.window_start = R.window_start AND L.window_end = R.window_end;
