-- arrays over time stand in the order of event time where rows come in it, NULLs included
SELECT device, window_start, ARRAY_AGG(v) AS vs
FROM TABLE(TUMBLE(TABLE readings_in_order, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY device, window_start, window_end;
