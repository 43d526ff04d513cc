-- windows that grow step by step and start anew
SELECT window_start, window_end, COUNT(*) AS c, SUM(v) AS s
FROM TABLE(CUMULATE(TABLE readings, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '20' SECOND))
GROUP BY window_start, window_end;
