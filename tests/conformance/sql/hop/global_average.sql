-- averages of integers are integers, of doubles doubles
SELECT window_start, AVG(n) AS an, AVG(v) AS av, COUNT(n) AS c
FROM TABLE(HOP(TABLE readings_in_order, DESCRIPTOR(ts), INTERVAL '4' SECOND, INTERVAL '8' SECOND))
GROUP BY window_start, window_end;
