-- windows of different sizes: no window join but a regular one, which finds nothing here
SELECT L.device FROM (SELECT * FROM TABLE(TUMBLE(TABLE readings_all, DESCRIPTOR(ts), INTERVAL '10' SECOND))) AS L
JOIN (SELECT * FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '5' SECOND))) AS R
ON L.device = R.device AND L.window_start = R.window_start AND L.window_end = R.window_end;
