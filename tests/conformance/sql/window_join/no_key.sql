-- on the window alone
SELECT L.device AS ld, R.device AS rd, L.window_end
FROM (SELECT * FROM TABLE(TUMBLE(TABLE readings_all, DESCRIPTOR(ts), INTERVAL '5' SECOND)) WHERE v > 5) AS L
JOIN (SELECT * FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '5' SECOND)) WHERE kind = 'alarm') AS R
ON L.window_start = R.window_start AND L.window_end = R.window_end;
