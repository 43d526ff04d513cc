-- sums of DECIMAL in windows
SELECT window_start, SUM(amount) AS s, AVG(amount) AS a, SUM(amount * qty) AS t, MIN(amount) AS lo
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '5' SECOND))
GROUP BY window_start, window_end;
