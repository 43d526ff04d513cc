-- DISTINCT grows with the window
SELECT window_start, window_end, COUNT(DISTINCT device) AS d, COUNT(DISTINCT site) AS s
FROM TABLE(CUMULATE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '40' SECOND))
GROUP BY window_start, window_end;
