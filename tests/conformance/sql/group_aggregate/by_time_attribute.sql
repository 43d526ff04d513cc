-- event time as a key, without a window; late rows count
-- key: ts
SELECT ts, COUNT(*) AS c, MIN(device) AS d FROM readings GROUP BY ts;
