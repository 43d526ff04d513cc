-- two streams of the same columns, one after the other or mixed
SELECT device, n AS x, ts FROM readings_all UNION ALL SELECT device, level, ts FROM events;
