-- over a count that falls: those behind move up
SELECT device, a, rn
FROM (
  SELECT *, ROW_NUMBER() OVER (ORDER BY a DESC, device) AS rn
  FROM (SELECT device, AVG(v) AS a FROM readings_plain WHERE v < 100 AND v > -100 GROUP BY device)
)
WHERE rn <= 2;
