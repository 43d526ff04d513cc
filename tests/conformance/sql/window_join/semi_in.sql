-- IN with the window's columns beside it
SELECT L.device, L.n, L.window_start
FROM (SELECT * FROM TABLE(TUMBLE(TABLE readings_all, DESCRIPTOR(ts), INTERVAL '10' SECOND))) AS L
WHERE L.device IN (
  SELECT R.device FROM (SELECT * FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND))) AS R
  WHERE L.window_start = R.window_start AND L.window_end = R.window_end
);
