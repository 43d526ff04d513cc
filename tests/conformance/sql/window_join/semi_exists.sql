-- EXISTS: rows with an event of their device in the same window
SELECT L.device, L.n, L.window_start
FROM (SELECT * FROM TABLE(TUMBLE(TABLE readings_all, DESCRIPTOR(ts), INTERVAL '10' SECOND))) AS L
WHERE EXISTS (
  SELECT * FROM (SELECT * FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND))) AS R
  WHERE L.device = R.device AND L.window_start = R.window_start AND L.window_end = R.window_end
);
