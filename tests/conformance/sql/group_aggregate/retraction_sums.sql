-- sums and averages over what is taken back
SELECT SUM(s) AS total, AVG(c) AS a, MIN(s) AS lo, COUNT(*) AS parts
FROM (SELECT device, COUNT(*) AS c, SUM(n) AS s FROM readings_plain WHERE n < 1000 GROUP BY device);
