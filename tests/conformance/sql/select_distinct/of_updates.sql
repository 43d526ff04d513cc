-- over updating rows: a value may go
SELECT DISTINCT c FROM (SELECT device, COUNT(*) AS c FROM readings_plain GROUP BY device);
