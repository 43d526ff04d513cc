-- FIRST_VALUE and LAST_VALUE skip NULL and go by arrival
SELECT device, window_start, FIRST_VALUE(v) AS f, LAST_VALUE(v) AS l, FIRST_VALUE(n) AS fn, LAST_VALUE(site) AS ls
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY device, window_start, window_end;
