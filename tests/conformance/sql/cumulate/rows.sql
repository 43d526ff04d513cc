-- the window function alone: a row is in all later steps of its window
SELECT device, n, window_start, window_end
FROM TABLE(CUMULATE(TABLE readings, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '15' SECOND))
WHERE device = 'c';
