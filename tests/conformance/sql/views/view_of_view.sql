-- views upon views, with names of columns of their own
CREATE VIEW a (d, w, t) AS SELECT device, v * 2, ts FROM readings;
CREATE VIEW b AS SELECT d, w, t FROM a WHERE w > 5;
SELECT d, window_end, SUM(w) AS s FROM TABLE(TUMBLE(TABLE b, DESCRIPTOR(t), INTERVAL '10' SECOND))
GROUP BY d, window_start, window_end;
