-- GROUPING and GROUPING_ID tell a NULL of the data from one of the set
SELECT device, site, GROUPING(device) AS gd, GROUPING(site) AS gs, GROUPING_ID(device, site) AS id, window_start, COUNT(*) AS c
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, GROUPING SETS ((device, site), (device), ());
